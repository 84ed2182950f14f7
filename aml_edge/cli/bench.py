"""`aml-edge bench`: what a student's files cost on this machine, beside PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from aml_edge.cli.ann_options import SearchOptions
from aml_edge.cli.console import ConsoleProgress, JsonOption, console_for, unredirected, write_json
from aml_edge.cli.option_groups import with_option_groups
from aml_edge.errors import ExportError, UsageError
from aml_edge.files import write_text_atomically

if TYPE_CHECKING:
    from aml_edge.artifact import Artifact
    from aml_edge.benchmarks.retrieval import GroundTruth
    from aml_edge.benchmarks.suite import BenchmarkSettings
    from aml_edge.networks.checkpoints import StudentCheckpoint

ARTIFACTS = Path("artifacts")
RUNS = Path("runs")
_TIMES, _RETRIEVAL = "Times", "Asymmetric mAP"


@dataclass(frozen=True)
class TimeOptions:
    """How times are taken."""

    threads: Annotated[
        list[int] | None,
        typer.Option(rich_help_panel=_TIMES, help="Of one inference; may be repeated; 1 and all cores."),
    ] = None
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            rich_help_panel=_TIMES,
            help="What runs the files; may be repeated; all that are installed, for integers exact kernels too.",
        ),
    ] = None
    quick: Annotated[
        bool, typer.Option("--quick", rich_help_panel=_TIMES, help="Few calls: a look, not a measurement.")
    ] = False

    def settings(self, truth: GroundTruth | None) -> BenchmarkSettings:
        """Returns how to measure."""
        from aml_edge.benchmarks.latency import QUICK_PLAN, LatencyPlan
        from aml_edge.benchmarks.suite import BenchmarkSettings
        from aml_edge.runtimes.fixed_input import thread_count

        cores = thread_count(None)
        if self.threads and max(self.threads) > cores:
            raise UsageError(f"`threads` is {max(self.threads)}; this machine has {cores} cores, so at most that many.")
        plan = QUICK_PLAN if self.quick else LatencyPlan()
        return BenchmarkSettings(plan, tuple(self.threads or ()), tuple(self.runtime or ()), truth)


@dataclass(frozen=True)
class TruthOptions:
    """What queries are evaluated with."""

    index: Annotated[
        Path | None, typer.Option(rich_help_panel=_RETRIEVAL, help="The teacher's index that queries will meet.")
    ] = None
    dataset: Annotated[
        Path | None, typer.Option(rich_help_panel=_RETRIEVAL, help="A data set in the revisited layout.")
    ] = None

    def open(self, search: SearchOptions) -> GroundTruth | None:
        """Returns index and data set, or None where neither was named; `UsageError` where one of them was."""
        searches = search.searches()
        if self.index is None and self.dataset is None:
            if searches.specs:
                raise UsageError(f"`ann` is '{searches.specs[0]}', but no index is given that has it; add --index.")
            return None
        if self.index is None or self.dataset is None:
            given, missing = ("--dataset", "--index") if self.index is None else ("--index", "--dataset")
            raise UsageError(f"`{given}` is given without `{missing}`; mAP needs both, sizes and speeds need neither.")
        from aml_edge.benchmarks.retrieval import GroundTruth
        from aml_edge.datasets.loading import load_test_set
        from aml_edge.index import open_index

        index = open_index(self.index)
        return GroundTruth(index, load_test_set(self.dataset), searches.open(index))


@with_option_groups
def bench(
    artifacts: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[ARTIFACT]…", help="Exported files, or folders of them; those under artifacts/."),
    ] = None,
    *,
    student: Annotated[
        str | None,
        typer.Option(help="Only files of this student, aml:NAME for a released one; the run with their weights."),
    ] = None,
    times: TimeOptions,
    retrieval: TruthOptions,
    search: SearchOptions,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the tables as Markdown.")] = None,
    json_target: JsonOption = None,
) -> None:
    """Measure what exported files cost here, and what they retrieve, beside PyTorch eager; mark those that none beats.

    Named no file, and with none under artifacts/, it first exports the student in every format that is installed.
    """
    from aml_edge.benchmarks.markdown import format_markdown
    from aml_edge.benchmarks.reference import find_student
    from aml_edge.benchmarks.rows import Group, group_artifacts
    from aml_edge.benchmarks.suite import run_benchmark
    from aml_edge.benchmarks.tables import render_benchmark

    console = console_for(json_target)
    truth = retrieval.open(search)
    settings = times.settings(truth)
    checkpoint = _named_student(student, truth, console)
    groups = [
        Group(of_one_student, checkpoint or find_student(of_one_student[0].manifest, RUNS))
        for of_one_student in group_artifacts(_files(artifacts, checkpoint, truth, console))
    ]
    report = run_benchmark(groups, settings, ConsoleProgress(console))
    console.print(render_benchmark(report, console.width))
    write_json(report, json_target)
    if markdown is not None:
        write_text_atomically(markdown, format_markdown(report))


def _named_student(name: str | None, truth: GroundTruth | None, console: Console) -> StudentCheckpoint | None:
    from aml_edge.networks.released import resolve_student

    if name is None:
        return None
    space = None if truth is None else truth.index.space_before_whitening
    return resolve_student(name, space=space, progress=ConsoleProgress(console))


def _files(
    named: list[Path] | None, checkpoint: StudentCheckpoint | None, truth: GroundTruth | None, console: Console
) -> tuple[Artifact, ...]:
    """Returns the files that were named, else those under artifacts/, else those exported there now."""
    from aml_edge.benchmarks.discovery import discover, read_named
    from aml_edge.benchmarks.reference import require_student_of

    if named:
        artifacts = read_named(named)
        if checkpoint is not None:
            require_student_of(artifacts, checkpoint)
        return artifacts
    found = discover(ARTIFACTS, checkpoint, None if truth is None else truth.index.space)
    for sentence in found.left_out:
        console.print(f"[yellow]left out:[/] {escape(sentence)}", soft_wrap=True)
    return found.artifacts or _exported(checkpoint, truth, console)


def _exported(
    checkpoint: StudentCheckpoint | None, truth: GroundTruth | None, console: Console
) -> tuple[Artifact, ...]:
    """Returns the student's files in every format whose converter is installed, made now, and says so."""
    from aml_edge.exporters import EXPORTERS, is_installed
    from aml_edge.exporters.export import export_student
    from aml_edge.exporters.export_spec import ExportSpec
    from aml_edge.networks.released import resolve_student

    checkpoint = checkpoint or resolve_student(None)
    formats = [model_format for model_format in EXPORTERS if is_installed(model_format)]
    names = ", ".join(formats)
    console.print(f"{ARTIFACTS}/ holds no file to measure: '{escape(checkpoint.name)}' is exported first, to {names}.")
    if not checkpoint.trained:
        console.print("[yellow]It has random weights: its files are good for sizes and speeds only.[/]")
    name = f"student '{checkpoint.name}'"
    whitening = None if truth is None else truth.index.whitening_for(checkpoint.space, name=name)
    space = None if truth is None else truth.index.space
    side = checkpoint.preprocessing.image_side_px
    artifacts: list[Artifact] = []
    failures: list[ExportError] = []
    with unredirected(console) as bar, ConsoleProgress(bar).task("exporting", len(formats)) as task:
        for model_format in formats:
            task.advance(0, status=model_format)
            spec = ExportSpec(model_format, image_side_px=side)
            try:
                artifacts.append(export_student(checkpoint, spec, ARTIFACTS, whitening=whitening, space=space))
            except ExportError as error:
                failures.append(error)
            task.advance(status=model_format)
    if not artifacts:
        raise failures[0]
    for failure in failures:
        console.print(f"[red]left out:[/] {escape(str(failure))}", soft_wrap=True)
    return tuple(artifacts)
