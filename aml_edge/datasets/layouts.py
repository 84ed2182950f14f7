"""The published layouts of data sets: how each is recognised and read, and which a folder has.

A data set has a side to train on, one to test on, or both. Another layout is another entry of `LAYOUTS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path

from aml_edge.datasets.birds import bird_files, read_bird_test, read_bird_training
from aml_edge.datasets.distractors import distractor_files, read_distractors
from aml_edge.datasets.image_split import ImageSplit
from aml_edge.datasets.instre import instre_files, read_instre
from aml_edge.datasets.labelled_images import NamedSplit
from aml_edge.datasets.landmarks import Usage, landmark_files, read_landmark_test, read_landmark_training
from aml_edge.datasets.products import product_files, read_product_test, read_product_training
from aml_edge.datasets.retrieval_dataset import RetrievalDataset
from aml_edge.datasets.revisited import ground_truth_files, read_revisited_folder
from aml_edge.datasets.sfm import read_sfm_folder, sfm_files
from aml_edge.errors import DatasetError

Find = Callable[[Path], tuple[Path, ...]]
"""Returns the metadata of one side in a folder, found by name; none where it does not have that side."""


class DatasetKind(StrEnum):
    """How a data set is laid out."""

    REVISITED = "revisited"
    SFM = "SfM"
    DISTRACTORS = "revisitop1m"
    INSTRE = "INSTRE"
    LANDMARKS = "Google Landmarks v2"
    PRODUCTS = "Stanford Online Products"
    BIRDS = "CUB-200-2011"
    CLASSES = "folder of classes"
    FOLDER = "folder"


@dataclass(frozen=True)
class TrainingSide:
    """Images to train on.

    Args:
        find: their metadata.
        read: the splits in a folder; whether their images are there is not looked at.
        holds_out: whether classes of the only split are to be validated on, since none is published for that.
    """

    find: Find
    read: Callable[[Path], tuple[NamedSplit, ...]]
    holds_out: bool = False


@dataclass(frozen=True)
class TestingSide:
    """Images to test on.

    Args:
        find: their metadata.
        read: the test set in a folder; whether its images are there is not looked at.
        subsets: readers of parts of its queries that are published apart, by name.
    """

    find: Find
    read: Callable[[Path], RetrievalDataset]
    subsets: Mapping[str, Callable[[Path], RetrievalDataset]] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """A published layout.

    Args:
        kind: its name.
        known_by: what a folder must hold to be of it, in words.
        training, testing: its sides, as far as it has them.
    """

    kind: DatasetKind
    known_by: str
    training: TrainingSide | None = None
    testing: TestingSide | None = None

    def metadata(self, root: Path) -> tuple[Path, ...]:
        """Returns the metadata of this layout in a folder; none where the folder does not have it."""
        found = [path for side in (self.testing, self.training) if side is not None for path in side.find(root)]
        return tuple(dict.fromkeys(found))

    def splits(self, root: Path) -> tuple[ImageSplit, ...]:
        """Returns the sides that a folder of this layout has."""
        sides = {ImageSplit.TRAIN: self.training, ImageSplit.TEST: self.testing}
        return tuple(split for split, side in sides.items() if side is not None and side.find(root))


_product_lists = {split: partial(product_files, split=split) for split in ImageSplit}
_landmark_lists = {split: partial(landmark_files, split=split) for split in ImageSplit}

LAYOUTS: Mapping[DatasetKind, Layout] = {
    DatasetKind.REVISITED: Layout(
        DatasetKind.REVISITED, "gnd_NAME.pkl", testing=TestingSide(ground_truth_files, read_revisited_folder)
    ),
    DatasetKind.SFM: Layout(DatasetKind.SFM, "NAME.pkl and ims/", TrainingSide(sfm_files, read_sfm_folder)),
    DatasetKind.DISTRACTORS: Layout(
        DatasetKind.DISTRACTORS, "revisitop1m.txt", TrainingSide(distractor_files, read_distractors)
    ),
    DatasetKind.INSTRE: Layout(DatasetKind.INSTRE, "gnd_instre.mat", testing=TestingSide(instre_files, read_instre)),
    DatasetKind.LANDMARKS: Layout(
        DatasetKind.LANDMARKS,
        "train_clean.csv and train/, or retrieval_solution_v2.1.csv and test/",
        TrainingSide(_landmark_lists[ImageSplit.TRAIN], read_landmark_training, holds_out=True),
        TestingSide(
            _landmark_lists[ImageSplit.TEST],
            read_landmark_test,
            {usage.lower(): partial(read_landmark_test, usages=(usage,)) for usage in Usage},
        ),
    ),
    DatasetKind.PRODUCTS: Layout(
        DatasetKind.PRODUCTS,
        "Ebay_train.txt or Ebay_test.txt",
        TrainingSide(_product_lists[ImageSplit.TRAIN], read_product_training, holds_out=True),
        TestingSide(_product_lists[ImageSplit.TEST], read_product_test),
    ),
    DatasetKind.BIRDS: Layout(
        DatasetKind.BIRDS,
        "images.txt, image_class_labels.txt and images/",
        TrainingSide(bird_files, read_bird_training, holds_out=True),
        TestingSide(bird_files, read_bird_test),
    ),
}


def find_layout(root: Path) -> Layout | None:
    """Returns the layout of a folder, its metadata unread; None where it has none that is known.

    Raises:
        DatasetError: it holds the metadata of several data sets.
    """
    found = {layout.kind: layout.metadata(root) for layout in LAYOUTS.values()}
    there = [kind for kind, files in found.items() if files]
    if len(there) > 1:
        named = ", ".join(path.name for files in found.values() for path in files)
        raise DatasetError(f"{root} holds the metadata of several data sets ({named}); move all but one away.")
    return LAYOUTS[there[0]] if there else None
