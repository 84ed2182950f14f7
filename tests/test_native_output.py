"""What libraries print must reach a log, not the terminal."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import pytest

from aml_edge.native_output import output_captured, output_discarded


def test_catches_python_and_native_output_and_warnings(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    with output_captured(log):
        print("from python")
        print("to standard error", file=sys.stderr)
        os.write(1, b"from C, standard output\n")
        os.write(2, b"from C, standard error\n")
        warnings.warn("a library's warning", DeprecationWarning, stacklevel=1)
    assert capfd.readouterr() == ("", "")
    text = log.read_text()
    for line in ("from python", "to standard error", "from C, standard output", "from C, standard error", "warning"):
        assert line in text


def test_keeps_the_order_in_which_things_were_said(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with output_captured(log):
        print("first")
        os.write(2, b"second\n")
        print("third")
    assert log.read_text().split() == ["first", "second", "third"]


def test_restores_the_terminal_after_an_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), output_captured(tmp_path / "log"):
        raise KeyboardInterrupt
    print("python again")
    os.write(2, b"native again\n")
    assert capfd.readouterr() == ("python again\n", "native again\n")


def test_what_was_printed_before_stays_on_the_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    print("before", end="")
    with output_captured(tmp_path / "log"):
        pass
    assert capfd.readouterr().out == "before"
    assert (tmp_path / "log").read_text() == ""


def test_captures_nest(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with output_captured(tmp_path / "outer"):
        with output_captured(tmp_path / "inner"):
            os.write(1, b"inside")
        os.write(1, b"outside")
    assert (tmp_path / "inner").read_text() == "inside"
    assert (tmp_path / "outer").read_text() == "outside"
    assert capfd.readouterr() == ("", "")


def test_leaves_no_descriptor_open(tmp_path: Path) -> None:
    def open_descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    if not Path("/proc/self/fd").exists():
        pytest.skip("descriptors are counted in /proc")
    before = open_descriptors()
    for _ in range(3):
        with output_captured(tmp_path / "log"):
            pass
    assert open_descriptors() == before


def test_discards(capfd: pytest.CaptureFixture[str]) -> None:
    with output_discarded():
        os.write(2, b"INFO: a delegate was created\n")
    assert capfd.readouterr() == ("", "")
