"""`VerificationImages`: the image files that a verification looks at, with what is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from aml_edge.datasets.image_source import image_source
from aml_edge.datasets.retrieval_dataset import RetrievalDataset
from aml_edge.errors import ImageBatchError, UsageError
from aml_edge.exporters.agreement import evenly_spaced
from aml_edge.image_loading import ImageItem, UnreadableImage, load_each
from aml_edge.preprocessing import Preprocessing
from aml_edge.progress import Progress, SilentProgress
from aml_edge.ranking import QueryGroundTruth

FEWEST_DISTINCT_IMAGES = 16
"""Fewer give no first percentile and no idea of how embeddings of different images differ."""
DEFAULT_MOST_IMAGES = 128
"""Beside the queries: enough for a first percentile, and some ten seconds of a phone-sized student."""

WORKERS = 2

T = TypeVar("T")


@dataclass(frozen=True)
class VerificationImages:
    """Files only: pixels made up in memory prove nothing, so there is no way to hand them in.

    Args:
        source: what they are, in words, for a report.
        queries: the images that `ground_truth` is about, boxes included.
        others: more images.
        other_ids: what the teacher's index would call each of `others`.
        ground_truth: one a query, in rows of `database_ids`; empty where none is known.
        database_ids: the images that queries are evaluated against.
        unreadable: (file, reason) of images that were left out because the caller said so.
    """

    source: str
    queries: tuple[ImageItem, ...] = ()
    others: tuple[ImageItem, ...] = ()
    other_ids: tuple[str, ...] = ()
    ground_truth: Sequence[QueryGroundTruth] = ()
    database_ids: tuple[str, ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        assert len(self.other_ids) == len(self.others)
        assert len(self.ground_truth) == len(self.queries)

    @property
    def items(self) -> tuple[ImageItem, ...]:
        """The queries, then the others."""
        return self.queries + self.others


def images_of_dataset(dataset: RetrievalDataset, most_images: int = DEFAULT_MOST_IMAGES) -> VerificationImages:
    """Returns all queries of a data set and at most `most_images` evenly taken of its database."""
    queries = len(dataset.query_items)
    taken = evenly_spaced(len(dataset.database_items), _enough(most_images, queries))
    return VerificationImages(
        source=dataset.name,
        queries=dataset.query_items,
        others=tuple(dataset.database_items[row] for row in taken),
        other_ids=tuple(dataset.database_ids[row] for row in taken),
        ground_truth=dataset.ground_truth,
        database_ids=dataset.database_ids,
    )


def images_of_folder(root: Path, most_images: int = DEFAULT_MOST_IMAGES) -> VerificationImages:
    """Returns at most `most_images` evenly taken of the images that a folder stands for, with ids as an index has."""
    source = image_source(root)
    taken = evenly_spaced(len(source.ids), _enough(most_images, 0))
    return VerificationImages(
        source=str(root),
        others=tuple(source.items[row] for row in taken),
        other_ids=tuple(source.ids[row] for row in taken),
    )


def without_unreadable(images: VerificationImages, progress: Progress | None = None) -> VerificationImages:
    """Returns the images without those whose files cannot be read, which it names; every file is read for it."""
    unreadable: dict[int, UnreadableImage] = {}
    with (progress or SilentProgress()).task("reading images", len(images.items)) as task:
        for result in load_each(images.items, Preprocessing(), workers=WORKERS):
            if isinstance(result, UnreadableImage):
                unreadable[result.place] = result
            task.advance()
    readable = [place for place in range(len(images.items)) if place not in unreadable]
    queries = [place for place in readable if place < len(images.queries)]
    others = [place - len(images.queries) for place in readable if place >= len(images.queries)]
    return replace(
        images,
        queries=_taken(images.queries, queries),
        ground_truth=_taken(images.ground_truth, queries),
        others=_taken(images.others, others),
        other_ids=_taken(images.other_ids, others),
        unreadable=tuple((str(one.path), one.reason) for one in unreadable.values()),
    )


def require_readable(images: VerificationImages, progress: Progress | None = None) -> None:
    """Raises `ImageBatchError` that lists the images whose files cannot be read; every file is read for it."""
    unreadable = without_unreadable(images, progress).unreadable
    if unreadable:
        failures = [(Path(path), reason) for path, reason in unreadable]
        raise ImageBatchError(failures, len(images.items), skippable=True)


def _taken(values: Sequence[T], places: Sequence[int]) -> tuple[T, ...]:
    return tuple(values[place] for place in places)


def _enough(most_images: int, queries: int) -> int:
    """Returns a number of images that can prove something beside so many queries."""
    least = max(1, FEWEST_DISTINCT_IMAGES - queries)
    if most_images < least:
        beside = f" beside the {queries} queries of the data set" if queries else ""
        raise UsageError(
            f"`max_images` is {most_images}; a verification takes at least {FEWEST_DISTINCT_IMAGES} images, so give "
            f"{least} or more{beside}, or leave it out."
        )
    return most_images
