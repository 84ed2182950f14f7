"""`image_source`: which images a folder stands for where a command takes `--images DIR`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from aml_edge.datasets.dataset_folders import datasets_below
from aml_edge.datasets.folder import IMAGE_SUFFIXES, list_images
from aml_edge.datasets.revisited import ground_truth_files, load_revisited
from aml_edge.datasets.sfm import TRAIN, VALIDATION, has_split, load_sfm, sfm_files
from aml_edge.errors import DatasetError
from aml_edge.image_loading import ImageItem


class ImageSourceKind(StrEnum):
    """What a folder of images turned out to be, in words for a report."""

    REVISITED = "database of a revisited data set"
    SFM = "training and validation images of an SfM data set"
    FOLDER = "image files of a folder"


@dataclass(frozen=True)
class ImageSource:
    """Images of a folder with their ids.

    Args:
        root: the folder.
        kind: what it is.
        ids: N paths relative to the root, parts joined by ``/``.
        items: the same images, whole.
    """

    root: Path
    kind: ImageSourceKind
    ids: tuple[str, ...]
    items: Sequence[ImageItem]


def image_source(root: Path) -> ImageSource:
    """Returns the images that a folder stands for.

    A data set in the revisited layout stands for its database, one in the SfM layout for the images of
    both its splits, any other folder for every image file below it.

    Raises:
        DatasetError: it is a file, it holds no images or several data sets, or its data set is broken.
        UsageError: there is no such folder.
        UnsafePickleError: the metadata of its data set wants a type that it does not need.
    """
    if ground_truth_files(root):
        revisited = load_revisited(root)
        return ImageSource(root, ImageSourceKind.REVISITED, revisited.database_ids, revisited.database_items)
    if sfm_files(root):
        splits = [load_sfm(root, split) for split in (TRAIN, VALIDATION) if split == TRAIN or has_split(root, split)]
        items = {one: item for split in splits for one, item in zip(split.ids, split.items, strict=True)}
        return ImageSource(root, ImageSourceKind.SFM, tuple(items), tuple(items.values()))
    ids = list_images(root)
    _require_no_datasets(root)
    if not ids:
        raise DatasetError(f"{root} holds no image; files count by suffix: {', '.join(sorted(IMAGE_SUFFIXES))}.")
    return ImageSource(root, ImageSourceKind.FOLDER, ids, tuple(ImageItem(root / one) for one in ids))


def _require_no_datasets(root: Path) -> None:
    """Refuses a folder of data sets: their images would be mixed, and those of the SfM layout, without suffix, lost."""
    datasets = datasets_below(root)
    if datasets:
        listed = ", ".join(str(folder) for folder in datasets[:5])
        raise DatasetError(f"{root} holds data sets, not images; give one of them: {listed}.")
