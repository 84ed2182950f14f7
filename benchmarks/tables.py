"""A benchmark on a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from aml_edge.artifact import Verdict
from aml_edge.benchmarks import front_tables, kernel_warnings, search_tables, text_tables
from aml_edge.benchmarks.report import BenchmarkReport, GroupReport
from aml_edge.benchmarks.text_tables import TextTable

WIDE_COLUMNS = 100
"""From here on tables have all their columns, and their intervals."""
INDENT = (0, 0, 0, 3)


def render_benchmark(report: BenchmarkReport, width: int) -> RenderableType:
    """Returns what a person reads of a benchmark, in `width` columns, 80 at least."""
    parts: list[RenderableType] = []
    for group in report.groups:
        parts += [*_group(group, brief=width < WIDE_COLUMNS), Text()]
    return Group(*parts, *_fronts(report, brief=width < WIDE_COLUMNS), *_search(report), *_circumstances(report))


def _group(group: GroupReport, *, brief: bool) -> Iterator[RenderableType]:
    yield Text(text_tables.title(group), "bold")
    yield Text(text_tables.cost_line(group))
    for note in group.notes:
        yield Text(note, "yellow")
    tables = [text_tables.latency_table(group, brief=brief), text_tables.file_table(group)]
    for table in tables:
        yield Text()
        yield Padding(_table(table), INDENT)
    found = text_tables.map_table(group)
    if found is not None:
        yield Text()
        yield Padding(Text(text_tables.map_line(group) or ""), INDENT)
        yield Padding(_table(found), INDENT)
    lost = search_tables.approximation_table(group, brief=brief)
    if lost is not None:
        yield Text()
        yield Padding(Text(search_tables.approximation_line(group, brief=brief) or ""), INDENT)
        yield Padding(_table(lost), INDENT)
    for line in kernel_warnings.agreement_lines(group):
        yield Padding(Text(line), INDENT)
    yield Text()
    for verdict in text_tables.verdicts(group):
        yield Padding(Text(verdict, "" if verdict.endswith(f": {Verdict.VERIFIED}") else "yellow"), INDENT)
    for reason in text_tables.refusals(group):
        yield Padding(Text(reason, "yellow"), INDENT)


def _fronts(report: BenchmarkReport, *, brief: bool) -> Iterator[RenderableType]:
    for front in front_tables.shown_fronts(report.groups):
        yield Text(front_tables.front_line(front))
        yield Padding(_table(front_tables.front_table(front, brief=brief)), INDENT)
        yield Text()
    said = front_tables.recommendations(report.groups)
    yield from (Text(sentence) for sentence in said)
    if said:
        yield Text()


def _search(report: BenchmarkReport) -> Iterator[RenderableType]:
    found = search_tables.search_table(report)
    if found is not None:
        yield Text(search_tables.search_line(report) or "")
        yield Padding(_table(found), INDENT)
        yield Text()


def _circumstances(report: BenchmarkReport) -> Iterator[RenderableType]:
    for warning in (*kernel_warnings.kernel_warnings(report), *text_tables.warnings(report)):
        yield Text(warning, "yellow")
    for line in text_tables.machine_lines(report.environment):
        yield Text(line)
    yield Text(text_tables.plan_line(report.plan, report.threads))
    yield Text(text_tables.load_line(report.load))
    for name, sentence in text_tables.include_lines(report):
        yield Text(f"{name}: {sentence}", "dim")


def _table(content: TextTable) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    first, *others = content.header
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    for row in content.rows:
        table.add_row(*(Text(cell, "yellow" if cell == text_tables.NOT_RUN else "") for cell in row))
    return table
