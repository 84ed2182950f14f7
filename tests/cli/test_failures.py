"""How a command ends that fails: one line, the right exit code, and a traceback only where it was asked for."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from aml_edge.cli import app as app_module
from aml_edge.cli.failures import exit_with_error
from aml_edge.errors import AmlEdgeError, SpaceMismatchError, UsageError, VerificationError, VerificationNotRunError


def main(monkeypatch: pytest.MonkeyPatch, fail: Callable[[], None], *options: str) -> int:
    """Returns the exit code of a command line whose one command, beside the real options, fails as told."""
    commands = typer.Typer(pretty_exceptions_enable=False)
    commands.callback()(app_module._options)
    commands.command("fail")(fail)
    monkeypatch.setattr(app_module, "app", commands)
    monkeypatch.setattr(sys, "argv", ["aml-edge", *options, "fail"])
    with pytest.raises(SystemExit) as ended:
        app_module.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def raising(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AmlEdgeError("`side` is 0; it must be positive; give a larger one."), 1),
        (UsageError("`side` is 0; it must be positive; give a larger one."), 2),
        (VerificationError("a.onnx failed verification; do not ship it."), 3),
        (VerificationNotRunError("a.onnx was not verified; name images."), 1),
    ],
)
def test_an_error_of_ours_is_one_line_and_its_own_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: AmlEdgeError, code: int
) -> None:
    assert main(monkeypatch, raising(error)) == code
    assert capsys.readouterr() == ("", f"error: {error}\n")


@pytest.mark.parametrize(
    "message", ["['dimension', 3] [3] [red]x[/] \\[/] and \\", "a :smile: of " + "many words " * 30, "path/[a]/b"]
)
def test_a_message_is_printed_as_it_is(capsys: pytest.CaptureFixture[str], message: str) -> None:
    assert exit_with_error(SpaceMismatchError(message)).exit_code == 1
    assert capsys.readouterr().err == f"error: {message}\n"


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (errno.ENOSPC, "out/a.onnx: No space left on device; free some space, or name a path on another disk."),
        (errno.EACCES, "out/a.onnx: Permission denied; change its permissions, or name another path."),
        (errno.EISDIR, "out/a.onnx: Is a directory; name a file."),
        (errno.EIO, "out/a.onnx: Input/output error; run `aml-edge --debug` with the same arguments to see where."),
    ],
)
def test_an_error_of_the_system_is_one_line_with_a_next_step(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, line: str
) -> None:
    assert main(monkeypatch, raising(OSError(number, os.strerror(number), "out/a.onnx"))) == 1
    assert capsys.readouterr() == ("", f"error: {line}\n")


def test_a_real_full_disk_is_said_with_its_path(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("a disk that is always full is /dev/full")

    def fill() -> None:
        with open("/dev/full", "w") as stream:
            stream.write("x" * 100_000)

    assert main(monkeypatch, fill) == 1
    line = "No space left on device; free some space, or name a path on another disk."
    assert capsys.readouterr().err == f"error: {line}\n"


def test_an_error_that_nobody_expected_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(monkeypatch, raising(ZeroDivisionError("division\n by zero"))) == 1
    line = (
        "unexpected ZeroDivisionError: division by zero; run `aml-edge --debug` with the same arguments to see where."
    )
    assert capsys.readouterr() == ("", f"error: {line}\n")


@pytest.mark.parametrize("error", [UsageError("wrong"), OSError(errno.EIO, "broken"), ZeroDivisionError("zero")])
def test_debug_shows_where(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    commands = typer.Typer(pretty_exceptions_enable=False)
    commands.callback()(app_module._options)
    commands.command("fail")(raising(error))
    monkeypatch.setattr(app_module, "app", commands)
    monkeypatch.setattr(sys, "argv", ["aml-edge", "--debug", "fail"])
    monkeypatch.setattr(app_module, "_debug", False)  # and set back after the test
    with pytest.raises(type(error)) as raised:
        app_module.main()
    assert raised.value is error


def test_an_interruption_is_one_line_and_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(monkeypatch, raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr() == ("", "interrupted\n")


def test_a_command_s_own_exit_code_stays(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(monkeypatch, raising(typer.Exit(7))) == 7
    assert capsys.readouterr() == ("", "")


SLEEPER = """
import signal, sys, time
import typer
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it is ignored
from aml_edge.cli import app as app_module
commands = typer.Typer(pretty_exceptions_enable=False)
commands.callback()(app_module._options)
@commands.command("sleep")
def sleep() -> None:
    print("asleep", flush=True)
    time.sleep(60)
@commands.command("talk")
def talk() -> None:
    from aml_edge.cli.console import console_for
    console = console_for(None)
    for number in range(100_000):
        console.print(number)
app_module.app = commands
sys.argv = ["aml-edge", sys.argv[1]]
app_module.main()
"""


def test_a_real_ctrl_c_ends_at_once_with_one_line() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, "sleep"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "asleep\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (130, "interrupted\n")


def test_a_reader_that_has_enough_hears_nothing_more() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, "talk"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == "0\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=30) != 0
