"""`aml-edge demo`: the main job on data that it makes itself, offline."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from aml_edge.cli.console import ConsoleProgress, JsonOption, console_for, write_json

if TYPE_CHECKING:
    from aml_edge.benchmarks.report import BenchmarkReport
    from aml_edge.datasets.synthetic.writing import SyntheticReport
    from aml_edge.evaluation import RetrievalRow
    from aml_edge.exporters.export import ExportReport
    from aml_edge.training.report import TrainingReport

STEPS = 7


@dataclass(frozen=True)
class DemoReport:
    """What the demo made and measured.

    Args:
        data: the synthetic set.
        training: None where an earlier demo's student was kept.
        retrieval: teacher → teacher, student → student, student → teacher, untrained → teacher.
        files: each with its verification.
        benchmark: of the files beside PyTorch.
        seconds: of everything.
    """

    data: SyntheticReport
    training: TrainingReport | None
    retrieval: tuple[RetrievalRow, ...]
    files: tuple[ExportReport, ...]
    benchmark: BenchmarkReport
    seconds: float


def demo(
    *,
    out: Annotated[Path, typer.Option(help="The folder for data/, indexes/, runs/ and artifacts/.")] = Path(),
    json_target: JsonOption = None,
) -> None:
    """Make data, index it with a teacher, train a student, export, verify and measure it: offline, some minutes.

    What an earlier demo has finished in the same folder is kept; remove it to start over.
    """
    from aml_edge.exporters.verdicts import require_all_verified

    console = console_for(json_target)
    report = _run(out, console)
    write_json(report, json_target)
    require_all_verified([(one.path, one.verification.judgement) for one in report.files if one.verification])


def _run(out: Path, console: Console) -> DemoReport:
    from aml_edge.artifact import Precision
    from aml_edge.benchmarks.retrieval import GroundTruth
    from aml_edge.benchmarks.rows import Group
    from aml_edge.benchmarks.suite import BenchmarkSettings, run_benchmark
    from aml_edge.benchmarks.tables import render_benchmark
    from aml_edge.cli import demo_steps as steps
    from aml_edge.cli.console import unredirected
    from aml_edge.cli.retrieval_table import summary_table
    from aml_edge.datasets.loading import load_test_set
    from aml_edge.datasets.synthetic.spec import SyntheticSpec
    from aml_edge.datasets.synthetic.writing import write_synthetic
    from aml_edge.exporters.verification_summary import summarise_verification
    from aml_edge.networks.released import resolve_teacher
    from aml_edge.training.recipe import read_recipe

    started = time.monotonic()
    paths, progress, recipe = steps.DemoPaths(out), ConsoleProgress(console), read_recipe(steps.RECIPE)

    _step(1, "a data set: synthetic landmarks, for training in one layout, for testing in the other", console)
    data = write_synthetic(paths.data, SyntheticSpec(), progress=progress, workers=os.cpu_count() or 1)
    _made(data.contact_sheet, console)

    _step(2, f"the teacher's indexes: {steps.TEACHER} embeds both databases", console)
    teacher, dataset = resolve_teacher(steps.TEACHER), load_test_set(data.test_root)
    training_index = steps.indexed(teacher, data.train_root, paths.training_index, progress)
    index = steps.indexed(teacher, data.test_root, paths.index, progress)

    _step(3, f"a student: {recipe.settings.backbone} learns to stand where the teacher stands (Reg loss)", console)
    student, training = steps.trained(training_index, data.train_root, paths.run, recipe, progress)
    if training is None:
        console.print(f"kept the student of an earlier demo: {escape(str(paths.run))}", soft_wrap=True)

    _step(4, f"retrieval: {len(dataset.query_items)} queries against {len(dataset.database_ids)} images", console)
    before = steps.untrained(training_index, recipe)
    rows = steps.evaluated(teacher, student, before, index, dataset, progress)
    console.print(summary_table(rows))
    share = steps.share_reached(rows)
    console.print(f"student → teacher is {share:.2f} of teacher → teacher (medium); the aim is {steps.AIMED_SHARE}")

    _step(5, "files for phones", console)
    with unredirected(console) as bar:
        files = steps.exported(student, index, paths.artifacts, (Precision.FP32,), ConsoleProgress(bar))

    _step(6, "proof that each file still lives in the teacher's space", console)
    reports = steps.verified(files, student, index, dataset, progress)
    for one in reports:
        console.print(f"[bold]{escape(str(one.path))}[/]", soft_wrap=True)
        if one.verification is not None:
            console.print(summarise_verification(one.verification))

    _step(7, "what they cost", console)
    artifacts = tuple(artifact for artifact, _ in files)
    benchmark = run_benchmark(
        [Group(artifacts, student)], BenchmarkSettings(truth=GroundTruth(index, dataset)), progress
    )
    console.print(render_benchmark(benchmark, console.width))

    console.rule()
    made = (paths.data, paths.training_index, paths.index, paths.run, *(one.path for one in reports))
    for path in made:
        _made(path, console)
    seconds = time.monotonic() - started
    console.print(f"done in {seconds / 60:.1f} minutes; `aml-edge --help` shows each step as a command of its own.")
    return DemoReport(data, training, rows, reports, benchmark, seconds)


def _step(number: int, what: str, console: Console) -> None:
    console.print(f"\n[bold cyan]{number}/{STEPS}[/] [bold]{escape(what)}[/]")


def _made(path: Path, console: Console) -> None:
    console.print(f"  {escape(str(path))}", soft_wrap=True)
