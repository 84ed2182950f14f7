"""`training_images`: what a folder gives a training: images, and where it has them labels and a validation split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aml_edge.datasets.class_folder import class_names, read_class_folder
from aml_edge.datasets.held_out_classes import hold_out_classes
from aml_edge.datasets.image_source import KINDS, ImageSourceKind, image_source, training_splits
from aml_edge.datasets.image_split import ImageSplit
from aml_edge.datasets.labelled_images import LabelledImages
from aml_edge.datasets.layouts import find_layout
from aml_edge.progress import Progress


@dataclass(frozen=True)
class TrainingImages:
    """What a folder gives a training.

    Args:
        root: the folder.
        kind: what it is.
        training: images to learn from.
        validation: images to judge by, None where the folder has no such split.
    """

    root: Path
    kind: ImageSourceKind
    training: LabelledImages
    validation: LabelledImages | None


def training_images(root: Path, *, progress: Progress | None = None) -> TrainingImages:
    """Returns what a folder gives a training: the training side of a data set with its labels, else all its images.

    Where the images belong to classes, and no split is published to validate on, a tenth of the classes is held out.
    A plain folder has labels where each image lies in the folder of its class.

    Args:
        root: the folder.
        progress: where a long search for images is announced.

    Raises:
        DatasetError, UnsafePickleError: as `aml_edge.datasets.image_source.image_source`.
    """
    layout = find_layout(root)
    if layout is not None and ImageSplit.TRAIN in layout.splits(root):
        assert layout.training is not None
        first, *others = (split.images for split in training_splits(layout, root, progress=progress))
        kind = KINDS[layout.kind, ImageSplit.TRAIN]
        if layout.training.holds_out:
            return _with_classes_held_out(root, kind, first)
        return TrainingImages(root, kind, first, others[0] if others else None)
    source = image_source(root, progress=progress)
    if layout is None and class_names(root):
        return _with_classes_held_out(root, source.kind, read_class_folder(root).training_images())
    return TrainingImages(root, source.kind, LabelledImages(source.ids, source.items, None), None)


def _with_classes_held_out(root: Path, kind: ImageSourceKind, images: LabelledImages) -> TrainingImages:
    parts = hold_out_classes(images)
    return TrainingImages(root, kind, parts.training, parts.validation)
