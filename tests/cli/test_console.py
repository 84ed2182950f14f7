"""What commands print with: where it goes, what a log gets instead of a bar, and JSON without surprises."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from aml_edge.cli.console import STANDARD_OUTPUT, ConsoleProgress, console_for, write_json


class Colour(StrEnum):
    RED = "red"


class Number(Enum):
    ONE = 1


@dataclass(frozen=True)
class Inner:
    value: float
    path: Path


@dataclass(frozen=True)
class Outer:
    colour: Colour
    inner: tuple[Inner, ...]
    counts: dict[str, int]
    missing: float | None = None


REPORT = Outer(Colour.RED, (Inner(0.5, Path("a/b.onnx")), Inner(math.nan, Path("c"))), {"Conv": 3})
REPORT_AS_JSON = {
    "colour": "red",
    "inner": [{"value": 0.5, "path": "a/b.onnx"}, {"value": None, "path": "c"}],
    "counts": {"Conv": 3},
    "missing": None,
}


def test_a_report_becomes_json_in_a_file(tmp_path: Path) -> None:
    write_json(REPORT, tmp_path / "new" / "report.json")
    text = (tmp_path / "new" / "report.json").read_text()
    assert json.loads(text) == REPORT_AS_JSON
    assert text.endswith("}\n")


def test_a_dash_is_standard_output_and_then_people_read_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    write_json([REPORT], STANDARD_OUTPUT)
    console_for(STANDARD_OUTPUT).print("for people")
    captured = capsys.readouterr()
    assert json.loads(captured.out) == [REPORT_AS_JSON]
    assert captured.err == "for people\n"


def test_people_read_standard_output_otherwise(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    console_for(None).print("one")
    console_for(tmp_path / "report.json").print("two")
    assert capsys.readouterr() == ("one\ntwo\n", "")


def test_no_target_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    write_json(object(), None)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_json_has_no_number_for_is_null(value: float, tmp_path: Path) -> None:
    write_json({"value": value, "list": [value, 1.5, True, Number.ONE]}, tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text()) == {"value": None, "list": [None, 1.5, True, 1]}


def test_a_value_without_json_form_is_our_own_mistake(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="a report holds ndarray, which has no JSON form"):
        write_json({"rows": np.zeros(3)}, tmp_path / "a.json")
    assert list(tmp_path.iterdir()) == []


def test_a_table_in_a_log_is_not_cut_to_eighty_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    table = Table(box=None, pad_edge=False)
    for _ in range(10):
        table.add_column("ten chars.", no_wrap=True)
    table.add_row(*(["0123456789"] * 10))
    console_for(None).print(table)
    assert capsys.readouterr().out.split() == ["ten", "chars."] * 10 + ["0123456789"] * 10


def test_the_width_that_the_environment_asks_for_is_kept(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert console_for(None).width == 200


def test_names_are_no_emoji(capsys: pytest.CaptureFixture[str]) -> None:
    console_for(None).print("artifacts/:smile:.onnx")
    assert capsys.readouterr().out == "artifacts/:smile:.onnx\n"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Returns a function that moves the time that the console sees."""
    now = 100.0

    def advance(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr("time.monotonic", lambda: now)
    return advance


@pytest.mark.parametrize(
    ("seconds", "lines"),
    [
        ((1.0, 8.9), []),
        ((1.0, 9.0), ["look: 2/2, 10.0 s"]),
        ((10.0, 1.0), ["look: 1/2, 10.0 s, 10 s left", "look: 2/2, 11.0 s"]),
    ],
)
def test_quick_work_leaves_no_line_in_a_log_where_it_is_not_to(
    clock: Callable[[float], None], seconds: tuple[float, float], lines: list[str]
) -> None:
    out = io.StringIO()
    progress = ConsoleProgress(Console(file=out, width=200, highlight=False), every_task=False)
    with progress.task("look", 2) as task:
        for step in seconds:
            clock(step)
            task.advance()
    assert out.getvalue().splitlines() == lines


def test_a_log_gets_a_line_now_and_then_and_one_at_the_end(clock: Callable[[float], None]) -> None:
    out = io.StringIO()
    with ConsoleProgress(Console(file=out, soft_wrap=True)).task("embedding [a/b]", 4) as task:
        for seconds in (1.0, 9.5, 1.0, 1.0):
            clock(seconds)
            task.advance(status="[loss] 0.5")
    assert out.getvalue().splitlines() == [
        "embedding [a/b]: 2/4, 10.5 s, 10 s left, [loss] 0.5",
        "embedding [a/b]: 4/4, 12.5 s, [loss] 0.5",
    ]


def test_a_last_step_that_took_long_is_told_once(clock: Callable[[float], None]) -> None:
    out = io.StringIO()
    with ConsoleProgress(Console(file=out, soft_wrap=True)).task("exporting", 1) as task:
        clock(25.0)
        task.advance(status="tflite")
    assert out.getvalue().splitlines() == ["exporting: 1/1, 25.0 s, tflite"]


def test_a_log_wraps_text_and_cuts_none(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    words = [f"word{number}" for number in range(60)]
    console_for(None).print(Group(Padding(Text(" ".join(words)), (0, 0, 0, 3))))
    assert capsys.readouterr().out.split() == words


def test_a_task_that_fails_does_not_say_that_it_is_done(clock: Callable[[float], None]) -> None:
    out = io.StringIO()
    with pytest.raises(RuntimeError), ConsoleProgress(Console(file=out)).task("embedding", 4):
        raise RuntimeError
    assert out.getvalue() == ""


def test_a_line_is_said_as_it_is_and_never_cut() -> None:
    out = io.StringIO()
    line = "downloading [red]x from " + "http://" + "x" * 200
    ConsoleProgress(Console(file=out, width=80)).say(line)
    assert out.getvalue() == line + "\n"


def test_a_terminal_gets_a_bar_with_names_as_they_are() -> None:
    out = io.StringIO()
    terminal = Console(file=out, force_terminal=True, width=120)
    with ConsoleProgress(terminal).task("embedding [red]x", 3) as task:
        task.advance(2, status="[bold]y")
    text = out.getvalue()
    assert "embedding [red]x" in text
    assert "2/3" in text
    assert "[bold]y" in text
