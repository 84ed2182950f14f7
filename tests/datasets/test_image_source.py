"""What a folder of images turns out to be."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aml_edge.datasets.image_source import ImageSource, ImageSourceKind, image_source
from aml_edge.datasets.image_split import ImageSplit
from aml_edge.datasets.loading import load_test_set
from aml_edge.errors import DatasetError, UsageError
from aml_edge.image_loading import ImageItem

Record = dict[str, Any]
Write = Callable[[Record], Path]


def test_a_revisited_data_set_stands_for_its_database(write_revisited: Write, revisited_record: Record) -> None:
    root = write_revisited(revisited_record)
    ids = tuple(f"jpg/{name}.jpg" for name in revisited_record["imlist"])
    items = tuple(ImageItem(root / one) for one in ids)
    assert image_source(root) == ImageSource(root, ImageSourceKind.REVISITED, ids, items)


def test_an_sfm_data_set_stands_for_the_images_of_both_splits(write_sfm: Write, sfm_record: Record) -> None:
    root = write_sfm(sfm_record)
    training = tuple(f"ims/ff/ee/dd/{cid}" for cid in sfm_record["train"]["cids"])
    validation = ("ims/aa/aa/aa/" + "a" * 32, "ims/bb/bb/bb/" + "b" * 32)
    ids = training + validation
    items = tuple(ImageItem(root / one) for one in ids)
    assert image_source(root) == ImageSource(root, ImageSourceKind.SFM, ids, items)


def test_an_image_of_both_splits_is_taken_once(write_sfm: Write, sfm_record: Record) -> None:
    sfm_record["val"]["cids"][1] = sfm_record["train"]["cids"][4]
    source = image_source(write_sfm(sfm_record))
    assert source.ids[:6] == tuple(f"ims/ff/ee/dd/{cid}" for cid in sfm_record["train"]["cids"])
    assert source.ids[6:] == ("ims/aa/aa/aa/" + "a" * 32,)
    assert [item.path for item in source.items] == [Path(source.root) / one for one in source.ids]


def test_an_sfm_data_set_without_validation_stands_for_its_training_images(
    write_sfm: Write, sfm_record: Record
) -> None:
    source = image_source(write_sfm({"train": sfm_record["train"]}))
    assert source.ids == tuple(f"ims/ff/ee/dd/{cid}" for cid in sfm_record["train"]["cids"])


def test_another_folder_stands_for_every_image_below_it(write_revisited: Write, revisited_record: Record) -> None:
    root = write_revisited(revisited_record) / "jpg"
    ids = tuple(sorted(f"{name}.jpg" for name in (*revisited_record["imlist"], *revisited_record["qimlist"])))
    items = tuple(ImageItem(root / one) for one in ids)
    assert image_source(root) == ImageSource(root, ImageSourceKind.FOLDER, ids, items)


def test_a_pickle_beside_images_makes_no_data_set(write_revisited: Write, revisited_record: Record) -> None:
    root = write_revisited(revisited_record)
    (root / "gnd_toy5.pkl").rename(root / "notes.pkl")
    assert image_source(root).kind is ImageSourceKind.FOLDER


def test_a_broken_data_set_is_not_taken_for_a_folder(
    write_revisited: Write, revisited_record: Record, write_sfm: Write, sfm_record: Record
) -> None:
    root = write_revisited(revisited_record)
    (root / "gnd_toy5.pkl").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"gnd_toy5\.pkl cannot be read as a pickle"):
        image_source(root)
    root = write_sfm(sfm_record)
    (root / "toy-SfM.pkl").write_bytes(pickle.dumps({"val": sfm_record["val"]}))
    with pytest.raises(DatasetError, match="has no split 'train'; it has: val"):
        image_source(root)
    (root / "toy-SfM.pkl").rename(root / "a.pkl")
    (root / "b.pkl").touch()
    with pytest.raises(DatasetError, match=r"does not hold ims/ and one NAME\.pkl"):
        image_source(root)


def test_a_folder_of_data_sets_is_refused(
    tmp_path: Path, write_revisited: Write, revisited_record: Record, write_sfm: Write, sfm_record: Record
) -> None:
    """As `aml-edge data synth` writes them: OUT/train/NAME and OUT/test/NAME."""
    for part, root in (("test", write_revisited(revisited_record)), ("train", write_sfm(sfm_record))):
        (tmp_path / "out" / part).mkdir(parents=True)
        root.rename(tmp_path / "out" / part / root.name)
    with pytest.raises(DatasetError) as caught:
        image_source(tmp_path / "out")
    assert str(caught.value) == (
        f"{tmp_path / 'out'} holds data sets, not images; give one of them: "
        f"{tmp_path / 'out' / 'test' / 'toy5'}, {tmp_path / 'out' / 'train' / 'toy-SfM'}."
    )


def test_a_data_set_far_below_is_refused_too(tmp_path: Path, write_revisited: Write, revisited_record: Record) -> None:
    """Its queries would be in the database. A hidden folder is not looked at."""
    root = write_revisited(revisited_record)
    deep = tmp_path / "out" / "a" / "b" / "c" / "toy5"
    deep.parent.mkdir(parents=True)
    root.rename(deep)
    with pytest.raises(DatasetError, match=f"out holds data sets, not images; give one of them: {deep}"):
        image_source(tmp_path / "out")
    (tmp_path / "out" / "a" / "b").rename(tmp_path / "out" / "a" / ".b")
    (tmp_path / "out" / "a.png").touch()
    assert image_source(tmp_path / "out").ids == ("a.png",)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DatasetError) as caught:
        image_source(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path} holds no image; files count by suffix: .avif, .bmp, ")
    with pytest.raises(UsageError, match="is no folder; give the folder that holds the images"):
        image_source(tmp_path / "nothing")


def test_a_set_with_both_sides_stands_for_its_database_unless_told(
    landmarks: Path, products: Path, birds: Path
) -> None:
    for root, testing, training, tested, learned in (
        (landmarks, ImageSourceKind.LANDMARKS_INDEX, ImageSourceKind.LANDMARKS_TRAINING, "index/", "train/"),
        (
            products,
            ImageSourceKind.PRODUCTS_TEST,
            ImageSourceKind.PRODUCTS_TRAINING,
            "bicycle_final/3",
            "bicycle_final/1",
        ),
        (birds, ImageSourceKind.BIRDS_TEST, ImageSourceKind.BIRDS_TRAINING, "images/101", "images/001"),
    ):
        source = image_source(root)
        assert source.ids == image_source(root, ImageSplit.TEST).ids
        assert (source.root, source.kind) == (root, testing)
        assert source.ids == load_test_set(root).database_ids
        assert tuple(source.items) == tuple(ImageItem(root / one) for one in source.ids)
        assert source.ids[0].startswith(tested)
        source = image_source(root, ImageSplit.TRAIN)
        assert source.kind is training
        assert source.ids[0].startswith(learned)
        assert tuple(source.items) == tuple(ImageItem(root / one) for one in source.ids)
    assert str(ImageSourceKind.LANDMARKS_INDEX) == "index images of Google Landmarks v2"


def test_a_set_without_one_side_stands_for_the_other(
    landmarks: Path, distractors: Path, write_instre: Write, instre_record: Record
) -> None:
    (landmarks / "test").rename(landmarks / "elsewhere")
    assert image_source(landmarks).kind is ImageSourceKind.LANDMARKS_TRAINING
    source = image_source(distractors)
    assert (source.kind, len(source.ids)) == (ImageSourceKind.DISTRACTORS, 3)
    assert source.kind == "distractors of revisitop1m"
    root = write_instre(instre_record)
    assert image_source(root).ids == tuple(instre_record["imlist"])


def test_a_side_that_is_not_there_is_refused(distractors: Path, classes: Path) -> None:
    with pytest.raises(UsageError) as caught:
        image_source(distractors, ImageSplit.TEST)
    assert str(caught.value) == f"`split` is 'test', but {distractors} (revisitop1m) has only 'train'; name that one."
    with pytest.raises(UsageError) as caught:
        image_source(classes, ImageSplit.TRAIN)
    assert (
        str(caught.value) == f"`split` is 'train', but {classes} is a plain folder, which has no splits; leave it out."
    )
    assert image_source(classes).kind is ImageSourceKind.FOLDER


def test_only_the_images_of_the_side_must_be_there(products: Path) -> None:
    (products / "chair_final" / "2_0.JPG").unlink()
    assert len(image_source(products).ids) == 4
    with pytest.raises(DatasetError, match=r"1 of 3 images of .* are missing, the first is .*chair_final/2_0\.JPG"):
        image_source(products, ImageSplit.TRAIN)
