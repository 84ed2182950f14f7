"""`image_source`: which images a folder stands for where a command takes `--images DIR`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from aml_edge.datasets.dataset_folders import require_no_datasets
from aml_edge.datasets.folder import IMAGE_SUFFIXES, list_images
from aml_edge.datasets.image_files import require_files
from aml_edge.datasets.image_split import ImageSplit
from aml_edge.datasets.labelled_images import NamedSplit
from aml_edge.datasets.layouts import DatasetKind, Layout, find_layout
from aml_edge.errors import DatasetError, UsageError
from aml_edge.image_loading import ImageItem
from aml_edge.progress import Progress


class ImageSourceKind(StrEnum):
    """What a folder of images turned out to be, in words for a report."""

    REVISITED = "database of a revisited data set"
    SFM = "training and validation images of an SfM data set"
    DISTRACTORS = "distractors of revisitop1m"
    INSTRE = "database of INSTRE"
    LANDMARKS_INDEX = "index images of Google Landmarks v2"
    LANDMARKS_TRAINING = "clean training images of Google Landmarks v2"
    PRODUCTS_TEST = "test images of Stanford Online Products"
    PRODUCTS_TRAINING = "training images of Stanford Online Products"
    BIRDS_TEST = "test images of CUB-200-2011"
    BIRDS_TRAINING = "training images of CUB-200-2011"
    FOLDER = "image files of a folder"
    OBJECTS = "image files of an object store"
    TABLE = "rows of a Parquet table"


KINDS: Mapping[tuple[DatasetKind, ImageSplit], ImageSourceKind] = {
    (DatasetKind.REVISITED, ImageSplit.TEST): ImageSourceKind.REVISITED,
    (DatasetKind.SFM, ImageSplit.TRAIN): ImageSourceKind.SFM,
    (DatasetKind.DISTRACTORS, ImageSplit.TRAIN): ImageSourceKind.DISTRACTORS,
    (DatasetKind.INSTRE, ImageSplit.TEST): ImageSourceKind.INSTRE,
    (DatasetKind.LANDMARKS, ImageSplit.TEST): ImageSourceKind.LANDMARKS_INDEX,
    (DatasetKind.LANDMARKS, ImageSplit.TRAIN): ImageSourceKind.LANDMARKS_TRAINING,
    (DatasetKind.PRODUCTS, ImageSplit.TEST): ImageSourceKind.PRODUCTS_TEST,
    (DatasetKind.PRODUCTS, ImageSplit.TRAIN): ImageSourceKind.PRODUCTS_TRAINING,
    (DatasetKind.BIRDS, ImageSplit.TEST): ImageSourceKind.BIRDS_TEST,
    (DatasetKind.BIRDS, ImageSplit.TRAIN): ImageSourceKind.BIRDS_TRAINING,
}
"""What each side of a layout is called."""


@dataclass(frozen=True)
class ImageSource:
    """Images of a folder with their ids.

    Args:
        root: the folder, or the address of what else holds them (`aml_edge.datasets.image_locations`).
        kind: what it is.
        ids: N paths relative to the root, parts joined by ``/``; of a table what its rows say.
        items: the same images, whole.
    """

    root: Path | str
    kind: ImageSourceKind
    ids: tuple[str, ...]
    items: Sequence[ImageItem]


def image_source(root: Path, split: ImageSplit | None = None, *, progress: Progress | None = None) -> ImageSource:
    """Returns the images that a folder stands for.

    A data set with queries stands for its database, one without for its training images, those of validation included;
    any other folder for every image file below it. A data set that has both sides stands for the one that is named.

    Args:
        root: the folder.
        split: which side of a data set is meant.
        progress: where a long search for images is announced.

    Raises:
        DatasetError: it is a file, it holds no images or several data sets, or its data set is broken.
        UsageError: there is no such folder, or it has no such split.
        UnsafePickleError: the metadata of its data set wants a type that it does not need.
    """
    layout = find_layout(root)
    if layout is None:
        return _folder(root, split)
    chosen = _chosen(layout, root, split)
    if chosen is ImageSplit.TRAIN:
        ids, items = _merged(training_splits(layout, root, progress=progress))
    else:
        assert layout.testing is not None
        dataset = layout.testing.read(root)
        ids, items = dataset.database_ids, dataset.database_items
        require_files(root, items, progress=progress)
    return ImageSource(root, KINDS[layout.kind, chosen], ids, items)


def training_splits(layout: Layout, root: Path, *, progress: Progress | None = None) -> tuple[NamedSplit, ...]:
    """Returns the training side of a data set, all images of which are there; raises as `image_source`."""
    assert layout.training is not None
    splits = layout.training.read(root)
    for split in splits:
        require_files(root, split.images.items, progress=progress)
    return splits


def _chosen(layout: Layout, root: Path, split: ImageSplit | None) -> ImageSplit:
    there = layout.splits(root)
    if split is None:
        return ImageSplit.TEST if ImageSplit.TEST in there else ImageSplit.TRAIN
    if split not in there:
        raise UsageError(f"`split` is '{split}', but {root} ({layout.kind}) has only '{there[0]}'; name that one.")
    return split


def _merged(splits: Sequence[NamedSplit]) -> tuple[tuple[str, ...], Sequence[ImageItem]]:
    """Returns ids and items of all splits; an image of several is taken once."""
    if len(splits) == 1:
        return splits[0].images.ids, splits[0].images.items
    pairs = ((one, item) for split in splits for one, item in zip(split.images.ids, split.images.items, strict=True))
    items = dict(pairs)
    return tuple(items), tuple(items.values())


def _folder(root: Path, split: ImageSplit | None) -> ImageSource:
    ids = list_images(root)
    require_no_datasets(root)
    if not ids:
        raise DatasetError(f"{root} holds no image; files count by suffix: {', '.join(sorted(IMAGE_SUFFIXES))}.")
    if split is not None:
        raise UsageError(f"`split` is '{split}', but {root} is a plain folder, which has no splits; leave it out.")
    return ImageSource(root, ImageSourceKind.FOLDER, ids, tuple(ImageItem(root / one) for one in ids))
