"""Small data sets in their published layouts, with real image files."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

RevisitedRecord = dict[str, Any]
SfmRecord = dict[str, dict[str, Any]]
InstreRecord = dict[str, Any]


def write_image(path: Path, colour: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (colour, colour, colour)).save(path, "JPEG")


@pytest.fixture
def revisited_record() -> RevisitedRecord:
    """Two queries, five database images, as lists and as NumPy arrays."""
    return {
        "imlist": ["hall_0", "hall_1", "tower_0", "tower_1", "other"],
        "qimlist": ["hall_q", "tower_q"],
        "gnd": [
            {"bbx": np.array([0.5, 1.0, 7.5, 6.0]), "easy": [0], "hard": [1], "junk": []},
            {"bbx": [1, 1, 5, 4], "easy": np.array([2]), "hard": np.zeros(0, np.int64), "junk": np.array([3, 0])},
        ],
    }


@pytest.fixture
def sfm_record() -> SfmRecord:
    """Six training images of two clusters, two of validation."""
    return {
        "train": {
            "cids": [f"{number}0112233445566778899aabbccddeeff" for number in range(6)],
            "cluster": [7, 7, 7, 9, 9, 9],
            "qidxs": np.array([0, 1, 3]),
            "pidxs": [1, 2, 5],
        },
        "val": {"cids": ["a" * 32, "b" * 32], "cluster": [1, 1], "qidxs": [0], "pidxs": [1]},
    }


@pytest.fixture
def write_revisited(tmp_path: Path) -> Callable[[RevisitedRecord], Path]:
    """Returns a function that writes a record and an image for each of its names, and returns the folder."""

    def write(record: RevisitedRecord) -> Path:
        root = tmp_path / "toy5"
        for number, name in enumerate((*record["imlist"], *record["qimlist"])):
            write_image(root / "jpg" / f"{name}.jpg", number)
        (root / "gnd_toy5.pkl").write_bytes(pickle.dumps(record, protocol=2))
        return root

    return write


@pytest.fixture
def write_sfm(tmp_path: Path) -> Callable[[SfmRecord], Path]:
    """As `write_revisited`, for the other layout."""

    def write(record: SfmRecord) -> Path:
        root = tmp_path / "toy-SfM"
        for split in record.values():
            for number, cid in enumerate(split["cids"]):
                write_image(root / "ims" / cid[30:32] / cid[28:30] / cid[26:28] / cid, number)
        (root / "toy-SfM.pkl").write_bytes(pickle.dumps(record, protocol=2))
        return root

    return write


@pytest.fixture
def distractors(tmp_path: Path) -> Path:
    """R1M as it is published, three images long: names with suffix, in folders below `jpg/`."""
    root = tmp_path / "revisitop1m"
    names = ("00/0a1b.jpg", "00/0c2d.jpg", "ff/1e2f.jpg")
    for number, name in enumerate(names):
        write_image(root / "jpg" / name, number)
    (root / "revisitop1m.txt").write_text("\n".join(names) + "\n")
    return root


@pytest.fixture
def instre_record() -> InstreRecord:
    """Two queries, three database images; places are counted from 1, as MATLAB does."""
    return {
        "imlist": ["INSTRE-S1/01a_canada_book/001.jpg", "INSTRE-S1/01a_canada_book/002.jpg", "INSTRE-M/50/107.jpg"],
        "qimlist": ["INSTRE-S1/01a_canada_book/013.jpg", "INSTRE-M/50/100.jpg"],
        "gnd": [{"ok": [2, 1], "bbx": [1, 1, 5, 4.5]}, {"ok": [3], "bbx": [2, 0, 8, 6]}],
    }


@pytest.fixture
def write_instre(tmp_path: Path) -> Callable[[InstreRecord], Path]:
    """As `write_revisited`, for INSTRE; the ground truth is written by SciPy."""
    from scipy.io import savemat

    def cells(values: list[Any]) -> Any:
        row = np.empty((1, len(values)), object)
        row[0, :] = values
        return row

    def write(record: InstreRecord) -> Path:
        root = tmp_path / "instre"
        for number, name in enumerate((*record["imlist"], *record["qimlist"])):
            write_image(root / name, number)
        kinds = [(name, object) for name in record["gnd"][0]]
        gnd = np.zeros((1, len(record["gnd"])), kinds)
        for place, one in enumerate(record["gnd"]):
            for name, value in one.items():
                gnd[0, place][name] = np.array([value], float)
        lists = {name: cells(record[name]) for name in ("imlist", "qimlist")}
        savemat(root / "gnd_instre.mat", {**lists, "gnd": gnd}, do_compression=True)
        return root

    return write


@pytest.fixture
def landmarks(tmp_path: Path) -> Path:
    """Google Landmarks v2: two landmarks to train on, a database of four, one query of each Usage."""
    root = tmp_path / "gldv2"
    train, index = ([f"{digit}{letter}" + 14 * "0" for digit in "0123"] for letter in "ab")
    test = [f"{digit}c" + 14 * "0" for digit in "012"]
    for folder, ids in (("train", train), ("index", index), ("test", test)):
        for number, one in enumerate(ids):
            write_image(root / folder / one[0] / one[1] / one[2] / f"{one}.jpg", number)
    (root / "train" / "train_clean.csv").write_text(
        f"landmark_id,images\n7,{train[0]} {train[2]} {train[1]}\n9,{train[3]}\n"
    )
    (root / "metadata").mkdir()
    (root / "metadata" / "index.csv").write_text("\n".join(["id", *reversed(index)]) + "\n")
    (root / "ground_truth").mkdir()
    answers = f"{test[0]},{index[1]} {index[3]},Public\n{test[1]},None,Ignored\n{test[2]},{index[0]},Private\n"
    (root / "ground_truth" / "retrieval_solution_v2.1.csv").write_text(f"id,images,Usage\n{answers}")
    return root


@pytest.fixture
def products(tmp_path: Path) -> Path:
    """Stanford Online Products: two products to train on, two to test on, the last of one image."""
    root = tmp_path / "Stanford_Online_Products"
    lists = {
        "train": [
            (1, 1, 1, "bicycle_final/1_0.JPG"),
            (2, 1, 1, "bicycle_final/1_1.JPG"),
            (3, 2, 2, "chair_final/2_0.JPG"),
        ],
        "test": [
            (4, 11319, 1, "bicycle_final/3_0.JPG"),
            (5, 11319, 1, "bicycle_final/3_1.JPG"),
            (6, 11319, 1, "bicycle_final/3_2.JPG"),
            (7, 11320, 2, "chair_final/4_0.JPG"),
        ],
    }
    for split, lines in lists.items():
        for number, (*_, path) in enumerate(lines):
            write_image(root / path, number)
        text = "".join(" ".join(map(str, line)) + "\n" for line in lines)
        (root / f"Ebay_{split}.txt").write_text(f"image_id class_id super_class_id path\n{text}")
    return root


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    """CUB-200-2011: class 100 is the last to train on, 101 the first to test on."""
    root = tmp_path / "CUB_200_2011"
    images = [
        (1, 1, "001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg"),
        (2, 1, "001.Black_footed_Albatross/Black_Footed_Albatross_0009_34.jpg"),
        (3, 100, "100.Brown_Pelican/Brown_Pelican_0122_94022.jpg"),
        (4, 101, "101.White_Pelican/White_Pelican_0044_97244.jpg"),
        (5, 101, "101.White_Pelican/White_Pelican_0025_97604.jpg"),
        (6, 200, "200.Common_Yellowthroat/Common_Yellowthroat_0049_190708.jpg"),
        (7, 200, "200.Common_Yellowthroat/Common_Yellowthroat_0055_190967.jpg"),
    ]
    for number, _, path in images:
        write_image(root / "images" / path, number)
    (root / "images.txt").write_text("".join(f"{number} {path}\n" for number, _, path in images))
    (root / "image_class_labels.txt").write_text("".join(f"{number} {label}\n" for number, label, _ in images))
    (root / "train_test_split.txt").write_text("".join(f"{number} {number % 2}\n" for number, _, _ in images))
    return root


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """A plain folder of three classes, of which one has a single image."""
    root = tmp_path / "parts"
    for number, name in enumerate(
        ("bolt/a.jpg", "bolt/b.jpg", "nut/c.jpg", "screw/a.jpg", "screw/b.jpg", "screw/d.jpg")
    ):
        write_image(root / name, number)
    return root
