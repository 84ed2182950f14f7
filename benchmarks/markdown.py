"""A benchmark as Markdown, for a README or an issue: every column and every circumstance."""

from __future__ import annotations

from collections.abc import Iterator

from aml_edge.benchmarks import front_tables, kernel_warnings, search_tables, text_tables
from aml_edge.benchmarks.report import BenchmarkReport, GroupReport
from aml_edge.benchmarks.text_tables import TextTable


def format_markdown(report: BenchmarkReport) -> str:
    """Returns the report as a Markdown text that ends in a newline."""
    blocks = [block for group in report.groups for block in _group(group)]
    for front in front_tables.shown_fronts(report.groups):
        blocks += [_escape(front_tables.front_line(front)), _table(front_tables.front_table(front))]
    blocks += [_escape(sentence) for sentence in front_tables.recommendations(report.groups)]
    searched = search_tables.search_table(report)
    if searched is not None:
        blocks += [_escape(search_tables.search_line(report) or ""), _table(searched)]
    warnings = (*kernel_warnings.kernel_warnings(report), *text_tables.warnings(report))
    blocks += [f"**{_escape(warning)}**" for warning in warnings]
    circumstances = (
        *text_tables.machine_lines(report.environment),
        text_tables.plan_line(report.plan, report.threads),
        text_tables.load_line(report.load),
        *(f"{name}: {sentence}" for name, sentence in text_tables.include_lines(report)),
    )
    blocks.append("\n".join(f"- {_escape(line)}" for line in circumstances))
    return "\n\n".join(blocks) + "\n"


def _group(group: GroupReport) -> Iterator[str]:
    yield f"### {_escape(text_tables.title(group))}"
    yield _escape(text_tables.cost_line(group))
    for note in group.notes:
        yield _escape(note)
    yield _table(text_tables.latency_table(group))
    yield _table(text_tables.file_table(group))
    found = text_tables.map_table(group)
    if found is not None:
        yield _escape(text_tables.map_line(group) or "")
        yield _table(found)
    lost = search_tables.approximation_table(group)
    if lost is not None:
        yield _escape(search_tables.approximation_line(group) or "")
        yield _table(lost)
    said = (kernel_warnings.agreement_lines, text_tables.verdicts, text_tables.refusals)
    for sentence in (sentence for say in said for sentence in say(group)):
        yield _escape(sentence)


def _table(content: TextTable) -> str:
    rule = ("---", *["---:"] * (len(content.header) - 1))
    return "\n".join(_line(row) for row in (content.header, rule, *content.rows))


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(_escape(cell) for cell in cells)} |"


def _escape(text: str) -> str:
    """Returns text whose characters mean themselves in Markdown, a table's included."""
    for special in ("\\", "|", "_", "*", "<", "`"):
        text = text.replace(special, "\\" + special)
    return text.replace("\n", " ")
