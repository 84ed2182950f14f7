"""`ClassList`: images of one split that each belong to a class, as a data set lists them, and what is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aml_edge.datasets.image_classes import ClassGroundTruth, labels_of_classes
from aml_edge.datasets.labelled_images import LabelledImages
from aml_edge.datasets.metadata import require_distinct, stays_inside
from aml_edge.datasets.retrieval_dataset import RetrievalDataset
from aml_edge.errors import DatasetError
from aml_edge.image_loading import ImageItem
from aml_edge.protocol import RECALL_AT, Protocol


@dataclass(frozen=True)
class ClassList:
    """Images with their classes.

    Args:
        root: the folder.
        ids: N paths relative to it.
        classes: of each image, a number.
    """

    root: Path
    ids: tuple[str, ...]
    classes: tuple[int, ...]

    @property
    def items(self) -> tuple[ImageItem, ...]:
        """The images, whole."""
        return tuple(ImageItem(self.root / one) for one in self.ids)

    def training_images(self) -> LabelledImages:
        """Returns the images with pairs to train on."""
        return LabelledImages(self.ids, self.items, labels_of_classes(self.classes))

    def test_set(self, name: str, recall_at: tuple[int, ...] = RECALL_AT) -> RetrievalDataset:
        """Returns the test set in which each image asks all others.

        Args:
            name: of the data set.
            recall_at: cut-offs that its results are published at.
        """
        items = self.items
        return RetrievalDataset(
            name=name,
            root=self.root,
            query_items=items,
            database_items=items,
            database_ids=self.ids,
            ground_truth=ClassGroundTruth(self.classes),
            protocol=Protocol.METRIC_LEARNING,
            recall_at=recall_at,
        )


def class_list_of(path: Path, ids: Sequence[str], classes: Sequence[int]) -> ClassList:
    """Returns what a file lists, relative to its folder.

    Raises:
        DatasetError: there is nothing, a name leaves the folder, or occurs twice.
    """
    if not ids:
        raise DatasetError(f"{path} names no images of this split; get it again.")
    outside = [one for one in ids if not stays_inside(one)]
    if outside:
        raise DatasetError(
            f"{path} names an image {outside[0][:100]!a}, which cannot be the name of a file in the data set."
        )
    require_distinct(tuple(ids), str(path))
    return ClassList(path.parent, tuple(ids), tuple(classes))
