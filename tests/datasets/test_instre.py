"""INSTRE as the retrieval literature tests on it, whole and broken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aml_edge.datasets.instre import read_instre
from aml_edge.datasets.loading import load_test_set
from aml_edge.datasets.retrieval_dataset import RetrievalDataset
from aml_edge.errors import DatasetError
from aml_edge.ground_truth import QueryGroundTruth
from aml_edge.image_loading import ImageItem
from aml_edge.protocol import Protocol

Record = dict[str, Any]
Write = Callable[[Record], Path]


def test_a_data_set_is_read(write_instre: Write, instre_record: Record) -> None:
    root = write_instre(instre_record)
    ids = tuple(instre_record["imlist"])
    assert load_test_set(root) == RetrievalDataset(
        name="instre",
        root=root,
        query_items=(
            ImageItem(root / instre_record["qimlist"][0], (1.0, 1.0, 5.0, 4.5)),
            ImageItem(root / instre_record["qimlist"][1], (2.0, 0.0, 8.0, 6.0)),
        ),
        database_items=tuple(ImageItem(root / one) for one in ids),
        database_ids=ids,
        ground_truth=(QueryGroundTruth((1, 0), (), ()), QueryGroundTruth((2,), (), ())),
        protocol=Protocol.INSTANCES,
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ok": [0]}, ": ok names place 0, but there are 3, counted from 1."),
        ({"ok": [4]}, ": ok names place 4, but there are 3, counted from 1."),
        ({"ok": [1.5]}, ": ok holds something else than whole numbers."),
        ({"ok": [1, 1]}, ": a query's ground truth labels database row 0 twice; label it once."),
        ({"bbx": [1, 1, 5]}, ": bbx is not of four finite numbers x0, y0, x1, y1."),
        ({"bbx": [5, 1, 1, 5]}, ": bbx (5, 1, 1, 5) holds nothing."),
    ],
)
def test_broken_answers_are_refused(write_instre: Write, instre_record: Record, change: Record, said: str) -> None:
    instre_record["gnd"][0] |= change
    root = write_instre(instre_record)
    with pytest.raises(DatasetError) as caught:
        read_instre(root)
    query = instre_record["qimlist"][0]
    assert str(caught.value) == f"{root / 'gnd_instre.mat'}: query 0 ({query}){said}"


def test_broken_lists_are_refused(write_instre: Write, instre_record: Record) -> None:
    def refusal(**changes: object) -> str:
        root = write_instre(instre_record | changes)
        with pytest.raises(DatasetError) as caught:
            read_instre(root)
        return str(caught.value).removeprefix(f"{root / 'gnd_instre.mat'}")

    names = instre_record["imlist"]
    outside = "which cannot be the name of a file in the data set."
    assert refusal(qimlist=["a.jpg"]) == ": gnd has 2 entries for 1 queries; each query has one."
    assert refusal(imlist=[*names, names[0]]) == f": imlist names {names[0]!r} 2 times; each image is listed once."
    assert refusal(imlist=["../a.jpg"]) == f": imlist names an image '../a.jpg', {outside}"
    assert refusal(gnd=[{"ok": [1]}, {"ok": [1]}]) == (
        f": query 0 ({instre_record['qimlist'][0]}) does not have ok and bbx; get the ground truth again."
    )


def test_another_matlab_file_is_no_ground_truth(write_instre: Write, instre_record: Record) -> None:
    from scipy.io import savemat

    root = write_instre(instre_record)
    savemat(root / "gnd_instre.mat", {"imlist": "a"})
    with pytest.raises(DatasetError, match="does not hold imlist, qimlist and gnd; it is no ground truth of INSTRE"):
        read_instre(root)
    (root / "gnd_instre.mat").write_bytes(b"no MATLAB file")
    with pytest.raises(DatasetError, match="has no header of the Level 5 format"):
        read_instre(root)


def test_missing_images_are_counted(write_instre: Write, instre_record: Record) -> None:
    root = write_instre(instre_record)
    (root / instre_record["qimlist"][1]).unlink()
    with pytest.raises(DatasetError, match=r"1 of 5 images of .* are missing, the first is .*INSTRE-M/50/100\.jpg"):
        load_test_set(root)
