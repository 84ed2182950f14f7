"""`aml-edge index approximate`: what is built beside an index's rows and said of it, and how wrong input ends."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aml_edge.approximate.approximate_index import open_approximate
from aml_edge.approximate.record import approximate_path, read_record, read_records
from aml_edge.approximate.specification import ApproximateSpec
from aml_edge.index import open_index
from aml_edge.networks import released
from aml_edge.networks.checkpoints import TeacherCheckpoint

CommandLine = Callable[..., Any]


@pytest.fixture
def index(blob_index: Path, tmp_path: Path) -> Path:
    """A copy of the index of 24 images, to build in."""
    return Path(shutil.copytree(blob_index, tmp_path / "ix"))


def described(index: Path, factory: str, said: str, trained: str = "") -> str:
    record = read_record(approximate_path(index, factory))
    size = f"{record.size_bytes / 1e6:.1f} MB ({record.size_bytes / 24:.0f} bytes a row)"
    return f"approximate    {said}, {size}{trained}, FAISS {record.faiss_version}"


def test_builds_what_is_named_and_info_lists_it(command_line: CommandLine, index: Path, tmp_path: Path) -> None:
    plain, out = command_line("index", "info", index).out, tmp_path / "report.json"
    ended = command_line(
        "index", "approximate", index, "--ann", "IVF4,Flat:nprobe=2", "--ann", "HNSW8", "--seed", 3, "--json", out
    )
    assert (ended.code, ended.err) == (0, "")
    lists = [
        described(index, "IVF4,Flat", "IVF4,Flat:nprobe=2", ", trained on 24 rows (seed 3)"),
        "trained on few rows: 24 for 4 clusters, for which FAISS asks for 156 at least",
    ]
    graph = described(index, "HNSW8", "HNSW8")
    assert ended.out.splitlines()[-4:] == [str(index), *lists, graph]
    records = json.loads(out.read_text())
    assert [one["factory"] for one in records] == ["IVF4,Flat", "HNSW8"]
    assert records[0]["sha256"] == read_record(approximate_path(index, "IVF4,Flat")).sha256

    info = command_line("index", "info", index, "--json", out)
    assert info.out.splitlines() == [*plain.splitlines(), graph, *lists]  # by name
    assert [one["factory"] for one in json.loads(out.read_text())["approximate"]] == ["HNSW8", "IVF4,Flat"]


def test_the_same_command_keeps_what_is_there(command_line: CommandLine, index: Path) -> None:
    first = command_line("index", "approximate", index, "--ann", "SQ8")
    made = read_records(index)
    again = command_line("index", "approximate", index, "--ann", "SQ8", "--ann", "SQ8")
    assert "adding to SQ8: 24/24" in first.out
    assert again.out.splitlines() == first.out.splitlines()[-2:]
    anew = command_line("index", "approximate", index, "--ann", "SQ8", "--training-rows", 9, "--restart")
    assert "training SQ8: 9/9" in anew.out
    assert read_records(index) != made


def test_nothing_is_built_where_one_of_several_cannot_be(command_line: CommandLine, index: Path) -> None:
    ended = command_line("index", "approximate", index, "--ann", "Flat", "--ann", "IVF4096,PQ64")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "error: `ann` is 'IVF4096,PQ64', which makes 4096 lists, but there are 24 rows; ask for at least one list and "
        "no more than there are rows.\n"
    )
    assert not (index / "approximate").exists()


def test_a_damaged_record_is_named_by_info(command_line: CommandLine, index: Path) -> None:
    command_line("index", "approximate", index, "--ann", "Flat")
    file = approximate_path(index, "Flat") / "record.json"
    file.write_text("{")
    ended = command_line("index", "info", index)
    assert ended.code == 1
    assert ended.err.startswith(f"error: {file} cannot be read: ")
    assert command_line("index", "approximate", index, "--ann", "Flat", "--restart").code == 0
    assert command_line("index", "info", index).code == 0


def test_one_list_only_is_warned_of(command_line: CommandLine, index: Path) -> None:
    warning = "a search looks into one list only, unless it says more: IVF4,SQ8:nprobe=16"
    assert command_line("index", "approximate", index, "--ann", "IVF4,SQ8").out.splitlines()[-1] == warning
    assert warning in command_line("index", "info", index).out
    assert warning not in command_line("index", "approximate", index, "--ann", "IVF4,SQ8:nprobe=2").out


def test_something_must_be_named(command_line: CommandLine, index: Path) -> None:
    ended = command_line("index", "approximate", index)
    assert ended.code == 2
    assert "Missing option '--ann'" in ended.err


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch, tiny_teacher: TeacherCheckpoint, blobs: Path, tmp_path: Path) -> list[Any]:
    """The beginning of a command that builds an index of 24 images; a small network answers to the teacher's name."""

    def resolve(name: str, *, progress: object) -> TeacherCheckpoint:
        return tiny_teacher

    monkeypatch.setattr(released, "resolve_teacher", resolve)
    return ["index", "build", "--teacher", "tiny", "--images", blobs, "--out", tmp_path / "out", "--image-size", 32]


def test_an_index_is_built_with_its_approximate_ones(
    command_line: CommandLine, build: list[Any], tmp_path: Path
) -> None:
    ended = command_line(*build, "--ann", "IVF2,Flat:nprobe=2", "--ann", "SQ8")
    assert (ended.code, ended.err) == (0, "")
    out = tmp_path / "out"
    assert [record.factory for record in read_records(out)] == ["IVF2,Flat", "SQ8"]
    assert open_approximate(open_index(out), ApproximateSpec("SQ8")).record.count == 24
    assert ended.out.splitlines()[-3] == described(
        out, "IVF2,Flat", "IVF2,Flat:nprobe=2", ", trained on 24 rows (seed 0)"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_a_build_whose_approximate_index_fails_keeps_what_was_embedded(
    command_line: CommandLine, build: list[Any], tmp_path: Path
) -> None:
    failed = command_line(*build, "--ann", "Flat", "--ann", "PQ8np")
    assert failed.code == 2
    assert "FAISS cannot train on 24 of the 24 rows" in failed.err
    assert not (tmp_path / "out").exists()
    assert [path.name for path in (tmp_path / "out.partial").glob("*/*.safetensors")] == ["000000.safetensors"]
    assert command_line(*build, "--ann", "Flat").code == 0
    assert [record.factory for record in read_records(tmp_path / "out")] == ["Flat"]


def test_a_factory_that_cannot_be_is_refused_before_anything_is_embedded(
    command_line: CommandLine, build: list[Any], tmp_path: Path
) -> None:
    ended = command_line(*build, "--ann", "IVF25,Flat")
    assert (ended.code, "embedding" in ended.out) == (2, False)
    assert "which makes 25 lists, but there are 24 rows" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_verify_looks_at_approximate_indexes_too(command_line: CommandLine, index: Path) -> None:
    command_line("index", "approximate", index, "--ann", "Flat")
    ended = command_line("index", "verify", index)
    assert ended.code == 0
    assert ended.out.splitlines()[-1] == "approximate Flat     of these rows, 0.0 MB, as recorded"
    file = approximate_path(index, "Flat") / "vectors.faiss"
    file.write_bytes(b"x" + file.read_bytes()[1:])
    changed = command_line("index", "verify", index)
    assert changed.code == 1
    assert changed.out.splitlines()[-1] == "approximate Flat     another SHA-256 than record.json says"
    assert "is not what was built (approximate Flat)" in changed.err
