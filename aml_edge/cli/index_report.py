"""What `aml-edge index` says of an index, however it came about."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from aml_edge.cli.index_approximate import print_approximate
from aml_edge.preprocessing import Preprocessing
from aml_edge.printable import printable
from aml_edge.scales import Scales, describe_scales
from aml_edge.space import EmbeddingSpace

if TYPE_CHECKING:
    from aml_edge.approximate.record import ApproximateRecord
    from aml_edge.index import TeacherIndex
    from aml_edge.index.import_record import ImportRecord


@dataclass(frozen=True)
class IndexReport:
    """What an index is.

    Args:
        path: its folder.
        space, fingerprint: what its embeddings live in.
        count, dimension, dtype: of the embeddings.
        first_id, last_id: of the images.
        size_bytes: of all files.
        preprocessing: of the teacher's images.
        scales: at which the teacher saw each of them.
        median_pair_distance: of at most 512 rows, 1 − cosine; nearly 0 where the teacher tells nothing apart.
        skipped: ids of images that could not be read.
        imported: where its rows came from, where they were not embedded here.
        approximate: the approximate indexes that lie beside its rows.
    """

    path: Path
    space: EmbeddingSpace
    fingerprint: str
    count: int
    dimension: int
    dtype: str
    first_id: str
    last_id: str
    size_bytes: int
    preprocessing: Preprocessing
    scales: Scales
    median_pair_distance: float
    skipped: tuple[str, ...]
    imported: ImportRecord | None
    approximate: tuple[ApproximateRecord, ...]


def report_of(index: TeacherIndex) -> IndexReport:
    """Returns what there is to say of an opened index; reads 512 of its rows at most."""
    from aml_edge.approximate.record import read_records
    from aml_edge.exporters.agreement import evenly_spaced, median_pair_distance

    sample = index.embeddings[evenly_spaced(len(index.ids), 512)].astype("float32", copy=False)
    return IndexReport(
        path=index.path,
        space=index.space,
        fingerprint=index.space.fingerprint,
        count=len(index.ids),
        dimension=index.space.dimension,
        dtype=str(index.embeddings.dtype),
        first_id=index.ids[0],
        last_id=index.ids[-1],
        size_bytes=index.size_bytes,
        preprocessing=index.preprocessing,
        scales=index.scales,
        median_pair_distance=median_pair_distance(sample),
        skipped=index.skipped,
        imported=index.imported,
        approximate=read_records(index.path),
    )


def print_report(report: IndexReport, console: Console) -> None:
    """Prints what an index is."""
    distance = report.median_pair_distance
    console.print(f"[bold]{escape(str(report.path))}[/]", soft_wrap=True)
    for name, value in (
        ("space", report.space.describe()),
        ("fingerprint", report.fingerprint),
        ("embeddings", f"{report.count} × {report.dimension} {report.dtype}, {report.size_bytes / 1e6:.1f} MB"),
        ("ids", printable(f"{report.first_id} … {report.last_id}")),
        ("images", f"{report.preprocessing.image_side_px} px, {report.preprocessing.fit} fit"),
        ("scales", describe_scales(report.scales)),
        ("pair distance", "–" if math.isnan(distance) else f"{distance:.3f} (median of 1 − cosine)"),
    ):
        console.print(f"{name:<13}  {escape(value)}", soft_wrap=True)
    for record in report.approximate:
        print_approximate(record, console)
    if report.imported is not None:
        _print_import(report.imported, report.space.teacher, console)
    if report.skipped:
        console.print(
            f"[yellow]{len(report.skipped)} images could not be read, or hold nothing that the network finds, and were "
            "left out:[/]",
            soft_wrap=True,
        )
        for one in report.skipped:
            console.print(f"  {escape(one)}", soft_wrap=True)


def _print_import(record: ImportRecord, teacher: str, console: Console) -> None:
    sha256 = "" if record.sha256 is None else f", SHA-256 {record.sha256[:8]}"
    how = f", {record.dtype}{', normalised' if record.normalised else ''}"
    console.print(f"{'imported':<13}  {escape(record.name)}: {escape(record.source)}{how}{sha256}", soft_wrap=True)
    if record.approximate:
        console.print("[yellow]its rows are approximations:[/] the source does not keep what was added", soft_wrap=True)
    if record.check is None:
        said = f"that its rows are embeddings of {teacher} is taken on trust; `index import --images` checks it"
        console.print(f"[yellow]not checked:[/] {escape(said)}", soft_wrap=True)
        return
    check = record.check
    cosines = f"lowest cosine {check.lowest_cosine:.5f}, median {check.median_cosine:.5f}"
    console.print(f"{'checked':<13}  {check.images} images embedded again: {cosines}", soft_wrap=True)
