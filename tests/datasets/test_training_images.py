"""What a folder gives a training: labels and validation where it has them."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aml_edge.datasets.image_source import ImageSourceKind, image_source
from aml_edge.datasets.image_split import ImageSplit
from aml_edge.datasets.labelled_images import ImageLabels, LabelledImages
from aml_edge.datasets.training_images import TrainingImages, training_images
from aml_edge.errors import DatasetError, UsageError
from aml_edge.image_loading import ImageItem

Record = dict[str, Any]
Write = Callable[[Record], Path]


def test_an_sfm_data_set_gives_both_splits_with_their_labels(write_sfm: Write, sfm_record: Record) -> None:
    root = write_sfm(sfm_record)
    training = tuple(f"ims/ff/ee/dd/{cid}" for cid in sfm_record["train"]["cids"])
    validation = ("ims/aa/aa/aa/" + "a" * 32, "ims/bb/bb/bb/" + "b" * 32)
    assert training_images(root) == TrainingImages(
        root,
        ImageSourceKind.SFM,
        LabelledImages(
            training,
            tuple(ImageItem(root / one) for one in training),
            ImageLabels(clusters=(7, 7, 7, 9, 9, 9), query_rows=(0, 1, 3), positive_rows=(1, 2, 5)),
        ),
        LabelledImages(
            validation,
            tuple(ImageItem(root / one) for one in validation),
            ImageLabels(clusters=(1, 1), query_rows=(0,), positive_rows=(1,)),
        ),
    )


def test_its_images_are_those_that_an_index_of_the_folder_holds(write_sfm: Write, sfm_record: Record) -> None:
    root = write_sfm(sfm_record)
    images = training_images(root)
    assert images.validation is not None
    assert set(image_source(root).ids) == {*images.training.ids, *images.validation.ids}


def test_a_data_set_without_validation_gives_none(write_sfm: Write, sfm_record: Record) -> None:
    images = training_images(write_sfm({"train": sfm_record["train"]}))
    assert images.validation is None
    assert images.training.labels is not None


def test_another_folder_gives_images_without_labels(write_revisited: Write, revisited_record: Record) -> None:
    root = write_revisited(revisited_record)
    for folder, kind in ((root, ImageSourceKind.REVISITED), (root / "jpg", ImageSourceKind.FOLDER)):
        source = image_source(folder)
        images = training_images(folder)
        assert images == TrainingImages(folder, kind, LabelledImages(source.ids, source.items, None), None)
        assert len(images.training.ids) >= 5


def test_a_broken_split_is_refused(write_sfm: Write, sfm_record: Record) -> None:
    root = write_sfm(sfm_record)
    (root / "ims" / "bb" / "bb" / "bb" / ("b" * 32)).unlink()
    with pytest.raises(DatasetError, match=r"1 of 2 images of .* are missing, the first is"):
        training_images(root)
    (root / "toy-SfM.pkl").write_bytes(pickle.dumps({"train": sfm_record["train"], "val": None}))
    with pytest.raises(DatasetError, match=r"toy-SfM\.pkl: val does not have cids, cluster, qidxs, pidxs"):
        training_images(root)
    with pytest.raises(UsageError, match="is no folder"):
        training_images(root / "nothing")


def test_classes_give_labels(products: Path, birds: Path, landmarks: Path, classes: Path) -> None:
    for root, kind, clusters in (
        (products, ImageSourceKind.PRODUCTS_TRAINING, (1, 1, 2)),
        (birds, ImageSourceKind.BIRDS_TRAINING, (1, 1, 100)),
        (landmarks, ImageSourceKind.LANDMARKS_TRAINING, (7, 7, 7, 9)),
        (classes, ImageSourceKind.FOLDER, (0, 0, 1, 2, 2, 2)),
    ):
        images = training_images(root)
        assert (images.kind, images.validation) == (kind, None)  # too few classes to hold some out
        assert images.training.labels is not None
        assert images.training.labels.clusters == clusters
        split = None if root is classes else ImageSplit.TRAIN
        assert images.training.ids == image_source(root, split).ids


def test_of_many_classes_some_are_held_out(tmp_path: Path) -> None:
    for number in range(160):
        (tmp_path / f"{number // 2:02}").mkdir(exist_ok=True)
        (tmp_path / f"{number // 2:02}" / f"{number}.jpg").touch()
    images = training_images(tmp_path)
    assert images.validation is not None
    learned, judged = ({one.split("/")[0] for one in part.ids} for part in (images.training, images.validation))
    assert (len(learned), len(judged), learned & judged) == (72, 8, set())
    assert set(images.training.ids) | set(images.validation.ids) == set(image_source(tmp_path).ids)


def test_distractors_have_no_labels(distractors: Path) -> None:
    images = training_images(distractors)
    assert (images.kind, images.training.labels, images.validation) == (ImageSourceKind.DISTRACTORS, None, None)
