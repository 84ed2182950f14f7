"""`DatasetDescription`: what a data set is and what is wrong with it, in counts and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aml_edge.datasets.layouts import DatasetKind
from aml_edge.protocol import Protocol

Size = tuple[int, int]


@dataclass(frozen=True)
class Spread:
    """How many there are of something, one count each: a query's easy images, a cluster's images."""

    least: int
    median: float
    most: int
    total: int


@dataclass(frozen=True)
class ImageCounts:
    """The image files of a data set.

    Args:
        count: files that the data set names.
        size_bytes: of those that are there.
        smallest, largest: width and height, px, by area; None where no image can be read.
        common: the most frequent sizes with their counts.
    """

    count: int
    size_bytes: int
    smallest: Size | None
    largest: Size | None
    common: tuple[tuple[Size, int], ...]


@dataclass(frozen=True)
class GroundTruthCounts:
    """A test set's queries and answers.

    Args:
        queries, database: images.
        easy, hard, junk: of a query; where the protocol has no settings, positives are easy.
        distractors: database images that are no query's answer.
        protocol: how answers are judged.
        classes: where each image asks all others.
    """

    queries: int
    database: int
    easy: Spread
    hard: Spread
    junk: Spread
    distractors: int
    protocol: Protocol = Protocol.REVISITED
    classes: int | None = None


@dataclass(frozen=True)
class SplitCounts:
    """A split of a training set; no clusters and pairs where it does not say which images match."""

    split: str
    images: int
    clusters: int
    cluster_images: Spread
    pairs: int


@dataclass(frozen=True)
class DatasetDescription:
    """What a data set is.

    Args:
        root: its folder.
        name: what it calls itself.
        kind: its layout.
        images: all of them, the queries included.
        ground_truth: of a test set.
        splits: of a training set.
        problems: what is wrong, each in one sentence; empty where nothing was found.
    """

    root: Path
    name: str
    kind: DatasetKind
    images: ImageCounts
    ground_truth: GroundTruthCounts | None
    splits: tuple[SplitCounts, ...]
    problems: tuple[str, ...]


def spread_of(counts: Sequence[int]) -> Spread:
    """Returns the spread of some counts; all zero where there are none."""
    if not counts:
        return Spread(0, 0.0, 0, 0)
    ordered, middle = sorted(counts), len(counts) // 2
    median = float(ordered[middle]) if len(counts) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return Spread(ordered[0], median, ordered[-1], sum(ordered))
