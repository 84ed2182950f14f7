"""`training_images`: what a folder gives a training: images, and where it has them labels and a validation split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aml_edge.datasets.image_source import ImageSourceKind, image_source
from aml_edge.datasets.labelled_images import ImageLabels, LabelledImages
from aml_edge.datasets.sfm import TRAIN, VALIDATION, SfmDataset, has_split, load_sfm


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


def training_images(root: Path) -> TrainingImages:
    """Returns what a folder gives a training: both splits of the SfM layout, else all its images without labels.

    Raises:
        DatasetError, UnsafePickleError: as `aml_edge.datasets.image_source.image_source`.
    """
    source = image_source(root)
    if source.kind is not ImageSourceKind.SFM:
        return TrainingImages(root, source.kind, LabelledImages(source.ids, source.items, None), None)
    validation = _labelled(load_sfm(root, VALIDATION)) if has_split(root, VALIDATION) else None
    return TrainingImages(root, source.kind, _labelled(load_sfm(root, TRAIN)), validation)


def _labelled(split: SfmDataset) -> LabelledImages:
    labels = ImageLabels(split.clusters, split.query_rows, split.positive_rows)
    return LabelledImages(split.ids, split.items, labels)
