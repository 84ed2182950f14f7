"""Two reports compared: numbers worked out apart, and nothing of a foreign file taken for granted."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aml_edge.bootstrap import paired_bootstrap
from aml_edge.comparison import compare_reports, read_report
from aml_edge.errors import UsageError
from aml_edge.randomisation import paired_randomisation_test

FIRST, SECOND = (np.random.default_rng(seed).random(12).tolist() for seed in (0, 1))


def row(queries: str = "student", easy: Any = FIRST, **more: Any) -> dict[str, Any]:
    """A row as `aml-edge eval` writes it: the medium setting has one query, the hard one none with a positive."""
    settings = {"easy": easy, "medium": [0.5, *[None] * 11], "hard": [None] * 12}
    report = {name: {"average_precisions": values} for name, values in settings.items()}
    return {"queries": queries, "database": "teacher", "report": report, **more}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def written(name: str, *rows: Any, dataset: str = "roxford5k") -> Path:
        (tmp_path / name).write_text(json.dumps({"dataset": dataset, "rows": list(rows)}))
        return tmp_path / name

    return written


def test_rows_of_one_name_are_compared(write: Callable[..., Path]) -> None:
    first = read_report(write("a", row("teacher"), row(easy=FIRST)))
    second = read_report(write("b", row(easy=SECOND), row("file")))
    (compared,) = compare_reports(first, second)
    assert (compared.first, compared.second) == ("student → teacher", "student → teacher")
    easy, medium = compared.measures
    assert (easy.name, easy.queries, medium.name, medium.queries) == ("easy mAP", 12, "medium mAP", 1)
    assert (easy.first, easy.second) == pytest.approx((np.mean(FIRST), np.mean(SECOND)))
    assert easy.difference == pytest.approx(np.mean(SECOND) - np.mean(FIRST))
    assert easy.interval == paired_bootstrap(FIRST, SECOND)
    assert easy.p_value == paired_randomisation_test(FIRST, SECOND)
    assert (medium.difference, medium.interval.low, medium.interval.high, medium.p_value) == (0, 0, 0, 1)


def test_queries_without_a_positive_are_left_out(write: Callable[..., Path]) -> None:
    left, right = [None, 0.25, 0.5, None], [None, 0.5, 0.5, None]
    sides = [
        read_report(write(name, {**row(), "report": {"measures": [{"name": "mAP@100", "values": values}]}}))
        for name, values in (("a", left), ("b", right))
    ]
    ((measure,),) = (one.measures for one in compare_reports(sides[0], sides[1]))
    assert (measure.name, measure.queries, measure.first, measure.second) == ("mAP@100", 2, 0.375, 0.5)


def test_labels_say_the_conditions(write: Callable[..., Path]) -> None:
    scales: dict[str, Any] = {"query_scales": [1.0, 0.7071067811865475], "database_scales": [1.0, 0.7071067811865475]}
    mixed: dict[str, Any] = {"query_scales": [1.0, 0.5], "database_scales": [1.0]}
    report = read_report(
        write(
            "a",
            row(),
            row(**scales, whitening="teacher"),
            row(**mixed),
            row(distractors=1001001, whitening=None),
            row(approximation={"ann": "faiss:ivf64"}),
        )
    )
    assert list(report.rows) == [
        "student → teacher",
        "student → teacher, scales 1,0.7071, whitened by teacher",
        "student → teacher, scales 1,0.5 → 1",
        "student → teacher + 1 001 001",
        "student → teacher, faiss:ivf64",
    ]


def test_two_rows_of_one_report_are_compared_by_name(write: Callable[..., Path]) -> None:
    report = read_report(write("a", row(), row("file", easy=SECOND)))
    (compared,) = compare_reports(report, report, row="student -> teacher", against="file -> teacher")
    assert (compared.first, compared.second) == ("student → teacher", "file → teacher")
    assert compared.measures[0].difference == pytest.approx(np.mean(SECOND) - np.mean(FIRST))
    (same,) = compare_reports(report, report, row="student → teacher")
    assert same.measures[0].difference == 0


def test_what_cannot_be_compared_is_refused(write: Callable[..., Path]) -> None:
    a, b = read_report(write("a", row())), read_report(write("b", row("file")))
    with pytest.raises(UsageError) as refusal:
        compare_reports(a, b)
    assert str(refusal.value) == (
        f"no row of {a.path} ('student → teacher') is in {b.path} ('file → teacher'); "
        "name two with --row and --against."
    )
    with pytest.raises(UsageError) as refusal:
        compare_reports(a, b, row="student -> teacher")
    assert str(refusal.value) == (
        f"`row` is 'student -> teacher', which {b.path} does not have; it has 'file → teacher'."
    )
    with pytest.raises(UsageError, match=r"^`against` is 'x', but no row is named to be compared with it; add --row"):
        compare_reports(a, b, against="x")
    paris = read_report(write("p", row(), dataset="rparis6k"))
    with pytest.raises(UsageError) as refusal:
        compare_reports(a, paris)
    assert str(refusal.value) == (
        f"{a.path} is of 'roxford5k', but {paris.path} of 'rparis6k'; compare runs on the same data set."
    )


@pytest.mark.parametrize("values", [FIRST[:-1], [None, *FIRST[1:]]])
def test_other_queries_are_refused(write: Callable[..., Path], values: list[float | None]) -> None:
    a, b = read_report(write("a", row())), read_report(write("b", row(easy=values)))
    with pytest.raises(UsageError) as refusal:
        compare_reports(a, b)
    assert str(refusal.value) == (
        f"easy mAP of 'student → teacher' has 12 queries and of 'student → teacher' {len(values)}, or other ones of "
        "them have no positive; compare runs on the same queries."
    )


def test_another_protocol_is_refused(write: Callable[..., Path]) -> None:
    a = read_report(write("a", row()))
    b = read_report(write("b", {**row(), "report": {"measures": [{"name": "mAP@100", "values": FIRST}]}}))
    with pytest.raises(UsageError, match=r"has easy mAP, medium mAP, hard mAP, but 'student → teacher' mAP@100; comp"):
        compare_reports(a, b)


HOSTILE: dict[str, Any] = {
    "a number": 7,
    "text": "report",
    "no rows": {"dataset": "x"},
    "rows of text": {"dataset": "x", "rows": "abc"},
    "a row of text": {"dataset": "x", "rows": ["abc"]},
    "a row of nothing": {"dataset": "x", "rows": [None]},
    "a data set of a number": {"dataset": 3, "rows": []},
    "a report of a number": {"dataset": "x", "rows": [{**row(), "report": 3}]},
    "a report of text": {"dataset": "x", "rows": [{**row(), "report": "measures"}]},
    "a setting of a list": {"dataset": "x", "rows": [{**row(), "report": {"easy": []}}]},
    "measures of nothing": {"dataset": "x", "rows": [{**row(), "report": {"measures": None}}]},
    "values of text": {"dataset": "x", "rows": [row(easy="12")]},
    "a value of text": {"dataset": "x", "rows": [row(easy=["0.5"])]},
    "a value that is true": {"dataset": "x", "rows": [row(easy=[True])]},
    "a value above one": {"dataset": "x", "rows": [row(easy=[1.5])]},
    "a value beyond numbers": {"dataset": "x", "rows": [row(easy=[10**400])]},
    "a value of infinity": {"dataset": "x", "rows": [row(easy=[math.inf])]},
    "distractors of text": {"dataset": "x", "rows": [row(distractors="1")]},
    "distractors below nothing": {"dataset": "x", "rows": [row(distractors=-1)]},
    "scales of text": {"dataset": "x", "rows": [row(query_scales="1")]},
    "a scale of text": {"dataset": "x", "rows": [row(query_scales=["1"])]},
    "a scale beyond numbers": {"dataset": "x", "rows": [row(query_scales=[10**400])]},
    "a whitening of a list": {"dataset": "x", "rows": [row(whitening=[])]},
    "an approximation of text": {"dataset": "x", "rows": [row(approximation="flat")]},
    "an approximation of nothing": {"dataset": "x", "rows": [row(approximation={})]},
}


@pytest.mark.parametrize("content", [*map(json.dumps, HOSTILE.values()), "", "{", "[" * 100_000, '{"rows": NaN}'])
def test_what_is_no_report_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UsageError) as refusal:
        read_report(tmp_path / "a.json")
    assert str(refusal.value).startswith(f"{tmp_path / 'a.json'} holds no report of `aml-edge eval --json` (")
    assert "\n" not in str(refusal.value)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "nowhere", tmp_path, Path("/dev/zero")):
        with pytest.raises(UsageError) as refusal:
            read_report(path)
        assert str(refusal.value) == f"{path} is no file; give a report of `aml-edge eval --json`."
    with pytest.raises(UsageError, match=r"binary cannot be read: .*; give a report of `aml-edge eval --json`"):
        read_report(tmp_path / "binary")


def test_rows_that_cannot_be_told_apart_are_refused(write: Callable[..., Path]) -> None:
    with pytest.raises(UsageError, match="has two rows 'student → teacher', which cannot be told apart; evaluate them"):
        read_report(write("a", row(), row()))


def test_names_cannot_write_to_the_terminal(write: Callable[..., Path]) -> None:
    report = read_report(write("a", row("\x1b[31mred")))
    assert list(report.rows) == ["\N{REPLACEMENT CHARACTER}[31mred → teacher"]
