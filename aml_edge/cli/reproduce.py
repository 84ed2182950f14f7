"""`aml-edge reproduce`: the paper's table on a data set of any size, and which of its findings hold there."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aml_edge.cli.console import ConsoleProgress, JsonOption, console_for, write_json
from aml_edge.cli.option_groups import with_option_groups

if TYPE_CHECKING:
    from aml_edge.training.findings import Finding
    from aml_edge.training.reproduction import ReproducedRow


@dataclass(frozen=True)
class ReproductionReport:
    """What `aml-edge reproduce` writes.

    Args:
        data: the folder of the two sets.
        rows: of the table.
        findings: of the paper.
    """

    data: Path
    rows: tuple[ReproducedRow, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class ChangeOptions:
    """What is changed in the recipes."""

    rows: Annotated[
        str, typer.Option(help="Which, separated by commas; paper is all of the paper's, later those of later losses.")
    ] = "paper"
    changes: Annotated[
        list[str], typer.Option("--set", metavar="NAME=VALUE", help="Change a value in every student's recipe.")
    ] = field(default_factory=list)
    teacher_changes: Annotated[
        list[str], typer.Option("--set-teacher", metavar="NAME=VALUE", help="Change a value in the teacher's recipe.")
    ] = field(default_factory=list)


@with_option_groups
def reproduce(
    *,
    data: Annotated[Path, typer.Option(help="A folder with train/NAME and test/NAME, as `data synth` writes.")],
    out: Annotated[Path, typer.Option(help="The folder for runs/ and indexes/; what is finished there is kept.")],
    options: ChangeOptions,
    workers: Annotated[int, typer.Option(help="Threads that read images ahead.", min=1)] = 2,
    json_target: JsonOption = None,
) -> None:
    """Train and test every row of the paper's table, and say which of its findings hold on this data set."""
    from aml_edge.cli.reproduction_tables import findings_table, reproduction_markdown, reproduction_table
    from aml_edge.files import write_text_atomically
    from aml_edge.training.findings import judge_findings
    from aml_edge.training.reproduction import LATER_ROWS, ROWS, ReproductionPlan
    from aml_edge.training.reproduction import reproduce as reproduce_by_plan

    console = console_for(json_target)
    named = {"paper": ROWS, "later": LATER_ROWS}
    rows = tuple(row for part in options.rows.split(",") for row in named.get(part.strip(), (part.strip(),)))
    plan = ReproductionPlan(
        data, out, tuple(dict.fromkeys(rows)), tuple(options.changes), tuple(options.teacher_changes)
    )
    made = reproduce_by_plan(plan, workers=workers, progress=ConsoleProgress(console))
    findings = judge_findings(made)
    console.print(reproduction_table(made))
    console.print(findings_table(findings))
    write_text_atomically(out / "table.md", reproduction_markdown(made, findings))
    console.print(f"[bold]{out / 'table.md'}[/]", soft_wrap=True)
    write_json(ReproductionReport(data, made, findings), json_target)
