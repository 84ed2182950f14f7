"""Vectors of a Parquet column: every kind of list comes back, in blocks; ragged and missing ones are named."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aml_edge.errors import ForeignIndexError, MissingExtraError, UsageError
from aml_edge.vectors.parquet_vectors import ParquetVectors, is_parquet
from aml_edge.vectors.source import SourceOptions


def opened(path: Path, column: str | None = None, id_column: str | None = None) -> ParquetVectors:
    assert is_parquet(str(path))
    return ParquetVectors(str(path), SourceOptions(column=column, id_column=id_column))


def lists(vectors: npt.NDArray[Any], kind: str) -> Any:
    """Returns a column of (N, D) in one of Arrow's ways."""
    flat = pa.array(vectors.ravel())
    if kind == "fixed":
        return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    offsets = np.arange(len(vectors) + 1) * vectors.shape[1]
    if kind == "large":
        return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), flat)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("kind", ["fixed", "list", "large"])
@pytest.mark.usefixtures("three_rows_at_once")
def test_rows_and_ids_come_back(
    tmp_path: Path,
    vectors: npt.NDArray[np.float32],
    names: tuple[str, ...],
    read_all: Callable[..., Any],
    kind: str,
    dtype: str,
) -> None:
    stored = vectors.astype(dtype)
    table = pa.table({"path": names, "number": np.arange(7), "embedding": lists(stored, kind)})
    pq.write_table(table, tmp_path / "v.parquet", row_group_size=2)
    read = read_all(opened(tmp_path / "v.parquet", id_column="path"))
    assert read.rows.tolist() == stored.tolist()
    assert read.ids == names
    assert (read.description.count, read.description.dimension, read.description.dtype) == (7, 4, dtype)
    assert read.description.kind == "Parquet, column 'embedding'"
    assert max(read.blocks) <= {"float16": 6, "float32": 3, "float64": 1}[dtype]
    unnamed = read_all(opened(tmp_path / "v.parquet"))
    assert unnamed.ids is None
    assert unnamed.description.other_ids == "name its column of ids with --id-column (path, number)"
    assert read_all(opened(tmp_path / "v.parquet", id_column="number")).ids == tuple("0123456")


def test_a_folder_is_read_in_the_order_of_its_names(
    tmp_path: Path, vectors: npt.NDArray[np.float32], names: tuple[str, ...], read_all: Callable[..., Any]
) -> None:
    folder = tmp_path / "table"
    (folder / "day=2").mkdir(parents=True)
    for part, rows in (("day=2/b.parquet", slice(5, 7)), ("a.parquet", slice(0, 2)), ("b.parquet", slice(2, 5))):
        pq.write_table(pa.table({"id": names[rows], "v": lists(vectors[rows], "fixed")}), folder / part)
    (folder / "_SUCCESS").touch()
    source = opened(folder, id_column="id")
    assert [file.relative_to(folder).as_posix() for file in source.files] == [
        "a.parquet",
        "b.parquet",
        "day=2/b.parquet",
    ]
    read = read_all(source)
    assert read.rows.tolist() == vectors.tolist()
    assert (read.ids, read.description.name) == (names, "table")


ALONE = """
import sys
from contextlib import closing
from aml_edge.vectors.parquet_vectors import ParquetVectors
from aml_edge.vectors.source import SourceOptions
with closing(ParquetVectors(sys.argv[1], SourceOptions())) as source:
    print(sum(len(block.rows) for block in source.blocks()))
"""


def test_it_imports_all_of_pyarrow_that_it_needs(tmp_path: Path, vectors: npt.NDArray[np.float32]) -> None:
    """In a process of its own, where no other test has imported more."""
    pq.write_table(pa.table({"v": lists(vectors, "list")}), tmp_path / "v.parquet")
    told = subprocess.run([sys.executable, "-c", ALONE, tmp_path / "v.parquet"], capture_output=True, text=True)
    assert (told.stdout, told.stderr) == ("7\n", "")


def test_dictionaries_of_texts_are_ids(
    tmp_path: Path, vectors: npt.NDArray[np.float32], names: tuple[str, ...], read_all: Callable[..., Any]
) -> None:
    ids = pa.array(names).dictionary_encode()
    pq.write_table(pa.table({"id": ids, "v": lists(vectors, "list")}), tmp_path / "v.parquet")
    assert read_all(opened(tmp_path / "v.parquet", id_column="id")).ids == names


