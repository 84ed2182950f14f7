"""`aml-edge bench`: what a student's files cost on this machine, beside PyTorch."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from aml_edge.cli.console import ConsoleProgress, JsonOption, console_for, write_json
from aml_edge.errors import ExportError, UsageError
from aml_edge.files import write_text_atomically

if TYPE_CHECKING:
    from aml_edge.artifact import Artifact
    from aml_edge.benchmarks.retrieval import GroundTruth
    from aml_edge.networks.checkpoints import StudentCheckpoint

ARTIFACTS = Path("artifacts")
RUNS = Path("runs")


def bench(
    artifacts: Annotated[
        list[Path] | None,
        typer.Argument(metavar="ARTIFACT", help="Files, or folders of them; none for those under artifacts/."),
    ] = None,
    *,
    student: Annotated[str | None, typer.Option(help="Only files of this student, and PyTorch beside them.")] = None,
    index: Annotated[Path | None, typer.Option(help="The teacher's index, for asymmetric mAP.")] = None,
    dataset: Annotated[Path | None, typer.Option(help="The data set to evaluate queries of.")] = None,
    threads: Annotated[list[int] | None, typer.Option(help="Of one inference; may be repeated; 1 and all.")] = None,
    runtime: Annotated[list[str] | None, typer.Option(help="May be repeated; all that are installed.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A look in a few seconds, not a measurement.")] = False,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the tables as Markdown.")] = None,
    json_target: JsonOption = None,
) -> None:
    """Measure sizes, latencies, memory and mAP of exported files, beside PyTorch eager."""
    from aml_edge.benchmarks.latency import QUICK_PLAN, LatencyPlan
    from aml_edge.benchmarks.markdown import format_markdown
    from aml_edge.benchmarks.reference import find_student
    from aml_edge.benchmarks.rows import Group, group_artifacts
    from aml_edge.benchmarks.suite import BenchmarkSettings, run_benchmark
    from aml_edge.benchmarks.tables import render_benchmark
    from aml_edge.networks.released import resolve_student

    console = console_for(json_target)
    truth = _ground_truth(index, dataset)
    plan = QUICK_PLAN if quick else LatencyPlan()
    settings = BenchmarkSettings(plan, tuple(threads or ()), tuple(runtime or ()), truth)
    checkpoint = None if student is None else resolve_student(student)
    files = _files(artifacts, checkpoint, truth, console)
    groups = [
        Group(of_one_student, checkpoint or find_student(of_one_student[0].manifest, RUNS))
        for of_one_student in group_artifacts(files)
    ]
    report = run_benchmark(groups, settings, ConsoleProgress(console))
    console.print(render_benchmark(report, console.width))
    write_json(report, json_target)
    if markdown is not None:
        write_text_atomically(markdown, format_markdown(report))


def _ground_truth(index: Path | None, dataset: Path | None) -> GroundTruth | None:
    from aml_edge.benchmarks.retrieval import GroundTruth
    from aml_edge.datasets.revisited import load_revisited
    from aml_edge.index import open_index

    if (index is None) != (dataset is None):
        given, missing = ("--index", "--dataset") if dataset is None else ("--dataset", "--index")
        raise UsageError(f"`{given}` is given without `{missing}`; mAP needs both, sizes and speeds need neither.")
    return None if index is None or dataset is None else GroundTruth(open_index(index), load_revisited(dataset))


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
        console.print(f"[yellow]left out:[/] {escape(sentence)}")
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
    console.print(f"{ARTIFACTS}/ holds no file to measure, so '{escape(checkpoint.name)}' is exported first:")
    if not checkpoint.trained:
        console.print("[yellow]it has random weights: its files are good for sizes and speeds only.[/]")
    whitening, space = (None, None) if truth is None else (truth.index.whitening, truth.index.space)
    artifacts: list[Artifact] = []
    failure: ExportError | None = None
    for model_format in formats:
        started = time.perf_counter()
        console.print(f"  {model_format} …")
        spec = ExportSpec(model_format, image_side_px=checkpoint.preprocessing.image_side_px)
        try:
            artifact = export_student(checkpoint, spec, ARTIFACTS, whitening=whitening, space=space)
        except ExportError as error:
            failure = error
            console.print(f"[red]{escape(str(error))}[/]", soft_wrap=True)
            continue
        artifacts.append(artifact)
        seconds = time.perf_counter() - started
        console.print(
            f"  {escape(str(artifact.path))}, {artifact.size_bytes / 1e6:.2f} MB in {seconds:.1f} s", soft_wrap=True
        )
    if failure is not None and not artifacts:
        raise failure
    return tuple(artifacts)
