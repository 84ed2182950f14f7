"""Stanford Online Products, whole and broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from aml_edge.datasets.image_split import ImageSplit
from aml_edge.datasets.loading import load_test_set
from aml_edge.datasets.products import read_product_training, read_products
from aml_edge.errors import DatasetError
from aml_edge.ground_truth import QueryGroundTruth
from aml_edge.image_loading import ImageItem
from aml_edge.protocol import Protocol

HEAD = "image_id class_id super_class_id path\n"


def test_each_test_image_asks_all_others(products: Path) -> None:
    dataset = load_test_set(products)
    ids = ("bicycle_final/3_0.JPG", "bicycle_final/3_1.JPG", "bicycle_final/3_2.JPG", "chair_final/4_0.JPG")
    assert (dataset.name, dataset.protocol) == ("stanford-online-products", Protocol.METRIC_LEARNING)
    assert dataset.recall_at == (1, 10, 100, 1000)
    assert dataset.database_ids == ids
    assert dataset.query_items == dataset.database_items == tuple(ImageItem(products / one) for one in ids)
    assert dataset.queries_are_database
    assert list(dataset.ground_truth) == [
        QueryGroundTruth((1, 2), (), (0,)),
        QueryGroundTruth((0, 2), (), (1,)),
        QueryGroundTruth((0, 1), (), (2,)),
        QueryGroundTruth((), (), (3,)),
    ]


def test_the_training_images_are_clustered_by_product(products: Path) -> None:
    (split,) = read_product_training(products)
    labels = split.images.labels
    assert split.images.ids == ("bicycle_final/1_0.JPG", "bicycle_final/1_1.JPG", "chair_final/2_0.JPG")
    assert tuple(split.images.items) == tuple(ImageItem(products / one) for one in split.images.ids)
    assert labels is not None
    assert (labels.clusters, labels.query_rows, labels.positive_rows) == ((1, 1, 2), (0, 1), (1, 0))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("1 1 1 a.JPG\n", " begins with '1 1 1 a.JPG'; a file of this layout begins with 'image_id class_id super_c"),
        (HEAD, " holds no records; get it again."),
        (f"{HEAD}1 1 a.JPG\n", ": line 2 has 3 fields; it must have 4: image_id, class_id, super_class_id, path."),
        (f"{HEAD}1 x 1 a.JPG\n", ": line 2: class_id is 'x', which is no whole number."),
        (f"{HEAD}1 1 1 ../a.JPG\n", " names an image '../a.JPG', which cannot be the name of a file in the data set."),
        (f"{HEAD}1 1 1 a.JPG\n2 1 1 a.JPG\n", " names 'a.JPG' 2 times; each image is listed once."),
    ],
)
def test_broken_lists_are_refused(products: Path, content: str, said: str) -> None:
    path = products / "Ebay_test.txt"
    path.write_text(content)
    with pytest.raises(DatasetError) as caught:
        read_products(products, ImageSplit.TEST)
    assert str(caught.value).startswith(f"{path}{said}")


def test_a_missing_side_is_said_so(products: Path) -> None:
    (products / "Ebay_test.txt").unlink()
    with pytest.raises(DatasetError) as caught:
        load_test_set(products)
    assert str(caught.value) == (f"{products} (Stanford Online Products) has no queries; give a data set to test on.")


def test_missing_images_are_counted_once(products: Path) -> None:
    (products / "chair_final" / "4_0.JPG").unlink()
    with pytest.raises(DatasetError, match=r"1 of 4 images of .* are missing, the first is .*chair_final/4_0\.JPG"):
        load_test_set(products)