def test_columns_must_be_named_where_several_could_be_meant(
    tmp_path: Path, vectors: npt.NDArray[np.float32], read_all: Callable[..., Any]
) -> None:
    path = tmp_path / "v.parquet"
    table = {"id": list("abcdefg"), "a": lists(vectors, "list"), "b": lists(vectors * 2, "fixed")}
    pq.write_table(pa.table(table), path)
    held = "id: string, a: list<element: float>, b: fixed_size_list<element: float>[4]"
    assert read_all(opened(path, "b")).rows.tolist() == (vectors * 2).tolist()
    for options, said in (
        ({}, f"{path} has several columns of vectors ({held}); name one with --column."),
        ({"column": "id"}, f"`column` is 'id', which is no column of lists of numbers in {path} ({held})."),
        (
            {"column": "a", "id_column": "b"},
            "`id_column` is 'b', which is no column of texts or whole numbers (id).",
        ),
    ):
        with pytest.raises(UsageError) as refusal:
            opened(path, **options)
        assert str(refusal.value) == said


def write(**columns: Any) -> Callable[[Path], None]:
    return lambda path: pq.write_table(pa.table(columns), path)


def torn(path: Path) -> None:
    pq.write_table(pa.table({"v": [[1.0]]}), path)
    path.write_bytes(path.read_bytes()[:-9])


def garbled(path: Path) -> None:
    pq.write_table(pa.table({"v": lists(np.random.default_rng(0).normal(size=(500, 4)), "list")}), path)
    content = bytearray(path.read_bytes())
    content[4:60] = bytes(56)
    path.write_bytes(content)


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "torn": (torn, "cannot be read: Parquet magic bytes not found in footer"),
    "garbled": (garbled, "cannot be read: "),
    "ragged": (write(v=[[1.0, 2.0], [3.0, 4.0], [5.0]]), "row 2 has 1 values, and the first one 2; write it again."),
    "a list missing": (write(v=[[1.0, 2.0], None]), "row 1 has 0 values, and the first one 2"),
    "a value missing": (write(v=[[1.0, 2.0], [3.0, None]]), "row 1 has a value that is missing"),
    "empty first": (write(v=[[], [1.0]]), "begins with an empty vector; leave such rows out."),
    "whole numbers": (write(v=[[1, 2]]), "has no column of lists of float16, float32 or float64 (v: list<element: int"),
    "no list": (write(v=[1.0]), "has no column of lists of float16, float32 or float64 (v: double)"),
    "no row": (write(v=pa.array([], pa.list_(pa.float32()))), "has no row; write vectors into it first."),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE.keys())
def test_other_tables_are_refused_by_name(
    tmp_path: Path, read_all: Callable[..., Any], damage: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / "v.parquet"
    damage(path)
    with pytest.raises(ForeignIndexError) as refusal:
        read_all(ParquetVectors(str(path), SourceOptions()))
    assert str(refusal.value).startswith(f"{path} ")
    assert message in str(refusal.value)


def test_a_table_that_only_says_that_it_has_rows_is_refused(
    tmp_path: Path, vectors: npt.NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by fuzzing: the footer counts rows that no group has; here the groups are hidden instead."""
    pq.write_table(pa.table({"v": lists(vectors, "list")}), tmp_path / "v.parquet")
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", lambda *arguments, **options: iter(()))
    with pytest.raises(ForeignIndexError) as caught:
        opened(tmp_path / "v.parquet")
    assert str(caught.value) == (
        f"{tmp_path / 'v.parquet'} cannot be read: it has no rows, but says that it has; write it again."
    )


def test_a_missing_id_is_named(tmp_path: Path, read_all: Callable[..., Any]) -> None:
    write(id=["a", None], v=[[1.0], [2.0]])(tmp_path / "v.parquet")
    with pytest.raises(ForeignIndexError, match="row 1 has no id in 'id'; write it again"):
        read_all(opened(tmp_path / "v.parquet", id_column="id"))


def test_files_of_a_folder_have_the_same_columns(tmp_path: Path) -> None:
    write(v=[[1.0]])(tmp_path / "a.parquet")
    write(v=[[1.0]], more=[1])(tmp_path / "b.parquet")
    with pytest.raises(ForeignIndexError, match=r"b\.parquet cannot be read: its columns are not those of a\.parquet"):
        opened(tmp_path)


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(v=[[1.0]])(tmp_path / "v.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"reading a Parquet file needs pyarrow, .*'aml-edge\[parquet\]'"):
        opened(tmp_path / "v.parquet")
