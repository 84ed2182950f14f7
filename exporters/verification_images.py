"""`VerificationImages`: the image files that a verification looks at, with what is known of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aml_edge.datasets.folder import list_images
from aml_edge.datasets.revisited import RevisitedDataset
from aml_edge.errors import UsageError
from aml_edge.exporters.agreement import evenly_spaced
from aml_edge.image_loading import ImageItem
from aml_edge.ranking import QueryGroundTruth

DEFAULT_MOST_IMAGES = 128
"""Beside the queries: enough for a first percentile, and some ten seconds of a phone-sized student."""


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
    """

    source: str
    queries: tuple[ImageItem, ...] = ()
    others: tuple[ImageItem, ...] = ()
    other_ids: tuple[str, ...] = ()
    ground_truth: tuple[QueryGroundTruth, ...] = ()
    database_ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert len(self.other_ids) == len(self.others)
        assert len(self.ground_truth) == len(self.queries)

    @property
    def items(self) -> tuple[ImageItem, ...]:
        """The queries, then the others."""
        return self.queries + self.others


def images_of_dataset(dataset: RevisitedDataset, most_images: int = DEFAULT_MOST_IMAGES) -> VerificationImages:
    """Returns all queries of a data set and at most `most_images` evenly taken of its database."""
    taken = evenly_spaced(len(dataset.database_items), _positive(most_images))
    return VerificationImages(
        source=dataset.name,
        queries=dataset.query_items,
        others=tuple(dataset.database_items[row] for row in taken),
        other_ids=tuple(dataset.database_ids[row] for row in taken),
        ground_truth=dataset.ground_truth,
        database_ids=dataset.database_ids,
    )


def images_of_folder(root: Path, most_images: int = DEFAULT_MOST_IMAGES) -> VerificationImages:
    """Returns at most `most_images` evenly taken of the image files below a folder."""
    ids = list_images(root)
    taken = tuple(ids[row] for row in evenly_spaced(len(ids), _positive(most_images)))
    return VerificationImages(source=str(root), others=tuple(ImageItem(root / one) for one in taken), other_ids=taken)


def _positive(most_images: int) -> int:
    if most_images < 1:
        raise UsageError(f"`max_images` is {most_images}; a verification needs images, 16 at least.")
    return most_images
