"""CUB-200-2011 in its published layout: `images.txt` and `image_class_labels.txt` beside `images/`.

One file names the images, `image_id path`, the other gives their classes, `image_id class_id`, classes counted from 1.
For metric learning the first hundred classes are trained on and the other hundred tested on, whole images, so that no
class is in both: 5864 and 5924 images. The published `train_test_split.txt` is one for classification, and boxes and
parts are not used.

Source: Wah, Branson, Welinder, Perona, Belongie, "The Caltech-UCSD Birds-200-2011 dataset", 2011; Song, Xiang, Jegelka,
Savarese, "Deep metric learning via lifted structured feature embedding", CVPR 2016, section 5, for the split.
"""

from __future__ import annotations

from pathlib import Path

from aml_edge.datasets.class_list import ClassList, class_list_of
from aml_edge.datasets.image_split import ImageSplit
from aml_edge.datasets.labelled_images import NamedSplit
from aml_edge.datasets.retrieval_dataset import RetrievalDataset
from aml_edge.datasets.text_records import number_of, records_of
from aml_edge.errors import DatasetError

NAME = "cub-200-2011"
LAST_TRAINING_CLASS = 100
_IMAGES, _LABELS = "images.txt", "image_class_labels.txt"


def bird_files(root: Path) -> tuple[Path, ...]:
    """Returns the two lists of a folder; none where it is no such data set."""
    paths = (root / _IMAGES, root / _LABELS)
    return paths if all(path.is_file() for path in paths) and (root / "images").is_dir() else ()


def read_bird_training(root: Path) -> tuple[NamedSplit, ...]:
    """Returns the images of the first hundred classes as one split; raises as `read_birds`."""
    return (NamedSplit("train", read_birds(root, ImageSplit.TRAIN).training_images()),)


def read_bird_test(root: Path) -> RetrievalDataset:
    """Returns the test set of the other classes, in which each image asks all others; raises as `read_birds`."""
    return read_birds(root, ImageSplit.TEST).test_set(NAME)


def read_birds(root: Path, split: ImageSplit) -> ClassList:
    """Returns the images of one split with their classes; whether they are there is not looked at.

    Raises:
        DatasetError: a list cannot be read, the two do not belong together, an image is named twice, or cannot be in
            the folder.
    """
    images, labels = root / _IMAGES, root / _LABELS
    classes: dict[str, int] = {}
    for number, (image, label) in records_of(labels, ("image_id", "class_id"), " ", titled=False):
        if image in classes:
            raise DatasetError(f"{labels}: line {number} gives image {image[:100]!a} a second class; it has one.")
        classes[image] = number_of(label, f"{labels}: line {number}: class_id")
    chosen: list[tuple[str, int]] = []
    seen = set()
    for number, (image, path) in records_of(images, ("image_id", "path"), " ", titled=False):
        if image not in classes or image in seen:
            wrong = "a second path" if image in seen else "no class"
            raise DatasetError(f"{images}: line {number}: image {image[:100]!a} has {wrong}; get both lists again.")
        seen.add(image)
        if (classes[image] <= LAST_TRAINING_CLASS) is (split is ImageSplit.TRAIN):
            chosen.append((f"images/{path}", classes[image]))
    if len(seen) < len(classes):
        raise DatasetError(f"{labels} gives {len(classes)} images a class, but {images} names {len(seen)}.")
    return class_list_of(images, [one for one, _ in chosen], [number for _, number in chosen])
