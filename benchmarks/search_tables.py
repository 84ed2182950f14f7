"""What approximate search costs and how long a search takes, as tables of text."""

from __future__ import annotations

from aml_edge.approximate.cost import MeasureCost
from aml_edge.benchmarks.report import BenchmarkReport, GroupReport
from aml_edge.benchmarks.search_latency import NEAREST
from aml_edge.benchmarks.text_tables import NONE, TextTable, megabytes, milliseconds


def approximation_table(group: GroupReport, *, brief: bool = False) -> TextTable | None:
    """Returns one line a row and approximate index: what approximation costs each setting; None where none was asked.

    A line's last column is how much of the exact search's nearest ten is found; `brief` leaves out intervals.
    """
    rows = []
    for row in group.rows:
        for cost in () if row.retrieval is None else row.retrieval.approximation:
            costs = {one.name: difference(one, brief=brief) for one in cost.measures}
            settings = (costs.get(f"{name} mAP", NONE) for name in ("easy", "medium", "hard"))
            tens = next((f"{one.mean:.3f}" for one in cost.found if one.k == NEAREST), NONE)
            rows.append((f"{row.label}, {cost.ann}", *settings, tens))
    return TextTable(("", "easy", "medium", "hard", f"of {NEAREST}"), tuple(rows)) if rows else None


def approximation_line(group: GroupReport, *, brief: bool = False) -> str | None:
    """Returns what the differences are of, in one line, or None where there are none."""
    costs = [cost for row in group.rows if row.retrieval is not None for cost in row.retrieval.approximation]
    if not costs:
        return None
    wanted = f"asked for {costs[0].depth} of {costs[0].database_images} images"
    return f"approximate − exact mAP, points{'' if brief else ' [95 % over queries]'}, {wanted}"


def search_table(report: BenchmarkReport) -> TextTable | None:
    """Returns one line a way to search the index; None where that was not timed."""
    if report.search is None:
        return None
    rows = tuple(
        (
            one.name,
            str(one.threads),
            milliseconds(one.latency.p50_ms),
            milliseconds(one.latency.p90_ms),
            NONE if one.recall is None else f"{one.recall:.3f}",
            megabytes(one.size_bytes),
        )
        for one in report.search.times
    )
    return TextTable(("", "threads", "p50 ms", "p90", f"recall@{report.search.nearest}", "MB"), rows)


def search_line(report: BenchmarkReport) -> str | None:
    """Returns what was searched, in one line, or None where nothing was."""
    found = report.search
    if found is None:
        return None
    return f"search of the index, {found.rows} × {found.dimension}, {found.queries} queries by turns, one a call"


def difference(cost: MeasureCost, *, brief: bool = False) -> str:
    """Returns what a measure loses in points of 100, with its interval unless `brief`."""
    low, high = 100 * cost.interval.low, 100 * cost.interval.high
    return f"{100 * cost.difference:+.2f}" + ("" if brief else f" [{low:+.2f}, {high:+.2f}]")
