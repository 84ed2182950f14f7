"""CUB-200-2011 with the split of metric learning, whole and broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from aml_edge.datasets.birds import read_bird_training, read_birds
from aml_edge.datasets.image_split import ImageSplit
from aml_edge.datasets.loading import load_test_set
from aml_edge.errors import DatasetError
from aml_edge.ground_truth import QueryGroundTruth
from aml_edge.protocol import Protocol


def test_the_last_hundred_classes_are_tested_on(birds: Path) -> None:
    dataset = load_test_set(birds)
    assert (dataset.name, dataset.protocol, dataset.recall_at) == (
        "cub-200-2011",
        Protocol.METRIC_LEARNING,
        (1, 2, 4, 8),
    )
    assert dataset.database_ids == (
        "images/101.White_Pelican/White_Pelican_0044_97244.jpg",
        "images/101.White_Pelican/White_Pelican_0025_97604.jpg",
        "images/200.Common_Yellowthroat/Common_Yellowthroat_0049_190708.jpg",
        "images/200.Common_Yellowthroat/Common_Yellowthroat_0055_190967.jpg",
    )
    assert list(dataset.ground_truth) == [QueryGroundTruth((row ^ 1,), (), (row,)) for row in range(4)]


def test_the_first_hundred_are_trained_on(birds: Path) -> None:
    (split,) = read_bird_training(birds)
    assert split.images.ids == (
        "images/001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg",
        "images/001.Black_footed_Albatross/Black_Footed_Albatross_0009_34.jpg",
        "images/100.Brown_Pelican/Brown_Pelican_0122_94022.jpg",
    )
    labels = split.images.labels
    assert labels is not None
    assert (labels.clusters, labels.query_rows, labels.positive_rows) == ((1, 1, 100), (0, 1), (1, 0))


def test_lists_that_do_not_belong_together_are_refused(birds: Path) -> None:
    images, labels = birds / "images.txt", birds / "image_class_labels.txt"
    named, labelled = images.read_text(), labels.read_text()

    def refusal() -> str:
        with pytest.raises(DatasetError) as caught:
            read_birds(birds, ImageSplit.TEST)
        return str(caught.value)

    labels.write_text(labelled + "1 5\n")
    assert refusal() == f"{labels}: line 8 gives image '1' a second class; it has one."
    labels.write_text(labelled + "8 5\n")
    assert refusal() == f"{labels} gives 8 images a class, but {images} names 7."
    labels.write_text(labelled.replace("7 200\n", ""))
    assert refusal() == f"{images}: line 7: image '7' has no class; get both lists again."
    labels.write_text(labelled.replace("7 200\n", "7 x\n"))
    assert refusal() == f"{labels}: line 7: class_id is 'x', which is no whole number."
    labels.write_text(labelled)
    images.write_text(named + "7 a.jpg\n")
    assert refusal() == f"{images}: line 8: image '7' has a second path; get both lists again."
    images.write_text(named.replace("7 200.Common_Yellowthroat/", "7 ../"))
    assert refusal().startswith(f"{images} names an image 'images/../Common_Yellowthroat_0055_190967.jpg', which")
    images.write_text(named.replace("7 200.Common_Yellowthroat/", "7 200 Common_Yellowthroat/"))
    assert refusal() == f"{images}: line 7 has 3 fields; it must have 2: image_id, path."


def test_a_side_without_images_is_refused(birds: Path) -> None:
    labels = birds / "image_class_labels.txt"
    labels.write_text("".join(f"{number} {number}\n" for number in range(1, 8)))
    with pytest.raises(DatasetError) as caught:
        load_test_set(birds)
    assert str(caught.value) == f"{birds / 'images.txt'} names no images of this split; get it again."
