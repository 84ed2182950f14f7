"""A plain folder of classes: `CLASS/IMAGE`."""

from __future__ import annotations

from pathlib import Path

import pytest

from aml_edge.datasets.class_folder import class_names, read_class_folder
from aml_edge.datasets.loading import load_test_set
from aml_edge.errors import DatasetError, UsageError
from aml_edge.ground_truth import QueryGroundTruth
from aml_edge.protocol import Protocol


def test_each_image_asks_all_others(classes: Path) -> None:
    dataset = load_test_set(classes)
    ids = ("bolt/a.jpg", "bolt/b.jpg", "nut/c.jpg", "screw/a.jpg", "screw/b.jpg", "screw/d.jpg")
    assert (dataset.name, dataset.protocol, dataset.database_ids) == ("parts", Protocol.METRIC_LEARNING, ids)
    assert dataset.recall_at == (1, 2, 4, 8)
    assert [truth.easy for truth in dataset.ground_truth] == [(1,), (0,), (), (4, 5), (3, 5), (3, 4)]
    assert [truth.junk for truth in dataset.ground_truth] == [(row,) for row in range(6)]


def test_classes_are_numbered_by_name(classes: Path) -> None:
    assert class_names(classes) == ("bolt", "nut", "screw")
    assert read_class_folder(classes).classes == (0, 0, 1, 2, 2, 2)


@pytest.mark.parametrize("name", ["loose.jpg", "bolt/deeper/a.jpg"])
def test_an_image_elsewhere_makes_it_no_such_folder(classes: Path, name: str) -> None:
    (classes / name).parent.mkdir(exist_ok=True)
    (classes / name).touch()
    assert class_names(classes) == ()
    with pytest.raises(DatasetError) as caught:
        read_class_folder(classes)
    assert str(caught.value) == (
        f"{classes} is no folder of classes: each image lies in the folder of its class, CLASS/IMAGE, and there are "
        "two classes at least."
    )
    with pytest.raises(DatasetError) as caught:
        load_test_set(classes)
    assert str(caught.value) == (
        f"{classes} holds no test set: no files of a known layout, nor each image in the folder of its class, "
        "CLASS/IMAGE; `aml-edge data info` says what a folder is."
    )


def test_one_class_is_none(classes: Path) -> None:
    for name in ("nut", "screw"):
        for path in (classes / name).iterdir():
            path.unlink()
    assert class_names(classes) == ()


def test_other_files_and_hidden_ones_do_not_count(classes: Path) -> None:
    (classes / "README.txt").touch()
    (classes / ".DS_Store.jpg").touch()
    (classes / "bolt" / "notes.csv").touch()
    assert class_names(classes) == ("bolt", "nut", "screw")


def test_a_folder_of_data_sets_is_refused(tmp_path: Path, classes: Path, products: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        load_test_set(tmp_path)
    assert str(caught.value) == f"{tmp_path} holds data sets, not images; give one of them: {products}."
    with pytest.raises(UsageError, match="nowhere is no folder"):
        load_test_set(tmp_path / "nowhere")
    with pytest.raises(UsageError) as wrong:
        load_test_set(classes, "public")
    assert (
        str(wrong.value) == f"`subset` is 'public', but the subsets of {classes} are: none; leave it out, or name one."
    )


def test_a_truth_can_be_sliced_and_counted(classes: Path) -> None:
    truth = load_test_set(classes).ground_truth
    assert (
        list(truth[1:3]) == [truth[1], truth[2]] == [QueryGroundTruth((0,), (), (1,)), QueryGroundTruth((), (), (2,))]
    )
    assert truth[-1] == truth[5]
    with pytest.raises(IndexError):
        truth[6]
