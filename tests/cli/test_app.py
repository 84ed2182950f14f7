"""The command line as it is wired: every command is there, tells what it takes, and fails in one way."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import aml_edge
from aml_edge.cli import app as app_module
from aml_edge.errors import UsageError

CommandLine = Callable[..., Any]
COMMANDS = {
    (): (
        "demo",
        "train",
        "eval",
        "export",
        "verify",
        "bench",
        "search",
        "quantize",
        "data",
        "index",
        "whitening",
        "reproduce",
    ),
    ("demo",): ("--out", "--json"),
    ("data",): ("synth", "info"),
    ("data", "synth"): ("OUT", "--name", "--seed", "--image-size", "--landmarks-train", "--workers", "--json"),
    ("data", "info"): ("DIR", "--decode", "--json"),
    ("index",): ("build", "info", "verify"),
    ("index", "build"): ("--teacher", "--images", "--split", "--out", "--skip-unreadable", "--engine", "--threads"),
    ("index", "info"): ("INDEX", "--json"),
    ("index", "verify"): ("INDEX", "--images", "--json"),
    ("train",): ("--recipe", "--set", "--list", "--data", "--index", "--out", "--resume", "--overwrite", "--json"),
    ("reproduce",): ("--data", "--out", "--rows", "--json"),
    ("whitening",): ("--index", "--student", "--data", "--kind", "--dimension", "--out", "--overwrite", "--json"),
    ("eval",): ("--index", "--dataset", "--student", "--artifact", "--teacher", "--image-size", "--json"),
    ("export",): ("--format", "--precision", "--image-size", "--student", "--index", "--json"),
    ("quantize",): ("analyse",),
    ("quantize", "analyse"): ("--student", "--index", "--dataset", "--calibrate-on", "--plot", "--json"),
    ("verify",): ("ARTIFACT", "--index", "--dataset", "--images", "--runtime", "--cosine", "--json"),
    ("bench",): ("ARTIFACT", "--index", "--dataset", "--threads", "--markdown", "--json"),
    ("search",): ("IMAGE", "--index", "--artifact", "--student", "-k", "--json"),
}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_names_what_a_command_takes(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    ended = command_line(*command, "--help")
    assert (ended.code, ended.err) == (0, "")
    words = re.findall(r"[\w-]+", ended.out)
    assert [name for name in COMMANDS[command] if name not in words] == []
    assert "object at 0x" not in ended.out


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_an_unknown_option_is_wrong_usage(command_line: CommandLine, command: tuple[str, ...]) -> None:
    ended = command_line(*command, "--nonsense")
    assert (ended.code, ended.out) == (2, "")
    assert "No such option: --nonsense" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        (("data", "synth"), "Missing argument 'OUT'"),
        (("index", "build"), "Missing option '--teacher'"),
        (("train",), "`out` is missing"),
        (("train", "--out", "runs/none"), "`data` is missing"),
        (("reproduce",), "Missing option '--data'"),
        (("whitening",), "Missing option '--data'"),
        (("eval",), "Missing option '--dataset'"),
        (("export",), "Missing option '--format'"),
        (("verify",), "Missing argument 'ARTIFACT"),
        (("search",), "Missing argument 'IMAGE"),
    ],
)
def test_what_must_be_given_is_asked_for(command_line: CommandLine, arguments: tuple[str, ...], missing: str) -> None:
    ended = command_line(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert missing in ended.err


@pytest.mark.parametrize("group", [(), ("data",), ("index",)])
def test_a_group_alone_shows_its_help(command_line: CommandLine, group: tuple[str, ...]) -> None:
    ended = command_line(*group)
    assert ended.code == 2
    assert "Usage: aml-edge" in ended.out + ended.err


def test_the_version_is_the_package_s(command_line: CommandLine) -> None:
    ended = command_line("--version")
    assert (ended.code, ended.out, ended.err) == (0, f"aml-edge {aml_edge.__version__}\n", "")


def test_an_error_is_one_line_and_a_traceback_only_with_debug(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = command_line("index", "info", "nowhere")
    assert ended.code == 2
    assert ended.err == ("error: nowhere holds no index (index.json is not there); make one: `aml-edge index build`.\n")
    monkeypatch.setattr(sys, "argv", ["aml-edge", "--debug", "index", "info", "nowhere"])
    with pytest.raises(UsageError):
        app_module.main()


def test_help_imports_nothing_heavy() -> None:
    """It is to be there at once."""
    script = (
        "import sys\n"
        "from aml_edge.cli import app\n"
        "sys.argv = ['aml-edge', '--help']\n"
        "try:\n"
        "    app.main()\n"
        "except SystemExit:\n"
        "    print([name for name in ('torch', 'timm', 'onnx', 'numpy', 'PIL') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_the_package_runs_as_a_module() -> None:
    """For launchers that start modules, such as torchrun."""
    ended = subprocess.run([sys.executable, "-m", "aml_edge", "--version"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, f"aml-edge {aml_edge.__version__}\n")
