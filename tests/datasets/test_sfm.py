"""The layout of retrieval-SfM, whole and broken."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aml_edge.datasets.sfm import SfmDataset, has_split, load_sfm, read_sfm
from aml_edge.errors import DatasetError, UsageError
from aml_edge.image_loading import ImageItem
from aml_edge.pixels import load_pixels
from aml_edge.preprocessing import Preprocessing

Record = dict[str, dict[str, Any]]
Write = Callable[[Record], Path]
NEVER = object()


def test_the_training_split_is_read(write_sfm: Write, sfm_record: Record) -> None:
    root = write_sfm(sfm_record)
    ids = tuple(f"ims/ff/ee/dd/{number}0112233445566778899aabbccddeeff" for number in range(6))
    assert load_sfm(root) == SfmDataset(
        name="toy-SfM",
        root=root,
        split="train",
        ids=ids,
        items=tuple(ImageItem(root / one) for one in ids),
        clusters=(7, 7, 7, 9, 9, 9),
        query_rows=(0, 1, 3),
        positive_rows=(1, 2, 5),
    )


def test_another_split_is_read(write_sfm: Write, sfm_record: Record) -> None:
    dataset = load_sfm(write_sfm(sfm_record), "val")
    assert dataset.split == "val"
    assert dataset.ids == ("ims/aa/aa/aa/" + "a" * 32, "ims/bb/bb/bb/" + "b" * 32)


def test_its_images_can_be_loaded_without_a_suffix(write_sfm: Write, sfm_record: Record) -> None:
    dataset = load_sfm(write_sfm(sfm_record))
    assert [int(load_pixels(item.path, Preprocessing(9)).max()) for item in dataset.items] == [0, 1, 2, 3, 4, 5]


def test_a_file_named_otherwise_is_found_where_it_is_the_only_one(write_sfm: Write, sfm_record: Record) -> None:
    root = write_sfm(sfm_record)
    (root / "toy-SfM-whiten.pkl").write_bytes(b"of whitening, beside it as published")
    (root / "toy-SfM.pkl").rename(root / "retrieval-SfM-9.pkl")
    assert load_sfm(root).name == "retrieval-SfM-9"
    (root / "other.pkl").touch()
    with pytest.raises(DatasetError) as caught:
        load_sfm(root)
    assert str(caught.value) == (
        f"{root} does not hold ims/ and one NAME.pkl, named as the folder where there are several; "
        "a training set in the SfM layout does."
    )


def test_other_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").touch()
    for root, kind in ((tmp_path, DatasetError), (tmp_path / "nothing", UsageError)):
        with pytest.raises(kind, match=r"does not hold ims/ and one NAME\.pkl"):
            load_sfm(root)


def test_missing_images_are_counted_and_the_first_is_named(write_sfm: Write, sfm_record: Record) -> None:
    root = write_sfm(sfm_record)
    dataset = load_sfm(root)
    dataset.items[3].path.unlink()
    dataset.items[5].path.unlink()
    with pytest.raises(DatasetError) as caught:
        load_sfm(root)
    assert str(caught.value) == (
        f"2 of 6 images of {root} are missing, the first is {dataset.items[3].path}; "
        "put them there, or get the data set again."
    )
    assert load_sfm(root, "val").split == "val"


def test_a_split_that_is_not_there_is_refused(write_sfm: Write, sfm_record: Record) -> None:
    root = write_sfm(sfm_record)
    with pytest.raises(DatasetError) as caught:
        load_sfm(root, "test")
    assert str(caught.value) == f"{root / 'toy-SfM.pkl'} has no split 'test'; it has: train, val."


def test_says_which_splits_there_are(write_sfm: Write, sfm_record: Record) -> None:
    root = write_sfm(sfm_record)
    assert [has_split(root, split) for split in ("train", "val", "test")] == [True, True, False]


def test_what_holds_no_splits_has_none(write_sfm: Write, sfm_record: Record, tmp_path: Path) -> None:
    root = write_sfm(sfm_record)
    (root / "toy-SfM.pkl").write_bytes(pickle.dumps(["train", "val"]))
    assert not has_split(root, "train")
    (root / "toy-SfM.pkl").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"toy-SfM\.pkl cannot be read as a pickle"):
        has_split(root, "train")
    with pytest.raises(DatasetError, match=r"does not hold ims/ and one NAME\.pkl"):
        has_split(tmp_path, "train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cids": NEVER}, " does not have cids, cluster, qidxs, pidxs; it is no training set of this layout."),
        ({"cids": []}, ": cids is empty; it must name images."),
        ({"cids": None}, ": cids is no list."),
        ({"cluster": [1, 2]}, ": there are 2 clusters for 6 images; each has one."),
        ({"cluster": ["a"] * 6}, ": cluster holds something else than whole numbers."),
        ({"qidxs": [0, 1]}, ": there are 2 qidxs and 3 pidxs; they are pairs."),
        ({"qidxs": [0, 1, 6]}, ": qidxs names row 6, but there are 6, counted from 0."),
        ({"pidxs": [0, 1, -1]}, ": pidxs names row -1, but there are 6, counted from 0."),
        ({"pidxs": [0, 1, 2.0]}, ": pidxs holds something else than whole numbers."),
        ({"pidxs": np.zeros((3, 1), np.int64)}, ": pidxs is no list."),
        ({"cids": ["0" * 32] * 6}, ": cids names '" + "0" * 32 + "' 6 times; each image is listed once."),
    ],
)
def test_a_split_that_contradicts_itself_is_refused(
    write_sfm: Write, sfm_record: Record, change: dict[str, object], message: str
) -> None:
    root = write_sfm(sfm_record)
    changed = {key: value for key, value in (sfm_record["train"] | change).items() if value is not NEVER}
    (root / "toy-SfM.pkl").write_bytes(pickle.dumps({"train": changed}, protocol=2))
    with pytest.raises(DatasetError) as caught:
        load_sfm(root)
    assert str(caught.value) == f"{root / 'toy-SfM.pkl'}: train{message}"


@pytest.mark.parametrize(
    ("cid", "shown"),
    [("../../../../etc/passwd", "'../../../../etc/passwd'"), ("12345", "'12345'"), ("......", "'......'"), (3, "int")],
)
def test_names_that_lead_elsewhere_are_refused(write_sfm: Write, sfm_record: Record, cid: object, shown: str) -> None:
    root = write_sfm(sfm_record)
    sfm_record["train"]["cids"][2] = cid
    (root / "toy-SfM.pkl").write_bytes(pickle.dumps(sfm_record, protocol=2))
    with pytest.raises(DatasetError) as caught:
        load_sfm(root)
    assert str(caught.value) == (
        f"{root / 'toy-SfM.pkl'}: train: cids names an image {shown}, "
        "which cannot be the name of a file in the data set."
    )


@pytest.mark.parametrize("content", [[], "train", {"train": [1]}, {"train": None}])
def test_other_pickles_are_refused(tmp_path: Path, content: object) -> None:
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(DatasetError, match="it is no training set of this layout"):
        read_sfm(tmp_path / "x.pkl")
