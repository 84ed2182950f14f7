"""`aml-edge compare`: whether two runs on the same queries differ by more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from aml_edge.cli.console import JsonOption, console_for, write_json

if TYPE_CHECKING:
    from aml_edge.comparison import ComparedRows

NOTE = "in %, [95 % bootstrap over N pairs]; p: paired randomisation test, two-sided"


@dataclass(frozen=True)
class ComparisonReport:
    """What `aml-edge compare` writes.

    Args:
        first, second: files of the two reports.
        dataset: whose queries.
        rows: what was compared.
    """

    first: Path
    second: Path
    dataset: str
    rows: tuple[ComparedRows, ...]


def compare(
    first: Annotated[Path, typer.Argument(metavar="A.json", help="A report of `aml-edge eval --json`.")],
    second: Annotated[Path, typer.Argument(metavar="B.json", help="Another one, or the same for two of its rows.")],
    *,
    row: Annotated[str | None, typer.Option(help="Of A, e.g. 'student -> teacher'; all rows that B has too.")] = None,
    against: Annotated[
        str | None, typer.Option(help="The row of B that it is compared with; of the same name.")
    ] = None,
    json_target: JsonOption = None,
) -> None:
    """Compare two runs on the same queries: the difference, its interval, and how likely chance makes one as large."""
    from aml_edge.comparison import compare_reports, read_report, rows_without_counterpart

    console = console_for(json_target)
    one, other = read_report(first), read_report(second)
    rows = compare_reports(one, other, row=row, against=against)
    console.print(f"A: {escape(str(first))}\nB: {escape(str(second))}\ndata set: {escape(one.dataset)}", soft_wrap=True)
    console.print(comparison_table(rows))
    console.print(f"[dim]{escape(NOTE)}[/]", soft_wrap=True)
    for name, alone in zip("AB", rows_without_counterpart(one, other) if row is None else (), strict=False):
        if alone:
            shown = escape(", ".join(alone))
            console.print(f"[yellow]only in {name}: {shown} (--row and --against compare any two)[/]", soft_wrap=True)
    write_json(ComparisonReport(first, second, one.dataset, rows), json_target)


def comparison_table(rows: Sequence[ComparedRows]) -> Table:
    """Returns a line for each measure of the rows; a row's name stands in a line above its measures."""
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
    )
    table.add_column("measure", overflow="fold")
    for column in ("N", "A", "B", "B − A", "[95 %]", "p"):
        table.add_column(column, justify="right", overflow="fold")
    for one in rows:
        names = one.first if one.first == one.second else f"{one.first}\n| {one.second}"
        table.add_row(escape(names), end_section=False)
        for measure in one.measures:
            low, high = measure.interval.low, measure.interval.high
            table.add_row(
                f"  {escape(measure.name)}",
                str(measure.queries),
                f"{100 * measure.first:.1f}",
                f"{100 * measure.second:.1f}",
                f"{100 * measure.difference:+.1f}",
                f"[{100 * low:+.1f}, {100 * high:+.1f}]",
                "<0.001" if measure.p_value < 0.001 else f"{measure.p_value:.3f}",
                end_section=measure is one.measures[-1],
            )
    return table
