"""Stanford Online Products in its published layout: `Ebay_train.txt` and `Ebay_test.txt` beside `KIND_final/`.

Each list has a line `image_id class_id super_class_id path` and below it one image a line; a class is one product. The
classes of the two lists differ. Published are 59551 images of 11318 products to train on, and 60502 of 11316 to test
on, where each asks all others: recall@1, 10, 100 and 1000.

Source: Song, Xiang, Jegelka, Savarese, "Deep metric learning via lifted structured feature embedding", CVPR 2016.
"""

from __future__ import annotations

from pathlib import Path

from aml_edge.datasets.class_list import ClassList, class_list_of
from aml_edge.datasets.image_split import ImageSplit
from aml_edge.datasets.labelled_images import NamedSplit
from aml_edge.datasets.retrieval_dataset import RetrievalDataset
from aml_edge.datasets.text_records import number_of, records_of

NAME = "stanford-online-products"
RECALL_AT = (1, 10, 100, 1000)
LISTS = {ImageSplit.TRAIN: "Ebay_train.txt", ImageSplit.TEST: "Ebay_test.txt"}
_FIELDS = ("image_id", "class_id", "super_class_id", "path")


def product_files(root: Path, split: ImageSplit) -> tuple[Path, ...]:
    """Returns the list of a split in a folder; none where it has none."""
    path = root / LISTS[split]
    return (path,) if path.is_file() else ()


def read_product_training(root: Path) -> tuple[NamedSplit, ...]:
    """Returns the training images as one split, clustered by product; raises as `read_products`."""
    return (NamedSplit("train", read_products(root, ImageSplit.TRAIN).training_images()),)


def read_product_test(root: Path) -> RetrievalDataset:
    """Returns the test set, in which each image asks all others; raises as `read_products`."""
    return read_products(root, ImageSplit.TEST).test_set(NAME, RECALL_AT)


def read_products(root: Path, split: ImageSplit) -> ClassList:
    """Returns the images of one split with their products; whether they are there is not looked at.

    Raises:
        DatasetError: the list cannot be read, or names an image twice, or one that cannot be in the folder.
    """
    path = root / LISTS[split]
    ids, classes = [], []
    for number, (_, product, _, image) in records_of(path, _FIELDS, " "):
        ids.append(image)
        classes.append(number_of(product, f"{path}: line {number}: class_id"))
    return class_list_of(path, ids, classes)
