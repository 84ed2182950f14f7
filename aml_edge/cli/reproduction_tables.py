"""A reproduction as tables: on a terminal, and in Markdown for a document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from aml_edge.bootstrap import Interval
    from aml_edge.evaluation import RetrievalRow
    from aml_edge.training.findings import Comparison, Finding
    from aml_edge.training.reproduction import ReproducedRow
    from aml_edge.training.settings import Mode

COLUMNS = ("network", "teacher", "labels", "mining", "asym", "loss")
TESTED = ("symmetric medium", "hard", "asymmetric medium", "hard")
NOTE = "mAP in %, [95 % bootstrap over queries]"
NONE = "–"


def reproduction_table(rows: Sequence[ReproducedRow]) -> Table:
    """Returns the paper's table, a line a row."""
    table = _table(NOTE, *COLUMNS, *TESTED)
    for row in rows:
        table.add_row(*_described(row), *_figures(row))
    return table


def findings_table(findings: Sequence[Finding]) -> Table:
    """Returns each finding with what came of it, and the differences that say so."""
    table = _table("differences of medium mAP in points, [95 % paired bootstrap over queries]", "finding", "here", "by")
    for finding in findings:
        table.add_row(finding.text, str(finding.outcome), "\n".join(map(_difference, finding.comparisons)))
    return table


def reproduction_markdown(rows: Sequence[ReproducedRow], findings: Sequence[Finding]) -> str:
    """Returns both tables in Markdown."""
    heads = ("network", "teacher", "labels", "mining", "asym", "loss", "sym. medium", "hard", "asym. medium", "hard")
    table = _markdown(heads, [(*_described(row), *_figures(row)) for row in rows])
    judged = [
        (finding.text, str(finding.outcome), "; ".join(map(_difference, finding.comparisons))) for finding in findings
    ]
    return f"{table}\n{_markdown(('finding', 'here', 'by'), judged)}"


def _described(row: ReproducedRow) -> tuple[str, ...]:
    if row.training is None:
        return row.network, NONE, "", NONE, "", row.name
    mining = NONE if row.mining == "none" else str(row.mining)
    labels, asymmetric = ("✓" if held else "" for held in (row.labels, row.asymmetric_training))
    return row.network, row.teacher or NONE, labels, mining, asymmetric, row.name


def _figures(row: ReproducedRow) -> tuple[str, ...]:
    return (*_two(row.symmetric), *_two(row.asymmetric))


def _two(tested: RetrievalRow | None) -> tuple[str, str]:
    if tested is None:
        return NONE, NONE
    medium = _figure(tested.report.medium.mean_average_precision, tested.medium_interval)
    return medium, _figure(tested.report.hard.mean_average_precision, tested.hard_interval)


def _figure(value: float, interval: Interval | None) -> str:
    if interval is None:
        return NONE
    return f"{100 * value:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def _difference(comparison: Comparison) -> str:
    claim = comparison.claim
    said = f"{_side(claim.better, claim.share)} − {_side(claim.worse, claim.worse_share)}"
    if comparison.difference is None or comparison.interval is None:
        return f"{said}: not tested"
    low, high = comparison.interval.low, comparison.interval.high
    return f"{said}: {100 * comparison.difference:+.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _side(tested: tuple[str, Mode], share: float) -> str:
    said = " ".join(tested)
    return said if share == 1 else f"{share:g} of the way from untrained to {said}"


def _markdown(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    parts = [heads, ["---"] * len(heads), *lines]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in parts)


def _table(note: str, *columns: str) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        caption=note,
        caption_justify="left",
        caption_style="dim",
        header_style="bold",
    )
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
