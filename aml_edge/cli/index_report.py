"""What `aml-edge index` says of an index, however it came about."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from aml_edge.preprocessing import Preprocessing
from aml_edge.scales import Scales, describe_scales
from aml_edge.space import EmbeddingSpace

if TYPE_CHECKING:
    from aml_edge.index import TeacherIndex


@dataclass(frozen=True)
class IndexReport:
    """What an index is.

    Args:
        path: its folder.
        space, fingerprint: what its embeddings live in.
        count, dimension, dtype: of the embeddings.
        size_bytes: of all files.
        preprocessing: of the teacher's images.
        scales: at which the teacher saw each of them.
        median_pair_distance: of at most 512 rows, 1 − cosine; nearly 0 where the teacher tells nothing apart.
        skipped: ids of images that could not be read.
    """

    path: Path
    space: EmbeddingSpace
    fingerprint: str
    count: int
    dimension: int
    dtype: str
    size_bytes: int
    preprocessing: Preprocessing
    scales: Scales
    median_pair_distance: float
    skipped: tuple[str, ...]


def report_of(index: TeacherIndex) -> IndexReport:
    """Returns what there is to say of an opened index; reads 512 of its rows at most."""
    from aml_edge.exporters.agreement import evenly_spaced, median_pair_distance

    sample = index.embeddings[evenly_spaced(len(index.ids), 512)].astype("float32", copy=False)
    return IndexReport(
        path=index.path,
        space=index.space,
        fingerprint=index.space.fingerprint,
        count=len(index.ids),
        dimension=index.space.dimension,
        dtype=str(index.embeddings.dtype),
        size_bytes=index.size_bytes,
        preprocessing=index.preprocessing,
        scales=index.scales,
        median_pair_distance=median_pair_distance(sample),
        skipped=index.skipped,
    )


def print_report(report: IndexReport, console: Console) -> None:
    """Prints what an index is."""
    distance = report.median_pair_distance
    console.print(f"[bold]{escape(str(report.path))}[/]", soft_wrap=True)
    for name, value in (
        ("space", report.space.describe()),
        ("fingerprint", report.fingerprint),
        ("embeddings", f"{report.count} × {report.dimension} {report.dtype}, {report.size_bytes / 1e6:.1f} MB"),
        ("images", f"{report.preprocessing.image_side_px} px, {report.preprocessing.fit} fit"),
        ("scales", describe_scales(report.scales)),
        ("pair distance", "–" if math.isnan(distance) else f"{distance:.3f} (median of 1 − cosine)"),
    ):
        console.print(f"{name:<13}  {escape(value)}", soft_wrap=True)
    if report.skipped:
        console.print(f"[yellow]{len(report.skipped)} images could not be read and were left out:[/]")
        for one in report.skipped:
            console.print(f"  {escape(one)}", soft_wrap=True)
