"""The record of an approximate index: what is written comes back, anything else is refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from aml_edge.approximate.record import (
    ApproximateRecord,
    approximate_path,
    embeddings_sha256,
    read_record,
    read_records,
    require_made_from,
)
from aml_edge.errors import TeacherIndexError, UsageError
from aml_edge.files import file_sha256
from aml_edge.index import TeacherIndex

RECORD = ApproximateRecord(
    factory="IVF16,Flat",
    parameters="nprobe=4",
    count=600,
    dimension=16,
    embeddings_sha256="a" * 64,
    space_fingerprint="b" * 64,
    clusters=16,
    training_rows=600,
    seed=0,
    faiss_version="1.15.1",
    size_bytes=40_000,
    sha256="c" * 64,
)
NEXT_STEP = "; make it again: `aml-edge index approximate --restart`, or remove its folder."


def write(folder: Path, record: ApproximateRecord = RECORD) -> Path:
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(record.dumps())
    return folder


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    assert read_record(write(tmp_path / RECORD.factory)) == RECORD
    assert (RECORD.spec.factory, RECORD.spec.parameters) == ("IVF16,Flat", "nprobe=4")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"version": 2}, "its version is 2, this aml-edge reads 1"),
        ({"seed": True}, "its fields are not those of an approximate index"),
        ({"seed": 1.0}, "its fields are not those of an approximate index"),
        ({"more": 1}, "its fields are not those of an approximate index"),
        ({"sha256": "c" * 63}, "its sha256 is no SHA-256"),
        ({"space_fingerprint": "../x"}, "its space_fingerprint is no SHA-256"),
        ({"count": 0}, "its counts cannot be"),
        ({"size_bytes": -1}, "its counts cannot be"),
        ({"training_rows": 601}, "it was trained on more rows than there are"),
        ({"faiss_version": "1\n2"}, "its FAISS version is no text"),
        ({"factory": "../x"}, "`ann` is '../x'; it must be a string of FAISS's index factory"),
        ({"parameters": "nprobe=0"}, "`ann` has the parameter 'nprobe=0'"),
    ],
)
def test_refuses_what_was_changed(tmp_path: Path, changed: dict[str, object], said: str) -> None:
    folder = write(tmp_path / RECORD.factory)
    file = folder / "record.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    with pytest.raises(TeacherIndexError) as refused:
        read_record(folder)
    assert str(refused.value).startswith(f"{file} cannot be read: {said}")
    assert str(refused.value).endswith(NEXT_STEP)


@pytest.mark.parametrize("text", ["", "[]", "{", "1", "[" * 100_000, '{"version": 1}', "\ud800"])
def test_refuses_what_is_no_record(tmp_path: Path, text: str) -> None:
    folder = write(tmp_path / RECORD.factory)
    (folder / "record.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(TeacherIndexError, match="cannot be read"):
        read_record(folder)


def test_a_record_stays_in_the_folder_of_its_name(tmp_path: Path) -> None:
    folder = write(tmp_path / "Flat")
    with pytest.raises(TeacherIndexError) as refused:
        read_record(folder)
    assert str(refused.value) == f"{folder / 'record.json'} is of 'IVF16,Flat', not of 'Flat'" + NEXT_STEP


def test_lists_the_finished_ones_by_name(tmp_path: Path) -> None:
    assert read_records(tmp_path) == ()
    others = [replace(RECORD, factory=name) for name in ("SQ8", "Flat")]
    for record in others:
        write(approximate_path(tmp_path, record.factory), record)
    write(tmp_path / "approximate" / ".HNSW8.1.partial", replace(RECORD, factory="HNSW8"))
    (tmp_path / "approximate" / "PQ8").mkdir()
    assert read_records(tmp_path) == (others[1], others[0])


def test_says_which_rows_it_was_made_from(index: TeacherIndex) -> None:
    record = replace(
        RECORD,
        embeddings_sha256=file_sha256(index.path / "embeddings.npy"),
        space_fingerprint=index.space.fingerprint,
    )
    require_made_from(record, index)
    folder = approximate_path(index.path, RECORD.factory)
    for other, said in (
        (replace(record, count=601), "holds 601 × 16 rows, but the index 600 × 16"),
        (
            replace(record, space_fingerprint="b" * 64),
            f"was made in another space than that of the index (bbbbbbbb, {index.space.fingerprint[:8]})",
        ),
        (replace(record, embeddings_sha256="a" * 64), "was made from other embeddings (aaaaaaaa) than the index holds"),
    ):
        with pytest.raises(TeacherIndexError) as refused:
            require_made_from(other, index)
        assert str(refused.value) == f"{folder} {said}{NEXT_STEP}"


def test_the_embeddings_of_an_older_index_are_hashed(
    write_rows: Callable[..., TeacherIndex], rows: npt.NDArray[np.float32], tmp_path: Path
) -> None:
    older = write_rows(tmp_path / "older", rows, hashed=False)
    newer = write_rows(tmp_path / "newer", rows)
    assert embeddings_sha256(older) == embeddings_sha256(newer) == file_sha256(newer.path / "embeddings.npy")


def test_a_record_before_its_file_has_no_hash() -> None:
    assert replace(RECORD, size_bytes=0, sha256="").sha256 == ""
    with pytest.raises(ValueError, match="its sha256 is no SHA-256"):
        replace(RECORD, sha256="")
    with pytest.raises(UsageError):
        replace(RECORD, factory="no factory")
