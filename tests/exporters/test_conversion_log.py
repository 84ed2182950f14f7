"""A converter's chatter stays in a file, and the file stays only when it is needed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aml_edge.errors import ExportError, MissingExtraError
from aml_edge.exporters.conversion_log import conversion_logged


def test_success_leaves_neither_output_nor_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "model.onnx.log"
    with conversion_logged(log, "export of 'demo' to onnx"):
        print("Obtain model graph...")
        os.write(2, b"W0000 a warning of absl\n")
    assert capfd.readouterr() == ("", "")
    assert not log.exists()


def test_failure_is_one_line_and_the_log_has_the_rest(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "model.onnx.log"
    with pytest.raises(ExportError) as caught, conversion_logged(log, "export of 'demo' to onnx fp16"):
        os.write(2, b"E0000 unsupported operator\n")
        raise ValueError("\n  no lowering for aten.foo\nand a page of details")
    assert str(caught.value) == (
        f"export of 'demo' to onnx fp16 failed: ValueError: no lowering for aten.foo; the converter's log is {log}"
    )
    assert capfd.readouterr() == ("", "")
    text = log.read_text()
    assert "E0000 unsupported operator" in text
    assert "Traceback" in text
    assert "and a page of details" in text


def test_an_error_without_words_is_named_by_its_type(tmp_path: Path) -> None:
    with (
        pytest.raises(ExportError, match="failed: AssertionError; the converter's log"),
        conversion_logged(tmp_path / "log", "export"),
    ):
        raise AssertionError


def test_our_own_errors_pass_and_need_no_log(tmp_path: Path) -> None:
    with pytest.raises(MissingExtraError), conversion_logged(tmp_path / "log", "export"):
        raise MissingExtraError("litert-torch", "tflite", "the TFLite format")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_passes_and_leaves_no_log(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), conversion_logged(tmp_path / "log", "export"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_an_older_log_is_not_continued(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("of last week")
    with pytest.raises(ExportError), conversion_logged(log, "export"):
        raise ValueError
    assert "of last week" not in log.read_text()
