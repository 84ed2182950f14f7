"""The steps of `aml-edge export`: what is found before any work."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aml_edge.cli.export_job import require_writable
from aml_edge.networks.recorded_weights import recorded_weights_sha256
from aml_edge.quantization.quantization import Quantization
from aml_edge.quantization.stored import StoredQuantization, save_quantization
from aml_edge.quantization_record import QuantizationMethod, QuantizationRecord


def test_folders_that_can_be_made_are_not_made_yet(tmp_path: Path) -> None:
    require_writable(tmp_path)
    require_writable(tmp_path / "new" / "newer")

    assert list(tmp_path.iterdir()) == []


def test_relative_folders_are_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, _: path == tmp_path)

    require_writable(Path("artifacts"))


@pytest.mark.parametrize("below", [Path(), Path("deeper/still")])
def test_file_where_a_folder_is_needed_is_named(tmp_path: Path, below: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError) as refusal:
        require_writable(tmp_path / "file" / below)
    assert refusal.value.filename == str(tmp_path / "file")


def test_folder_that_is_read_only_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The permissions are made up: who runs the tests may write everywhere."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError) as refusal:
        require_writable(tmp_path / "new")
    assert refusal.value.filename == str(tmp_path)


@pytest.mark.parametrize("trained", [False, True])
def test_student_that_was_trained_for_integers_is_warned_of_in_another_precision(
    command_line: Callable[..., Any], workplace: Path, trained: bool
) -> None:
    student = Path("runs/mine/student.safetensors")
    weights = recorded_weights_sha256(student)
    assert weights is not None
    if trained:
        record = QuantizationRecord(QuantizationMethod.TRAINING, None, {}, False, False, 8)
        save_quantization(StoredQuantization(Quantization({}, frozenset({"head"})), record, weights), student)

    ended = command_line("export", "--format", "onnx", "--student", "mine", "--precision", "fp16", "--fit", "native")

    assert ended.code == 2  # a file has one input shape: no need to wait for a conversion
    warned = "mine was trained for its integers: in fp16 it computes something else; export it as int8.\n"
    assert ended.out == (warned if trained else "")
