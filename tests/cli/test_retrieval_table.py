"""The tables of retrieval: every number where it belongs, nothing cut at 80 columns."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import pytest
from rich.console import Console
from rich.table import Table

from aml_edge.bootstrap import Interval
from aml_edge.cli.retrieval_table import (
    MEASURES_NOTE,
    NOTE,
    SUMMARY_NOTE,
    measures_table,
    retrieval_table,
    summary_table,
)
from aml_edge.evaluated_rows import MeasuredRow, RetrievalRow
from aml_edge.measures import Measure, MeasuresReport
from aml_edge.protocol import Protocol
from aml_edge.ranking import RetrievalReport, SettingReport

NAN = math.nan
EASY = SettingReport(0.5, (0.25, 0.75), 1.0, 0.46, 0.123)
MEDIUM = SettingReport(0.3333, (0.3333, NAN), 0.0, 0.2, 0.1)
HARD = SettingReport(NAN, (NAN, NAN), NAN, NAN, NAN)
ROW = RetrievalRow(
    "student", "teacher", RetrievalReport(EASY, MEDIUM, HARD), Interval(0.25, 0.75), Interval(0.3333, 0.3333), None
)
PERFECT = SettingReport(1.0, (1.0,) * 1000, 1.0, 1.0, 1.0)
CERTAIN = Interval(1.0, 1.0)
WIDEST = RetrievalRow("untrained", "teacher", RetrievalReport(PERFECT, PERFECT, PERFECT), CERTAIN, CERTAIN, CERTAIN)
SEVERAL = (1.0, 1 / math.sqrt(2), 0.5)
WHITENED = replace(WIDEST, query_scales=SEVERAL, database_scales=SEVERAL, whitening="teacher")
MIXED = replace(ROW, database_scales=SEVERAL, whitening="student")


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


def test_distractors_stand_below_the_database() -> None:
    far = replace(ROW, distractors=1_001_001)
    first, header, _, *table, _ = lines(retrieval_table([far]), 80)
    assert (first.split()[:1], header.split()[:2]) == (["queries"], ["→", "database"])
    assert [line.split()[:5] for line in table] == [
        ["student", "1", "–", "easy", "2"],
        ["→", "teacher", "medium", "1", "33.3"],
        ["+", "1", "001", "001", "hard"],
    ]
    assert max(map(len, table)) <= 80
    _, _, summary, _ = lines(summary_table([far]), 120)
    assert summary.startswith("student → teacher + 1 001 001 ")


def test_measures_have_a_line_for_each_row() -> None:
    names = ("recall@1", "recall@10", "recall@100", "recall@1000", "MAP@R")
    measures = tuple(Measure(name, 1 / (place + 1), (0.5, NAN)) for place, name in enumerate(names))
    plain = MeasuredRow("student", "student", MeasuresReport(Protocol.METRIC_LEARNING, measures), Interval(0.25, 1.0))
    several = replace(
        plain, database="teacher", query_scales=SEVERAL, whitening="teacher", distractors=30, interval=None
    )
    first, second, rule, *table = lines(measures_table([plain, several]), 80)
    assert first.split() == ["recall", "recall", "recall", "recall", "MAP"]
    assert second.split() == ["queries", "→", "database", "N", "@1", "[95", "%]", "@10", "@100", "@1000", "@R"]
    assert set(rule) == {"─"}
    numbers = ["100.0", "[25.0,", "100.0]", "50.0", "33.3", "25.0", "20.0"]
    assert table[0].split() == ["student", "→", "student", "1", *numbers]
    assert table[1].split() == ["student", "→", "teacher", "+", "30", "1", "100.0", "–", *numbers[3:]]
    assert [line.strip() for line in table[2:]] == ["scales 1,.71,.5 → 1", "whitened by teacher", MEASURES_NOTE]


@pytest.mark.parametrize("width", [80, 120])
def test_the_widest_values_fit_a_terminal(width: int) -> None:
    table = lines(retrieval_table([WIDEST]), width)
    assert max(map(len, table)) <= 80
    assert len(table) == 6
    assert table[2].split()[4:] == ["1000", "100.0", "[100.0,", "100.0]", "100.0", "100.0", "100.0"]


def test_scales_and_whitening_have_columns_where_a_row_has_them() -> None:
    """Scales that differ stand one below the other, as the two names do."""
    first, header, rule, *table, note = lines(retrieval_table([ROW, WHITENED, MIXED]), 90)
    assert first.split() == ["queries", "whitened"]
    assert header.split()[:5] == ["→", "database", "scales", "by", "setting"]
    assert set(rule) == {"─"}
    rows = [line.split() for line in table if line]
    assert rows[0][:5] == ["student", "1", "–", "easy", "2"]
    assert rows[1][:4] == ["→", "teacher", "medium", "1"]
    assert rows[2][:2] == ["hard", "0"]
    assert rows[3][:5] == ["untrained", "1,.71,.5", "teacher", "easy", "1000"]
    assert rows[4][:4] == ["→", "teacher", "medium", "1000"]
    assert rows[6][:4] == ["student", "1", "student", "easy"]
    assert rows[7][:5] == ["→", "teacher", "→", "1,.71,.5", "medium"]
    assert rows[8][0] == "hard"
    assert note == NOTE


@pytest.mark.parametrize(
    "row", [WHITENED, replace(ROW, whitening="teacher"), replace(ROW, query_scales=(0.5,), database_scales=(0.5,))]
)
def test_one_row_that_is_not_plain_is_enough(row: RetrievalRow) -> None:
    assert "whitened" in lines(retrieval_table([ROW, row]), 80)[0]
    assert "whitened" not in "".join(lines(retrieval_table([ROW, ROW]), 80))


@pytest.mark.parametrize("width", [80, 120])
def test_the_widest_values_fit_beside_scales_and_whitening(width: int) -> None:
    table = lines(retrieval_table([WHITENED]), width)
    assert max(map(len, table)) <= 80
    assert len(table) == 7
    assert table[3].split()[4:] == ["1000", "100.0", "[100.0,", "100.0]", "100.0", "100.0", "100.0"]


@pytest.mark.parametrize("make", [retrieval_table, summary_table])
@pytest.mark.parametrize("row", [WIDEST, WHITENED])
@pytest.mark.parametrize("width", [40, 60])
def test_a_narrow_terminal_breaks_values_and_loses_none(make: object, row: RetrievalRow, width: int) -> None:
    assert callable(make)
    narrow = "".join(lines(make([row]), width))
    wide = "".join(lines(make([row]), 200))
    assert "…" not in narrow
    assert narrow.count("100.0") <= wide.count("100.0")
    for character in "0123456789[]→":
        assert narrow.count(character) == wide.count(character)
