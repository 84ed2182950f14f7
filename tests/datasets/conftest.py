"""Small data sets in both published layouts, with real image files."""

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
