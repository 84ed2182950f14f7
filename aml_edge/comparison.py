"""Whether two runs differ by more than chance: two reports of `aml-edge eval --json` on the same queries, compared.

A report may come from anyone, so that nothing in it is taken for granted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aml_edge.bootstrap import Interval, paired_bootstrap
from aml_edge.errors import UsageError
from aml_edge.evaluated_rows import database_name
from aml_edge.printable import printable
from aml_edge.randomisation import paired_randomisation_test

_SETTINGS = ("easy", "medium", "hard")


@dataclass(frozen=True)
class ReportedRow:
    """A row of a report.

    Args:
        label: queries, database, and under which conditions, e.g. ``"student → teacher, whitened by teacher"``.
        measures: name → value of each query, NaN where it has no positive, e.g. ``"medium mAP"``.
    """

    label: str
    measures: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class ReportedEvaluation:
    """A report.

    Args:
        path: its file.
        dataset: its name.
        rows: each under a label of its own.
    """

    path: Path
    dataset: str
    rows: Mapping[str, ReportedRow]


@dataclass(frozen=True)
class ComparedMeasure:
    """A measure of two rows.

    Args:
        name: e.g. ``"medium mAP"``.
        queries: that have a positive.
        first, second: means over them.
        difference: second − first.
        interval: of the difference, 95 % over queries, drawn in pairs.
        p_value: two-sided, of the paired randomisation test.
    """

    name: str
    queries: int
    first: float
    second: float
    difference: float
    interval: Interval
    p_value: float


@dataclass(frozen=True)
class ComparedRows:
    """Two rows, measure by measure; a measure without a query that has a positive is left out."""

    first: str
    second: str
    measures: tuple[ComparedMeasure, ...]


def read_report(path: Path) -> ReportedEvaluation:
    """Returns what a report says of each query.

    Raises:
        UsageError: there is no such file, or it holds no report with values of its queries.
    """
    if not path.is_file():  # a device may have no end
        raise UsageError(f"{path} is no file; give a report of `aml-edge eval --json`.")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise UsageError(f"{path} cannot be read: {problem}; give a report of `aml-edge eval --json`.") from None
    try:
        record = json.loads(text)
        rows = [_row(one) for one in _list(record["rows"])]
        dataset = _text(record["dataset"])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as problem:
        raise UsageError(f"{path} holds no report of `aml-edge eval --json` ({problem}); write one.") from None
    labels = [row.label for row in rows]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise UsageError(f"{path} has two rows {twice!r}, which cannot be told apart; evaluate them one by one.")
    return ReportedEvaluation(path, dataset, dict(zip(labels, rows, strict=True)))


def compare_reports(
    first: ReportedEvaluation, second: ReportedEvaluation, *, row: str | None = None, against: str | None = None
) -> tuple[ComparedRows, ...]:
    """Returns rows of the second report beside those of the first, on the same queries.

    Args:
        first, second: of one data set; the same one where two of its rows are compared.
        row: label in the first; all labels that are in both where None.
        against: label in the second; the same as `row` where None.

    Raises:
        UsageError: the reports are about different queries, or there is no such row.
    """
    if first.dataset != second.dataset:
        raise UsageError(
            f"{first.path} is of {first.dataset!r}, but {second.path} of {second.dataset!r}; "
            "compare runs on the same data set."
        )
    if row is None and against is not None:
        raise UsageError(f"`against` is {against!r}, but no row is named to be compared with it; add --row.")
    if row is not None:
        pairs = [(_named(first, row), _named(second, row if against is None else against))]
    else:
        pairs = [(one, second.rows[label]) for label, one in first.rows.items() if label in second.rows]
    if not pairs:
        raise UsageError(
            f"no row of {first.path} ({_listed(first)}) is in {second.path} ({_listed(second)}); "
            "name two with --row and --against."
        )
    return tuple(ComparedRows(left.label, right.label, tuple(_compared(left, right))) for left, right in pairs)


def rows_without_counterpart(
    first: ReportedEvaluation, second: ReportedEvaluation
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the labels of rows that are in the first report alone, and in the second alone."""
    left = tuple(label for label in first.rows if label not in second.rows)
    return left, tuple(label for label in second.rows if label not in first.rows)


def _compared(first: ReportedRow, second: ReportedRow) -> Iterator[ComparedMeasure]:
    if first.measures.keys() != second.measures.keys():
        raise UsageError(
            f"{first.label!r} has {', '.join(first.measures)}, but {second.label!r} {', '.join(second.measures)}; "
            "compare runs by the same protocol."
        )
    for name, values in first.measures.items():
        others = second.measures[name]
        if [math.isnan(value) for value in values] != [math.isnan(value) for value in others]:
            raise UsageError(
                f"{name} of {first.label!r} has {len(values)} queries and of {second.label!r} {len(others)}, or other "
                "ones of them have no positive; compare runs on the same queries."
            )
        left, right = ([value for value in one if not math.isnan(value)] for one in (values, others))
        if left:
            means = [sum(one) / len(one) for one in (left, right)]
            yield ComparedMeasure(
                name=name,
                queries=len(left),
                first=means[0],
                second=means[1],
                difference=means[1] - means[0],
                interval=paired_bootstrap(left, right),
                p_value=paired_randomisation_test(left, right),
            )


def _named(report: ReportedEvaluation, name: str) -> ReportedRow:
    """Returns the row of a label, in which ``->`` may stand for the arrow."""
    row = report.rows.get(name.replace("->", "→"))
    if row is None:
        raise UsageError(f"`row` is {name!r}, which {report.path} does not have; it has {_listed(report)}.")
    return row


def _listed(report: ReportedEvaluation) -> str:
    return ", ".join(map(repr, report.rows)) or "no row"


def _row(record: Any) -> ReportedRow:
    database = database_name(_text(record["database"]), _count(record.get("distractors", 0)))
    label = [f"{_text(record['queries'])} → {database}"]
    asked, stored = (_scales(record.get(name, [1.0])) for name in ("query_scales", "database_scales"))
    if {asked, stored} != {"1"}:
        label.append(f"scales {' → '.join(dict.fromkeys((asked, stored)))}")
    if record.get("whitening") is not None:
        label.append(f"whitened by {_text(record['whitening'])}")
    if record.get("approximation") is not None:
        label.append(_text(record["approximation"]["ann"]))
    return ReportedRow(", ".join(label), dict(_measures(record["report"])))


def _measures(report: Any) -> Iterator[tuple[str, tuple[float, ...]]]:
    if "measures" in report:
        for measure in _list(report["measures"]):
            yield _text(measure["name"]), _values(measure["values"])
    else:
        for name in _SETTINGS:
            yield f"{name} mAP", _values(report[name]["average_precisions"])


def _values(values: Any) -> tuple[float, ...]:
    return tuple(math.nan if value is None else _share(value) for value in _list(values))


def _share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"{value!r:.40} is no value of a query, which is in 0..1")
    return float(value)


def _scales(value: Any) -> str:
    return ",".join(f"{_number(scale):.4g}" for scale in _list(value))


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r:.40} is no number")
    return float(value)


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError(f"{value!r:.40} is no count")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return printable(value)


def _list(value: Any) -> Sequence[Any]:
    if not isinstance(value, list):
        raise TypeError("a list is missing")
    return value
