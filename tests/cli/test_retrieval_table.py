"""The tables of retrieval: every number where it belongs, nothing cut at 80 columns."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console
from rich.table import Table

from aml_edge.bootstrap import Interval
from aml_edge.cli.retrieval_table import NOTE, SUMMARY_NOTE, retrieval_table, summary_table
from aml_edge.evaluation import RetrievalRow
from aml_edge.ranking import RetrievalReport, SettingReport

NAN = math.nan
EASY = SettingReport(0.5, (0.25, 0.75), 1.0, 0.46, 0.123)
MEDIUM = SettingReport(0.3333, (0.3333, NAN), 0.0, 0.2, 0.1)
HARD = SettingReport(NAN, (NAN, NAN), NAN, NAN, NAN)
ROW = RetrievalRow(
    "student", "teacher", RetrievalReport(EASY, MEDIUM, HARD), Interval(0.25, 0.75), Interval(0.3333, 0.3333), None
)
PERFECT = SettingReport(1.0, (1.0,) * 1000, 1.0, 1.0, 1.0)
WIDEST = RetrievalRow(
    "untrained", "teacher", RetrievalReport(PERFECT, PERFECT, PERFECT), *[Interval(1.0, 1.0) for _ in range(3)]
)


def lines(table: Table, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_row_has_a_line_for_each_setting() -> None:
    header, rule, easy, medium, hard, *note = lines(retrieval_table([ROW]), 80)
    assert header.split() == ["queries", "→", "database", "setting", "N", "mAP", "[95", "%]", "mP@1", "mP@5", "mP@10"]
    assert set(rule) == {"─"}
    first = ["student", "→", "teacher"]
    assert easy.split() == [*first, "easy", "2", "50.0", "[25.0,", "75.0]", "100.0", "46.0", "12.3"]
    assert medium.split() == ["medium", "1", "33.3", "[33.3,", "33.3]", "0.0", "20.0", "10.0"]
    assert hard.split() == ["hard", "0", "–", "–", "–", "–", "–"]
    assert note == [NOTE]


def test_the_summary_has_one_line_a_row() -> None:
    header, _, row, note = lines(summary_table([ROW]), 80)
    assert header.split() == ["queries", "→", "database", "easy", "medium", "hard"]
    assert row.split() == ["student", "→", "teacher", "50.0", "[25.0,", "75.0]", "33.3", "[33.3,", "33.3]", "–"]
    assert note == SUMMARY_NOTE


@pytest.mark.parametrize("width", [80, 120])
def test_the_widest_values_fit_a_terminal(width: int) -> None:
    table = lines(retrieval_table([WIDEST]), width)
    assert max(map(len, table)) <= 80
    assert len(table) == 6
    assert table[2].split()[4:] == ["1000", "100.0", "[100.0,", "100.0]", "100.0", "100.0", "100.0"]


@pytest.mark.parametrize("make", [retrieval_table, summary_table])
@pytest.mark.parametrize("width", [40, 60])
def test_a_narrow_terminal_breaks_values_and_loses_none(make: object, width: int) -> None:
    assert callable(make)
    narrow = "".join(lines(make([WIDEST]), width))
    wide = "".join(lines(make([WIDEST]), 200))
    assert "…" not in narrow
    assert narrow.count("100.0") <= wide.count("100.0")
    for character in "0123456789[]→":
        assert narrow.count(character) == wide.count(character)
