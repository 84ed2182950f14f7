"""Vectors of a `.npy` file: every layout comes back as it was, and every other file is refused by name."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from aml_edge.errors import ForeignIndexError
from aml_edge.vectors.npy_vectors import NpyVectors, is_npy
from aml_edge.vectors.source import SourceOptions


def opened(path: Path) -> NpyVectors:
    assert is_npy(str(path))
    return NpyVectors(str(path), SourceOptions())


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.usefixtures("three_rows_at_once")
def test_rows_come_back(
    tmp_path: Path, vectors: npt.NDArray[np.float32], read_all: Callable[..., Any], dtype: str, order: str
) -> None:
    stored = vectors.astype(dtype)
    np.save(tmp_path / "v.npy", stored if order == "C" else np.asfortranarray(stored))
    read = read_all(opened(tmp_path / "v.npy"))
    assert read.rows.tolist() == stored.tolist()
    assert (read.description.count, read.description.dimension, read.ids) == (7, 4, None)
    assert read.description.dtype == np.dtype(dtype).name
    assert read.blocks == {2: (6, 1), 4: (3, 3, 1), 8: (1,) * 7}[np.dtype(dtype).itemsize]


def test_a_header_of_version_2_is_read(
    tmp_path: Path, vectors: npt.NDArray[np.float32], read_all: Callable[..., Any]
) -> None:
    with (tmp_path / "v.npy").open("wb") as stream:
        np.lib.format.write_array(stream, vectors, version=(2, 0))
    assert read_all(opened(tmp_path / "v.npy")).rows.tolist() == vectors.tolist()


@pytest.mark.usefixtures("three_rows_at_once")
def test_a_file_that_is_cut_meanwhile_is_refused(
    tmp_path: Path, vectors: npt.NDArray[np.float32], read_all: Callable[..., Any]
) -> None:
    path = tmp_path / "v.npy"
    np.save(path, vectors)
    source = opened(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ForeignIndexError, match="became shorter while it was read; import it again"):
        read_all(source)


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (pytest.fail, ("a pickle was executed",))


def header(text: str, *, version: bytes = b"\x01\x00", values: int = 48) -> Callable[[Path], object]:
    content = b"\x93NUMPY" + version + (len(text) + 1).to_bytes(2, "little") + text.encode() + b"\n" + bytes(values)
    return lambda path: path.write_bytes(content)


def saved(array: npt.NDArray[Any]) -> Callable[[Path], object]:
    return lambda path: np.save(path, array, allow_pickle=True)


def twice(path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, np.zeros((3, 4), np.float32))
        np.save(stream, np.zeros((3, 4), np.float32))


def torn(path: Path) -> None:
    np.save(path, np.zeros((3, 4), np.float32))
    path.write_bytes(path.read_bytes()[:-1])


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "torn": (torn, "has 175 bytes, which (3, 4) float32 does not have; it is cut short or holds more than one array"),
    "two arrays": (twice, "has 352 bytes, which (3, 4) float32 does not have"),
    "one row": (saved(np.zeros(4, np.float32)), "holds (4,) float32; vectors are an array of (N, D) float16, float32"),
    "three axes": (saved(np.zeros((2, 3, 4), np.float32)), "holds (2, 3, 4) float32; vectors are"),
    "no row": (saved(np.zeros((0, 4), np.float32)), "float16, float32 or float64: there is none in it."),
    "whole numbers": (
        saved(np.zeros((2, 3), np.int8)),
        "holds (2, 3) int8; vectors are an array of (N, D) float16, float32 or float64: save them as they were before "
        "they became whole numbers.",
    ),
    "objects": (saved(np.array([[Bomb()]], object)), "holds (1, 1) object; vectors are"),
    "columns with names": (saved(np.zeros((2, 3), [("a", "f4")])), "holds (2, 3) [('a', '<f4')]; vectors are"),
    "nonsense": (header("{[]: 1}"), "cannot be read: "),
    "deep": (header("(" * 5000), "cannot be read: "),
    "long": (header(" " * 60_000), "cannot be read: "),
    "version 3": (header("{}", version=b"\x03\x00"), "it is of version 3.0, and 1.0 and 2.0 are read"),
    "header torn": (lambda path: path.write_bytes(b"\x93NUMPY\x01\x00\xff\x00{"), "cannot be read: EOF"),
    "without end": (
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (" + str(2**80) + ", 4)}"),
        "has 140 bytes, which (1208925819614629174706176, 4) float32 does not have",
    ),
    "below zero": (
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (-3, -4)}"),
        "cannot be read: its header says a shape of (-3, -4)",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE.keys())
def test_other_files_are_refused_by_name(tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    path = tmp_path / "v.npy"
    damage(path)
    with pytest.raises(ForeignIndexError) as refusal:
        opened(path)
    assert str(refusal.value).startswith(f"{path} ")
    assert message in str(refusal.value)


def test_a_pickle_is_no_array(tmp_path: Path) -> None:
    (tmp_path / "v.npy").write_bytes(pickle.dumps(Bomb()))
    assert not is_npy(str(tmp_path / "v.npy"))
    assert not is_npy(str(tmp_path))
