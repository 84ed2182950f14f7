"""`print_description`: what a data set holds, as a table, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aml_edge.protocol import Protocol

if TYPE_CHECKING:
    from aml_edge.datasets.description import DatasetDescription, GroundTruthCounts, SplitCounts, Spread


def print_description(description: DatasetDescription, console: Console) -> None:
    """Prints name and folder, a table of what is there, and each problem in a line."""
    images = description.images
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("layout", str(description.kind))
    table.add_row("images", f"{images.count}, {images.size_bytes / 1e6:.1f} MB")
    if images.smallest and images.largest:
        common = ", ".join(f"{width}×{height} ({count})" for (width, height), count in images.common)
        smallest, largest = ("×".join(map(str, size)) for size in (images.smallest, images.largest))
        table.add_row("sizes", f"{common}; from {smallest} to {largest} px")
    if description.ground_truth:
        for label, words in _truth_rows(description.ground_truth):
            table.add_row(label, words)
    for split in description.splits:
        table.add_row(split.split, _split_in_words(split))
    console.print(f"[bold]{escape(description.name)}[/]  {escape(str(description.root))}", soft_wrap=True)
    console.print(table)
    for problem in description.problems:
        console.print(f"[yellow]{escape(problem)}[/]", soft_wrap=True)
    if not description.problems:
        console.print("nothing wrong was found")


def _truth_rows(truth: GroundTruthCounts) -> Iterator[tuple[str, str]]:
    if truth.classes is None:
        yield "queries", str(truth.queries)
        yield "database", f"{truth.database}, of which {truth.distractors} answer no query"
    else:
        yield "queries", f"{truth.queries} images of {truth.classes} classes, each asks all others"
    if truth.protocol is Protocol.REVISITED:
        spreads = [("easy", truth.easy), ("hard", truth.hard), ("junk", truth.junk)]
    else:
        spreads = [("positives", truth.easy)]
    for label, spread in spreads:
        yield label, f"{_in_words(spread)} a query, {spread.total} in all"
    yield "measures", _MEASURES[truth.protocol]


_MEASURES = {
    Protocol.REVISITED: "mAP and mP@k, easy, medium and hard",
    Protocol.INSTANCES: "mAP",
    Protocol.LANDMARKS: "mAP@100",
    Protocol.METRIC_LEARNING: "recall@k and MAP@R",
}


def _split_in_words(split: SplitCounts) -> str:
    if not split.clusters:
        return f"{split.images} images, without labels"
    clusters = "1 cluster" if split.clusters == 1 else f"{split.clusters} clusters"
    return f"{split.images} images of {clusters} ({_in_words(split.cluster_images)} each), {split.pairs} pairs"


def _in_words(spread: Spread) -> str:
    if spread.least == spread.most:
        return str(spread.least)
    return f"{spread.least} to {spread.most} (median {spread.median:g})"
