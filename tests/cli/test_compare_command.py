"""`aml-edge compare`: what it prints of two reports, and how wrong input ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CommandLine = Callable[..., Any]


def report(path: Path, **values: list[float]) -> Path:
    rows = [
        {"queries": name, "database": "teacher", "report": {"measures": [{"name": "mAP@100", "values": one}]}}
        for name, one in values.items()
    ]
    path.write_text(json.dumps({"dataset": "toy [v2]", "rows": rows}))
    return path


@pytest.fixture
def reports(tmp_path: Path) -> tuple[Path, Path]:
    better = [0.75, 0.5, 0.5, 0.75, 1.0]
    return report(tmp_path / "a.json", student=[0.5, 0.25, 0.25, 0.5, 0.5]), report(
        tmp_path / "b.json", student=better, file=[0.0] * 5
    )


def test_a_line_says_both_means_the_difference_its_interval_and_p(
    command_line: CommandLine, reports: tuple[Path, Path], tmp_path: Path
) -> None:
    """Means 0.4 and 0.7; five of five for the second, so p is 2 in 32."""
    ended = command_line("compare", *reports, "--json", tmp_path / "out.json")
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines[:3] == [f"A: {reports[0]}", f"B: {reports[1]}", "data set: toy [v2]"]
    assert lines[3].split() == ["measure", "N", "A", "B", "B", "−", "A", "[95", "%]", "p"]
    assert lines[5].split() == ["student", "→", "teacher"]
    written = json.loads((tmp_path / "out.json").read_text())
    ((measure,),) = (row["measures"] for row in written["rows"])
    low, high = (f"{100 * measure['interval'][end]:+.1f}" for end in ("low", "high"))
    assert lines[6].split() == ["mAP@100", "5", "40.0", "70.0", "+30.0", f"[{low},", f"{high}]", "0.062"]
    assert (measure["p_value"], written["dataset"]) == (2 / 32, "toy [v2]")
    assert measure["difference"] == pytest.approx(0.3)
    assert lines[-2:] == [
        "in %, [95 % bootstrap over N pairs]; p: paired randomisation test, two-sided",
        "only in B: file → teacher (--row and --against compare any two)",
    ]


def test_two_rows_are_compared_by_name(command_line: CommandLine, reports: tuple[Path, Path]) -> None:
    _, b = reports
    ended = command_line("compare", b, b, "--row", "student -> teacher", "--against", "file -> teacher")
    assert ended.code == 0, ended.err
    assert "student → teacher" in ended.out
    assert "| file → teacher" in ended.out
    assert " -70.0 " in ended.out


def test_wrong_input_is_one_line(command_line: CommandLine, reports: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = reports
    (tmp_path / "c.json").write_text("{}")
    for arguments, said in (
        ((a, tmp_path / "c.json"), "c.json holds no report of `aml-edge eval --json` ('rows'); write one."),
        ((a, b, "--row", "x"), f"`row` is 'x', which {a} does not have; it has 'student → teacher'."),
    ):
        ended = command_line("compare", *arguments)
        assert (ended.code, ended.out) == (2, "")
        assert ended.err.endswith(said + "\n")
        assert ended.err.count("\n") == 1


def test_narrow_terminals_lose_no_figure(
    command_line: CommandLine, reports: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ended = command_line("compare", *reports)
    assert max(map(len, ended.out.splitlines()[3:])) <= 80
    assert "0.062" in ended.out
