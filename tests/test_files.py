"""Files are whole or not there, whatever happens while they are written."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aml_edge.files import file_sha256, write_text_atomically, written_atomically


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_folder(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / "part").write_text(text)


def test_a_file_appears_whole_under_its_name_only_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "new" / "model.onnx"
    with written_atomically(target) as partial:
        partial.write_text("half")
        assert not target.exists()
        assert partial.parent == target.parent
        assert partial.suffix == ".onnx"
        partial.write_text("whole")
    assert target.read_text() == "whole"
    assert names(target.parent) == ["model.onnx"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "model.onnx"
    target.write_text("old")
    with pytest.raises(error), written_atomically(target) as partial:
        partial.write_text("half")
        raise error
    assert target.read_text() == "old"
    assert names(tmp_path) == ["model.onnx"]


def test_a_failure_before_anything_was_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), written_atomically(tmp_path / "model.onnx"):
        raise RuntimeError
    assert names(tmp_path) == []


def test_nothing_written_is_an_error_and_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    target.write_text("old")
    with pytest.raises(FileNotFoundError), written_atomically(target):
        pass
    assert target.read_text() == "old"


def test_a_folder_replaces_a_folder_with_all_it_held(tmp_path: Path) -> None:
    target = tmp_path / "model.mlpackage"
    write_folder(target, "old")
    (target / "stale").write_text("must go")
    with written_atomically(target) as partial:
        write_folder(partial, "new")
    assert names(target) == ["part"]
    assert (target / "part").read_text() == "new"
    assert names(tmp_path) == ["model.mlpackage"]


def test_a_failure_leaves_the_old_folder(tmp_path: Path) -> None:
    target = tmp_path / "model.mlpackage"
    write_folder(target, "old")
    with pytest.raises(RuntimeError), written_atomically(target) as partial:
        write_folder(partial, "half")
        raise RuntimeError
    assert (target / "part").read_text() == "old"
    assert names(tmp_path) == ["model.mlpackage"]


def test_a_folder_that_cannot_be_put_in_place_gives_the_old_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model.mlpackage"
    write_folder(target, "old")
    rename = Path.rename

    def refuse_the_new_one(path: Path, to: Path) -> Path:
        if ".partial" in path.name:
            raise PermissionError(13, "Permission denied")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", refuse_the_new_one)
    with pytest.raises(PermissionError), written_atomically(target) as partial:
        write_folder(partial, "new")
    assert (target / "part").read_text() == "old"
    assert names(tmp_path) == ["model.mlpackage"]


def test_a_file_never_replaces_a_folder(tmp_path: Path) -> None:
    target = tmp_path / "photographs"
    write_folder(target, "precious")
    with pytest.raises(IsADirectoryError):
        write_text_atomically(target, "a report")
    assert (target / "part").read_text() == "precious"
    assert names(tmp_path) == ["photographs"]


def test_an_error_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    with pytest.raises(FileNotFoundError) as failure, written_atomically(target):
        pass
    assert (failure.value.filename, failure.value.filename2) == (str(target), str(target))


def test_a_folder_never_replaces_a_file(tmp_path: Path) -> None:
    target = tmp_path / "model.mlpackage"
    target.write_text("precious")
    with pytest.raises(NotADirectoryError), written_atomically(target) as partial:
        write_folder(partial, "new")
    assert target.read_text() == "precious"
    assert names(tmp_path) == ["model.mlpackage"]


def test_what_an_earlier_crash_left_is_in_nobody_s_way(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    with written_atomically(target) as partial:
        left_over = partial
        partial.write_text("first")
    write_folder(left_over, "of a process with the same number")
    with written_atomically(target) as partial:
        assert not partial.exists()
        partial.write_text("second")
    assert target.read_text() == "second"
    assert names(tmp_path) == ["model.onnx"]


def test_a_killed_process_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    target.write_text("old")
    code = f"""
import os, signal
from pathlib import Path
from aml_edge.files import written_atomically
with written_atomically(Path({str(target)!r})) as partial:
    partial.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    assert target.read_text() == "old"


def test_text_is_written_as_utf8(tmp_path: Path) -> None:
    write_text_atomically(tmp_path / "report.json", "é − ≥\n")
    assert (tmp_path / "report.json").read_bytes() == b"\xc3\xa9 \xe2\x88\x92 \xe2\x89\xa5\n"


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(content)
    assert file_sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()
    (tmp_path / "empty").write_bytes(b"")
    assert file_sha256(tmp_path / "empty") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
