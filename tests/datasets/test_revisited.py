"""The layout of revisited Oxford and Paris, whole and broken."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aml_edge.datasets.retrieval_dataset import RetrievalDataset
from aml_edge.datasets.revisited import load_revisited, read_revisited
from aml_edge.errors import DatasetError, UnsafePickleError, UsageError
from aml_edge.ground_truth import QueryGroundTruth
from aml_edge.image_loading import ImageItem
from aml_edge.pixels import load_pixels
from aml_edge.preprocessing import Preprocessing

Record = dict[str, Any]
Write = Callable[[Record], Path]
NEVER = object()


def test_a_data_set_is_read(write_revisited: Write, revisited_record: Record) -> None:
    root = write_revisited(revisited_record)
    assert load_revisited(root) == RetrievalDataset(
        name="toy5",
        root=root,
        query_items=(
            ImageItem(root / "jpg" / "hall_q.jpg", (0.5, 1.0, 7.5, 6.0)),
            ImageItem(root / "jpg" / "tower_q.jpg", (1.0, 1.0, 5.0, 4.0)),
        ),
        database_items=tuple(
            ImageItem(root / "jpg" / f"{name}.jpg") for name in ("hall_0", "hall_1", "tower_0", "tower_1", "other")
        ),
        database_ids=("jpg/hall_0.jpg", "jpg/hall_1.jpg", "jpg/tower_0.jpg", "jpg/tower_1.jpg", "jpg/other.jpg"),
        ground_truth=(QueryGroundTruth((0,), (1,), ()), QueryGroundTruth((2,), (), (3, 0))),
    )


def test_its_images_can_be_loaded(write_revisited: Write, revisited_record: Record) -> None:
    dataset = load_revisited(write_revisited(revisited_record))
    query = dataset.query_items[1]
    assert load_pixels(query.path, Preprocessing(100), query.box).shape == (3, 4, 3)
    assert load_pixels(dataset.database_items[4].path, Preprocessing(100)).max() == 4


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_every_protocol_of_pickle_is_read(write_revisited: Write, revisited_record: Record, protocol: int) -> None:
    root = write_revisited(revisited_record)
    expected = load_revisited(root)
    (root / "gnd_toy5.pkl").write_bytes(pickle.dumps(revisited_record, protocol))
    assert load_revisited(root) == expected


def test_rows_are_plain_numbers(write_revisited: Write, revisited_record: Record) -> None:
    truth = load_revisited(write_revisited(revisited_record)).ground_truth[1]
    assert {type(row) for row in (*truth.easy, *truth.junk)} == {int}


def test_images_in_folders_below_are_read(write_revisited: Write, revisited_record: Record) -> None:
    revisited_record["imlist"][0] = "halls/hall 0.v1"
    dataset = load_revisited(write_revisited(revisited_record))
    assert dataset.database_ids[0] == "jpg/halls/hall 0.v1.jpg"


def test_a_query_may_be_asked_twice_and_be_in_the_database(write_revisited: Write, revisited_record: Record) -> None:
    revisited_record["qimlist"] = ["hall_0", "hall_0"]
    dataset = load_revisited(write_revisited(revisited_record))
    assert dataset.query_items[0].path == dataset.query_items[1].path == dataset.database_items[0].path


def test_missing_images_are_counted_and_the_first_is_named(write_revisited: Write, revisited_record: Record) -> None:
    root = write_revisited(revisited_record)
    for name in ("tower_q", "hall_1", "other"):
        (root / "jpg" / f"{name}.jpg").unlink()
    with pytest.raises(DatasetError) as caught:
        load_revisited(root)
    assert str(caught.value) == (
        f"3 of 7 images of {root} are missing, the first is {root / 'jpg' / 'tower_q.jpg'}; "
        "put them there, or get the data set again."
    )
    assert len(read_revisited(root / "gnd_toy5.pkl").database_ids) == 5  # the ground truth alone can still be read


@pytest.mark.parametrize("names", [(), ("gnd_a.pkl", "gnd_b.pkl")])
def test_other_folders_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (tmp_path / name).touch()
    for root, kind in ((tmp_path, DatasetError), (tmp_path / "nothing", UsageError)):
        count = len(names) if root == tmp_path else 0
        with pytest.raises(kind) as caught:
            load_revisited(root)
        assert str(caught.value) == (
            f"{root} holds {count} files gnd_*.pkl; a data set in the revisited layout has one, beside jpg/."
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"imlist": NEVER}, " does not hold imlist, qimlist and gnd; it is no ground truth of this layout."),
        ({"imlist": []}, ": imlist is empty; it must name images."),
        ({"qimlist": (), "gnd": []}, ": qimlist is empty; it must name images."),
        ({"imlist": "hall_0"}, ": imlist is no list."),
        ({"imlist": {"hall_0": 1}}, ": imlist is no list."),
        ({"gnd": None}, ": gnd is no list."),
        ({"gnd": np.zeros((2, 2))}, ": gnd is no list."),
        ({"gnd": []}, ": gnd has 0 entries for 2 queries; each query has one."),
        ({"imlist": ["a", "b", "a", "c", "d"]}, ": imlist names 'a' 2 times; each image is listed once."),
    ],
)
def test_lists_that_do_not_belong_together_are_refused(
    write_revisited: Write, revisited_record: Record, change: Record, message: str
) -> None:
    root = write_revisited(revisited_record)
    changed = {key: value for key, value in (revisited_record | change).items() if value is not NEVER}
    (root / "gnd_toy5.pkl").write_bytes(pickle.dumps(changed, protocol=2))
    with pytest.raises(DatasetError) as caught:
        load_revisited(root)
    assert str(caught.value) == f"{root / 'gnd_toy5.pkl'}{message}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"junk": NEVER}, " does not have bbx, easy, hard and junk; get the revisited ground truth."),
        ({"bbx": NEVER}, " does not have bbx, easy, hard and junk; get the revisited ground truth."),
        ({"bbx": None}, ": bbx is no list."),
        ({"bbx": [0, 1, 2]}, ": bbx is not of four finite numbers x0, y0, x1, y1."),
        ({"bbx": [0, 1, 2, 3, 4]}, ": bbx is not of four finite numbers x0, y0, x1, y1."),
        ({"bbx": [0, 1, 2, "3"]}, ": bbx is not of four finite numbers x0, y0, x1, y1."),
        ({"bbx": [0, 1, 2, float("nan")]}, ": bbx is not of four finite numbers x0, y0, x1, y1."),
        ({"bbx": [0, 1, 2, 10**400]}, ": bbx is not of four finite numbers x0, y0, x1, y1."),
        ({"bbx": np.array([0, 1, np.inf, 2])}, ": bbx is not of four finite numbers x0, y0, x1, y1."),
        ({"bbx": np.zeros((1, 4))}, ": bbx is no list."),
        ({"bbx": [5, 1, 5, 2.5]}, ": bbx (5, 1, 5, 2.5) holds nothing."),
        ({"bbx": [0, 3, 5, 2]}, ": bbx (0, 3, 5, 2) holds nothing."),
        ({"easy": 1}, ": easy is no list."),
        ({"easy": [5]}, ": easy names row 5, but there are 5, counted from 0."),
        ({"hard": [1, -1]}, ": hard names row -1, but there are 5, counted from 0."),
        ({"junk": [1.0]}, ": junk holds something else than whole numbers."),
        ({"junk": [True]}, ": junk holds something else than whole numbers."),
        ({"junk": [10**5000]}, ": junk holds something else than whole numbers."),
        ({"junk": np.array([True])}, ": junk holds something else than whole numbers."),
        ({"junk": [1]}, ": a query's ground truth labels database row 1 twice; label it once."),
        ({"easy": [2, 2]}, ": a query's ground truth labels database row 2 twice; label it once."),
    ],
)
def test_ground_truth_that_contradicts_itself_is_refused(
    write_revisited: Write, revisited_record: Record, change: Record, message: str
) -> None:
    changed = {key: value for key, value in (revisited_record["gnd"][0] | change).items() if value is not NEVER}
    revisited_record["gnd"][0] = changed
    root = write_revisited(revisited_record)
    with pytest.raises(DatasetError) as caught:
        load_revisited(root)
    assert str(caught.value) == f"{root / 'gnd_toy5.pkl'}: query 0 (hall_q){message}"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../secret", "'../../secret'"),
        ("a/../../b", "'a/../../b'"),
        ("/etc/passwd", "'/etc/passwd'"),
        ("C:\\x", "'C:\\\\x'"),
        ("..\\x", "'..\\\\x'"),
        ("", "''"),
        (".", "'.'"),
        ("two\nlines", "'two\\nlines'"),
        ("\x1b[2J", "'\\x1b[2J'"),
        ("nul\0", "'nul\\x00'"),
        ("x" * 5000 + "\n", "'" + "x" * 100 + "'"),
        (7, "int"),
        (b"bytes", "bytes"),
        (None, "NoneType"),
    ],
)
@pytest.mark.parametrize("field", ["imlist", "qimlist"])
def test_names_that_lead_elsewhere_are_refused(
    write_revisited: Write, revisited_record: Record, field: str, name: object, shown: str
) -> None:
    root = write_revisited(revisited_record)
    revisited_record[field][1] = name
    (root / "gnd_toy5.pkl").write_bytes(pickle.dumps(revisited_record, protocol=3))
    with pytest.raises(DatasetError) as caught:
        load_revisited(root)
    assert str(caught.value) == (
        f"{root / 'gnd_toy5.pkl'}: {field} names an image {shown}, which cannot be the name of a file in the data set."
    )


class RunsCommand:
    """A pickle of this runs a command when it is loaded without care."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (self.command,))


def test_a_hostile_ground_truth_is_refused(write_revisited: Write, revisited_record: Record, tmp_path: Path) -> None:
    root = write_revisited(revisited_record)
    revisited_record["gnd"].append(RunsCommand(f"touch '{tmp_path / 'it ran'}'"))
    (root / "gnd_toy5.pkl").write_bytes(pickle.dumps(revisited_record, protocol=2))
    with pytest.raises(UnsafePickleError, match="nothing of the file was run"):
        load_revisited(root)
    assert not (tmp_path / "it ran").exists()


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps([1, 2]), pickle.dumps("imlist qimlist gnd")])
def test_other_files_are_no_ground_truth(write_revisited: Write, revisited_record: Record, content: bytes) -> None:
    root = write_revisited(revisited_record)
    (root / "gnd_toy5.pkl").write_bytes(content)
    with pytest.raises(DatasetError, match=r"gnd_toy5\.pkl (cannot be read as a pickle|does not hold imlist)"):
        load_revisited(root)
