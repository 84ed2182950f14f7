"""How well queries were answered, as tables: one line a setting for `eval`, one line a row for the demo."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from aml_edge.scales import SINGLE_SCALE, Scales

if TYPE_CHECKING:
    from aml_edge.bootstrap import Interval
    from aml_edge.evaluated_rows import MeasuredRow, RetrievalRow
    from aml_edge.ranking import SettingReport

NOTE = "mAP and mP in %, [95 % bootstrap over N queries]"
LEFT = {"scales", "whitened\nby", "setting"}
MEASURES_NOTE = "in %, [95 % bootstrap over N queries]"
COSTS_NOTE = "what approximation costs, in %, [95 % bootstrap over N pairs]"
SUMMARY_NOTE = "mAP in %, [95 % bootstrap over queries]"


def retrieval_table(rows: Sequence[RetrievalRow]) -> Table:
    """Returns every number of the rows, a line for each setting.

    Where a row has other scales than 1, a whitening, or distractors, two columns say which; names take two lines then,
    or three with distractors or approximate search, and columns stand closer, so that the table still fits 80 columns.
    """
    plain = all(_is_plain(row) for row in rows)
    first = ["queries → database"] if plain else ["queries\n→ database", "\nscales", "whitened\nby"]
    others = ["setting", "N", "mAP", "[95 %]", "mP@1", "mP@5", "mP@10"]
    table = _table(NOTE, *first, *(others if plain else [f"\n{name}" for name in others]), gap=2 if plain else 1)
    for row in rows:
        heads = [(name,) for name in _names(row)] if plain else _heads(row)
        for head, (name, setting, interval) in zip(heads, row.settings, strict=True):
            precisions = (setting.mean_precision_at_1, setting.mean_precision_at_5, setting.mean_precision_at_10)
            table.add_row(
                *head,
                name,
                str(sum(not math.isnan(value) for value in setting.average_precisions)),
                _percent(setting.mean_average_precision),
                _range(interval),
                *(_percent(value) for value in precisions),
                end_section=name == "hard",
            )
    return table


def approximation_table(rows: Sequence[RetrievalRow | MeasuredRow]) -> Table:
    """Returns what approximate search costs the rows that it answered, a line for each measure below a row's name."""
    table = _table(COSTS_NOTE, "measure", "N", "exact", "approximate", "difference", "[95 %]")
    for row in rows:
        cost = row.approximation
        if cost is None:
            continue
        table.add_row("\n".join([*row.name.split(", "), f"asked for {cost.depth} of {cost.database_images}"]))
        for measure in cost.measures:
            low, high = 100 * measure.interval.low, 100 * measure.interval.high
            table.add_row(
                f"  {measure.name}",
                str(measure.queries),
                _percent(measure.exact),
                _percent(measure.approximate),
                f"{100 * measure.difference:+.1f}",
                f"[{low:+.1f}, {high:+.1f}]",
                end_section=measure is cost.measures[-1],
            )
    return table


def measures_table(rows: Sequence[MeasuredRow]) -> Table:
    """Returns every measure of the rows, a line for each row; conditions stand below its name.

    All rows are of one data set, and so have the same measures.
    """
    first, *others = (one.name.replace("@", "\n@") for one in rows[0].report.measures)
    table = _table(MEASURES_NOTE, "queries → database", "N", first, "[95 %]", *others)
    for row in rows:
        main, *further = row.report.measures
        table.add_row(
            "\n".join([*row.name.split(", "), *_conditions(row)]),
            str(sum(not math.isnan(value) for value in main.values)),
            _percent(main.mean),
            _range(row.interval),
            *(_percent(one.mean) for one in further),
        )
    return table


def summary_table(rows: Sequence[RetrievalRow]) -> Table:
    """Returns mAP and its interval in the three settings, a line for each row."""
    table = _table(SUMMARY_NOTE, "queries → database", "easy", "medium", "hard")
    for row in rows:
        table.add_row(row.name, *(_with_range(one, interval) for _, one, interval in row.settings))
    return table


def _is_plain(row: RetrievalRow | MeasuredRow) -> bool:
    scales = {row.query_scales, row.database_scales}
    return scales == {SINGLE_SCALE} and row.whitening is None and not row.distractors


def _conditions(row: MeasuredRow) -> Iterator[str]:
    """Yields what is not as usual, a line each."""
    if {row.query_scales, row.database_scales} != {SINGLE_SCALE}:
        shares = dict.fromkeys(_short(scales) for scales in (row.query_scales, row.database_scales))
        yield f"scales {' → '.join(shares)}"
    if row.whitening is not None:
        yield f"whitened by {row.whitening}"


def _names(row: RetrievalRow) -> tuple[str, str, str]:
    """Returns what stands before each setting of a row that is as usual: its name, and how it was searched."""
    exact, _, ann = row.name.partition(", ")
    return exact, ann, ""


def _heads(row: RetrievalRow) -> list[tuple[str, str, str]]:
    """Returns what stands before each setting: the database's scales below the queries' where they are others."""
    from aml_edge.evaluated_rows import database_name

    asked, stored = (_short(scales) for scales in (row.query_scales, row.database_scales))
    mixed, further = row.query_scales != row.database_scales, database_name("", row.distractors).strip()
    return [
        (row.queries, asked, row.whitening or "–"),
        (f"→ {row.database}", f"→ {stored}" if mixed else "", ""),
        (", ".join(part for part in (further, row.approximation.ann if row.approximation else "") if part), "", ""),
    ]


def _short(scales: Scales) -> str:
    """Returns the scales in as few characters as tell them apart, e.g. ``"1,.71,.5"``."""
    return ",".join(f"{scale:.2g}".removeprefix("0") for scale in scales)


def _table(note: str, first: str, *others: str, gap: int = 2) -> Table:
    """Returns a table that fits 80 columns; where it does not, values go on below, and none is cut."""
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, gap - 1, 0, 0),
        caption=note,
        caption_justify="left",
        caption_style="dim",
        header_style="bold",
    )
    table.add_column(first, overflow="fold")
    for column in others:
        table.add_column(column, justify="left" if column.strip() in LEFT else "right", overflow="fold")
    return table


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f}"


def _with_range(setting: SettingReport, interval: Interval | None) -> str:
    value = _percent(setting.mean_average_precision)
    return value if interval is None else f"{value} {_range(interval)}"


def _range(interval: Interval | None) -> str:
    return "–" if interval is None else f"[{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
