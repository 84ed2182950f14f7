"""MATLAB files, written by SciPy, read back, cut off, changed byte by byte, and made to burst."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from aml_edge.datasets import mat_file
from aml_edge.datasets.mat_file import read_mat
from aml_edge.errors import DatasetError

HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"
NOTHING_TO_READ = "it is no MATLAB file that can be read here, get it again."


def variables() -> dict[str, Any]:
    cells = np.empty((1, 3), object)
    cells[0, :] = ["a/1.jpg", "", np.array([[1.0, 2.0], [3.0, 4.0]])]
    records = np.zeros((1, 2), [("ok", object), ("bbx", object)])
    for place in range(2):
        records[0, place] = (np.array([[3.0, 1.0]]), np.array([[0.5, 1.0, 2.0, 7.25]]))
    return {
        "cells": cells,
        "records": records,
        "bytes": np.array([[1, 255]], np.uint8),
        "large": np.array([[-(2**40)]], np.int64),
        "nothing": np.zeros((0, 0)),
        "text": "Kuchen für 5 ☂",
        "not_finite": np.array([[np.inf, 1.0]]),
        "single": np.array([[1.5]], np.float32),
        "true": np.array([[True]]),
    }


@pytest.mark.parametrize("compressed", [False, True])
def test_what_scipy_writes_is_read(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "a.mat"
    savemat(path, variables(), do_compression=compressed)
    record = {"ok": (3, 1), "bbx": (0.5, 1.0, 2.0, 7.25)}
    assert read_mat(path) == {
        "cells": ("a/1.jpg", "", (1, 3, 2, 4)),  # column by column
        "records": (record, record),
        "bytes": (1, 255),
        "large": (-(2**40),),
        "nothing": (),
        "text": "Kuchen für 5 ☂",
        "not_finite": (np.inf, 1.0),
        "single": (1.5,),
        "true": (1,),
    }


def test_whole_numbers_come_as_such(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"rows": np.array([[1.0, 300.0]]), "box": np.array([[1.0, 0.5]])})
    content = read_mat(tmp_path / "a.mat")
    assert [type(value) for value in (*content["rows"], *content["box"])] == [int, int, float, float]  # type: ignore[misc]


def element(kind: int, content: bytes, order: str = "<") -> bytes:
    padding = 0 if kind == 15 else -len(content) % 8  # compressed elements have none
    return struct.pack(f"{order}II", kind, len(content)) + content + bytes(padding)


def variable(kind: int, *values: bytes, sides: tuple[int, ...] = (1, 1), order: str = "<") -> bytes:
    head = element(6, struct.pack(f"{order}II", kind, 0), order)
    head += element(5, struct.pack(f"{order}{len(sides)}i", *sides), order) + element(1, b"x", order)
    return element(14, head + b"".join(values), order)


def test_the_other_byte_order_is_read(tmp_path: Path) -> None:
    """Written by hand: 16-bit text, and numbers of 16 bits that stand in their tag."""
    header = HEADER[:124] + struct.pack(">H", 0x0100) + b"MI"
    text = variable(4, element(4, "ä☂".encode("utf-16-be"), ">"), sides=(1, 2), order=">")
    short = variable(6, struct.pack(">HH2h", 4, 3, 5, -6), sides=(1, 2), order=">")
    for content, value in ((text, "ä☂"), (short, (5, -6))):
        (tmp_path / "a.mat").write_bytes(header + content)
        assert read_mat(tmp_path / "a.mat") == {"x": value}


def cells_in_cells(depth: int) -> bytes:
    inner = variable(6, element(9, struct.pack("<d", 1.0)))
    for _ in range(depth):
        inner = variable(1, inner)
    return inner


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "has no header of the Level 5 format"),
        (b"x" * 200, "has no header of the Level 5 format"),
        (HEADER[:124] + struct.pack("<H", 0x0200) + b"IM", "is of version 2.0, not of 1.0 (save -v7 writes that)"),
        (HEADER + b"abc", "ends within an element"),
        (HEADER + struct.pack("<II", 14, 8), "ends within an element"),
        (HEADER + struct.pack("<HH", 9, 5) + bytes(4), "holds a short element that is too long"),
        (HEADER + element(9, bytes(8)), "holds an element of type 9 where a variable belongs"),
        (HEADER + element(14, element(6, bytes(8))), "holds a variable without flags, dimensions and name"),
        (
            HEADER + element(14, element(6, bytes(4)) + element(5, bytes(8)) + element(1, b"")),
            "holds a variable with broken flags",
        ),
        (HEADER + variable(6, element(9, bytes(8)), sides=(1,)), "holds an array with broken dimensions"),
        (HEADER + variable(6, element(9, bytes(8)), sides=(-1, -1)), "holds an array with broken dimensions"),
        (HEADER + variable(6, element(9, bytes(8)), sides=(9, 9)), "holds an array of 81 numbers in 8 bytes"),
        (HEADER + variable(6, element(8, bytes(8))), "holds an array of 1 numbers in 8 bytes"),
        (HEADER + variable(5, element(9, bytes(8))), "holds a variable 'x' of class 5, which no ground truth needs"),
        (HEADER + variable(1, sides=(9, 9)), "holds 0 values where 81 belong"),
        (HEADER + variable(4, element(17, b"abc")), "holds text of type 17 that cannot be read"),
        (HEADER + variable(4, element(9, bytes(8))), "holds text of type 9 that cannot be read"),
        (HEADER + variable(2, element(5, bytes(4)), element(1, b"ab")), "holds a structure with broken field names"),
        (HEADER + cells_in_cells(9), "nests cells more than 8 deep"),
        (HEADER + element(15, b"no zlib"), "holds a compressed variable that is damaged"),
        (HEADER + element(15, zlib.compress(b"")), "holds a compressed element that is not one variable"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "a.mat"
    path.write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        read_mat(path)
    assert str(caught.value) == f"{path} {said}; {NOTHING_TO_READ}"


def test_cells_may_be_nested(tmp_path: Path) -> None:
    (tmp_path / "a.mat").write_bytes(HEADER + cells_in_cells(8))
    expected: tuple[object, ...] = (1,)
    for _ in range(8):
        expected = (expected,)
    assert read_mat(tmp_path / "a.mat") == {"x": expected}


def test_a_file_that_is_missing_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"a\.mat cannot be read: No such file or directory\."):
        read_mat(tmp_path / "a.mat")


def test_what_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mat"
    bomb = element(15, zlib.compress(element(14, bytes(2**26))))
    assert len(bomb) < 100_000
    path.write_bytes(HEADER + bomb)
    with pytest.raises(DatasetError, match="holds more than 33554432 bytes, compressed"):
        read_mat(path)
    monkeypatch.setattr(mat_file, "MOST_ELEMENTS", 1000)
    crumbs = element(15, zlib.compress(bytes(8) * 1000))
    path.write_bytes(HEADER + crumbs)
    with pytest.raises(DatasetError, match="holds 1000 elements or more"):
        read_mat(path)
    monkeypatch.setattr(mat_file, "MOST_BYTES", 1000)
    path.write_bytes(HEADER + bytes(1000))
    with pytest.raises(DatasetError, match="is larger than 1000 bytes"):
        read_mat(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_file_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "a.mat"
    if not path.exists():
        savemat(path, variables())
    content = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    changed = tmp_path / "changed.mat"
    changed.write_bytes(content[: data.draw(st.sampled_from([len(content), len(content) - 5, 300]))])
    try:
        read_mat(changed)
    except DatasetError as problem:
        assert str(problem).startswith(f"{changed} ")
