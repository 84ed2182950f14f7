"""Vectors of a `.npz` file: arrays and ids come back; hostile and broken archives are refused before they are read."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from aml_edge.errors import ForeignIndexError, UsageError
from aml_edge.vectors.npz_vectors import NpzVectors, is_npz
from aml_edge.vectors.source import SourceOptions


def opened(path: Path, key: str | None = None, ids_key: str | None = None) -> NpzVectors:
    assert is_npz(str(path))
    return NpzVectors(str(path), SourceOptions(key=key, ids_key=ids_key))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.usefixtures("three_rows_at_once")
def test_rows_and_ids_come_back(
    tmp_path: Path,
    vectors: npt.NDArray[np.float32],
    names: tuple[str, ...],
    read_all: Callable[..., Any],
    save: Callable[..., None],
) -> None:
    save(tmp_path / "v.npz", vectors=vectors, names=np.array(names), numbers=np.arange(7) * 3, mean=np.zeros(4))
    read = read_all(opened(tmp_path / "v.npz", ids_key="names"))
    assert read.rows.tolist() == vectors.tolist()
    assert (read.ids, read.blocks) == (names, (3, 3, 1))
    assert read.description.kind == "NumPy archive, array 'vectors'"
    assert read_all(opened(tmp_path / "v.npz", ids_key="numbers")).ids == ("0", "3", "6", "9", "12", "15", "18")
    unnamed = read_all(opened(tmp_path / "v.npz"))
    assert unnamed.ids is None
    assert unnamed.description.other_ids == "name its array of ids with --ids-key (names, numbers)"


def test_ids_may_be_bytes(tmp_path: Path, vectors: npt.NDArray[np.float32], read_all: Callable[..., Any]) -> None:
    np.savez(tmp_path / "v.npz", v=vectors, i=np.array([f"ä{number}".encode() for number in range(7)]))
    assert read_all(opened(tmp_path / "v.npz", ids_key="i")).ids == tuple(f"ä{number}" for number in range(7))


def test_the_key_chooses_among_several(
    tmp_path: Path, vectors: npt.NDArray[np.float32], read_all: Callable[..., Any]
) -> None:
    np.savez(tmp_path / "v.npz", a=vectors, b=vectors.astype(np.float16) * 2)
    assert read_all(opened(tmp_path / "v.npz", "b")).rows.tolist() == (vectors.astype(np.float16) * 2).tolist()
    with pytest.raises(UsageError) as several:
        opened(tmp_path / "v.npz")
    assert str(several.value) == (
        f"{tmp_path / 'v.npz'} holds several arrays of vectors (a: (7, 4) float32, b: (7, 4) float16); name one with "
        "--key."
    )
    with pytest.raises(UsageError) as unknown:
        opened(tmp_path / "v.npz", "c")
    assert str(unknown.value) == (
        f"`key` is 'c', which is no array of (N, D) numbers in {tmp_path / 'v.npz'} (a: (7, 4) float32, b: (7, 4) "
        "float16)."
    )


@pytest.mark.parametrize(
    ("ids", "found"),
    [
        (np.arange(6), "(6,) int64"),
        (np.zeros(7), "(7,) float64"),
        (np.array([[1]] * 7), "(7, 1) int64"),
        (np.array(["a"] * 7, object), "(7,) object"),
        (None, "not there"),
    ],
)
def test_ids_must_be_one_a_row(
    tmp_path: Path, vectors: npt.NDArray[np.float32], ids: npt.NDArray[Any] | None, found: str
) -> None:
    np.savez(tmp_path / "v.npz", allow_pickle=True, v=vectors, **({} if ids is None else {"i": ids}))
    with pytest.raises(UsageError) as refusal:
        opened(tmp_path / "v.npz", ids_key="i")
    assert str(refusal.value) == (
        f"`ids_key` is 'i', which is {found} in {tmp_path / 'v.npz'}; it must be 7 texts or whole numbers: name "
        "another array, or give a file with --ids."
    )


def part(content: bytes, **how: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", **how) as archive:
            archive.writestr("v.npy", content)

    return write


def array(values: npt.NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=True)
    return stream.getvalue()


def flipped(path: Path) -> None:
    """Changes a value, which the archive's own sum finds."""
    np.savez(path, v=np.ones((3, 4), np.float32))
    content = bytearray(path.read_bytes())
    content[content.index(np.float32(1).tobytes() * 12) + 2] ^= 1
    path.write_bytes(content)


def torn(path: Path) -> None:
    np.savez(path, v=np.ones((3, 4), np.float32))
    path.write_bytes(path.read_bytes()[:-30])


def locked(path: Path) -> None:
    """Marks a part as encrypted."""
    np.savez(path, v=np.ones((3, 4), np.float32))
    content = bytearray(path.read_bytes())
    for place in (6, content.index(b"PK\x01\x02") + 8):
        content[place] |= 1
    path.write_bytes(content)


ONES = array(np.ones((3, 4), np.float32))
DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "torn": (torn, "cannot be read: File is not a zip file"),
    "flipped": (flipped, "cannot be read: Bad CRC-32"),
    "encrypted": (locked, "cannot be read: File 'v.npy' is encrypted"),
    "part torn": (part(ONES[:-4]), "'v.npy' has 172 bytes, which (3, 4) float32 does not have"),
    "part too long": (part(ONES + b"more"), "'v.npy' has 180 bytes, which (3, 4) float32 does not have"),
    "no array": (part(b"text"), "cannot be read: "),
    "objects": (part(array(np.array([["a"]], object))), "holds no array of (N, D) numbers (v: (1, 1) object)"),
    "one row": (part(array(np.zeros(4))), "holds no array of (N, D) numbers (v: (4,) float64)"),
    "columns first": (
        part(array(np.asfortranarray(np.ones((3, 4), np.float32)))),
        "'v' lies column by column, which numpy.ascontiguousarray changes",
    ),
    "bomb": (
        part(array(np.zeros((4000, 1000), np.float32)), compression=zipfile.ZIP_DEFLATED),
        "'v.npy' is 16000128 bytes in ",
    ),
    "nothing": (lambda path: zipfile.ZipFile(path, "w").close(), "holds no array of (N, D) numbers (no array)"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE.keys())
def test_other_archives_are_refused_by_name(
    tmp_path: Path, read_all: Callable[..., Any], damage: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / "v.npz"
    damage(path)
    with pytest.raises(ForeignIndexError) as refusal:
        read_all(NpzVectors(str(path), SourceOptions()))
    assert str(refusal.value).startswith(f"{path} ")
    assert message in str(refusal.value)
