"""`aml-edge train`: a network learns by a recipe; a student learns to stand where the teacher's index stands."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from aml_edge.cli.console import ConsoleProgress, JsonOption, console_for, write_json
from aml_edge.cli.option_groups import with_option_groups
from aml_edge.cli.recipe_tables import recipe_list, recipe_table, recipes_table
from aml_edge.errors import ImageError, TrainingError, UsageError
from aml_edge.progress import SayingProgress
from aml_edge.training.recipe import DEFAULT_RECIPE, QAT_RECIPE, Recipe, overridden, read_recipe

if TYPE_CHECKING:
    from accelerate import Accelerator

    from aml_edge.training.plan import TrainingPlan
    from aml_edge.training.report import TrainingReport


@dataclass(frozen=True)
class RecipeOptions:
    """Which recipe, and what of it is changed."""

    recipe: Annotated[
        str | None, typer.Option(help="Its name, or a TOML file; --list shows them.", show_default=DEFAULT_RECIPE)
    ] = None
    changes: Annotated[
        list[str], typer.Option("--set", metavar="NAME=VALUE", help="Change a value of it; may be repeated.")
    ] = field(default_factory=list)
    listing: Annotated[bool, typer.Option("--list", help="List the recipes and end.")] = False
    show: Annotated[bool, typer.Option("--show", help="Show the recipe's values, who chose them, and end.")] = False


@dataclass(frozen=True)
class StartOptions:
    """What a training starts from, other than the recipe's network."""

    qat: Annotated[
        bool, typer.Option("--qat", help="Quantization-aware: a trained student learns what its int8 file computes.")
    ] = False
    student: Annotated[
        Path | None, typer.Option("--from", metavar="RUN", help="The student to start from: its run folder or file.")
    ] = None


@dataclass(frozen=True)
class RunFolderOptions:
    """What to do with a run folder that is not new."""

    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in RUN, which was stopped.")] = False
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is there.")] = False


@dataclass(frozen=True)
class MachineOptions:
    """What computes."""

    cpu: Annotated[bool, typer.Option("--cpu", help="Do not use a GPU that is there.")] = False
    mixed_precision: Annotated[
        str | None, typer.Option(help="no, fp16 or bf16; what `accelerate launch` says, else no.")
    ] = None
    workers: Annotated[int, typer.Option(help="Threads that read images ahead.", min=1)] = 2


@with_option_groups
def train(
    recipe: RecipeOptions,
    data: Annotated[
        Path | None, typer.Option(help="The training images: a set in the SfM layout, or a folder.")
    ] = None,
    index: Annotated[Path | None, typer.Option(help="The teacher's index of these images.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="RUN", help="The run folder to write to, e.g. runs/first.")
    ] = None,
    *,
    start: StartOptions,
    folder: RunFolderOptions,
    machine: MachineOptions,
    json_target: JsonOption = None,
) -> None:
    """Train a student whose queries fit a teacher's index, or any network of a recipe."""
    console = console_for(json_target)
    if recipe.listing:
        console.print(recipes_table())
        write_json(recipe_list(), json_target)
        return
    if recipe.show:
        chosen = _chosen(recipe, start)
        console.print(recipe_table(chosen))
        write_json(chosen, json_target)
        return
    if out is None:
        raise UsageError("`out` is missing; name the run folder to write to: --out runs/NAME.")
    from aml_edge.training.run import RunOptions
    from aml_edge.training.run import train as train_by_plan

    accelerator = _accelerator(machine)
    if not accelerator.is_main_process:
        console = Console(quiet=True)
    planning = ConsoleProgress(console, every_task=False)
    if folder.resume:
        plan = _resumed(out, data, index, recipe, start, planning)
    else:
        plan = _planned(out, data, index, recipe, start, folder, planning)
    _print_plan(plan, console)
    options = RunOptions(
        resume=folder.resume,
        overwrite=folder.overwrite,
        workers=machine.workers,
        accelerator=accelerator,
        progress=ConsoleProgress(console),
    )
    with _what_is_left_said(out, console):
        report = train_by_plan(plan, out, options)
    _print_report(report, console)
    if accelerator.is_main_process:
        write_json(report, json_target)


def _chosen(options: RecipeOptions, start: StartOptions) -> Recipe:
    name = options.recipe or (QAT_RECIPE if start.qat else DEFAULT_RECIPE)
    return overridden(read_recipe(name), options.changes)


def _planned(
    out: Path,
    data: Path | None,
    index: Path | None,
    recipe: RecipeOptions,
    start: StartOptions,
    folder: RunFolderOptions,
    progress: SayingProgress,
) -> TrainingPlan:
    from aml_edge.index import open_index
    from aml_edge.training.planning import plan_training
    from aml_edge.training.run_folder import require_free

    if data is None:
        raise UsageError("`data` is missing; name the folder of the training images: --data DIR.")
    _require_start(start, out)
    if not folder.overwrite:
        require_free(out)
    opened = None if index is None else open_index(index)
    return plan_training(_chosen(recipe, start), data, opened, quantized_from=start.student, progress=progress)


def _require_start(start: StartOptions, out: Path) -> None:
    """Raises `UsageError` where --qat or --from misses the other, --from is not there, or would be replaced."""
    if start.qat and start.student is None:
        raise UsageError("`qat` starts from a trained student, and `from` is missing; name its run folder: --from RUN.")
    if start.student is None:
        return
    if not start.qat:
        raise UsageError(
            f"`from` is {start.student}, which only a quantization-aware training starts from; add --qat, or leave "
            "--from out: a recipe makes its own network."
        )
    if not start.student.exists():
        raise UsageError(
            f"`from` is {start.student}, which does not exist; name a run's folder, or the file of a student."
        )
    if out.resolve() in (start.student.resolve(), start.student.resolve().parent):
        raise UsageError(f"`out` is {out}, where the student of --from lies; name another folder.")


def _resumed(
    out: Path,
    data: Path | None,
    index: Path | None,
    options: RecipeOptions,
    start: StartOptions,
    progress: SayingProgress,
) -> TrainingPlan:
    """Returns the plan of the run in a folder; data and index may have been moved, a recipe must say the same."""
    from aml_edge.index import open_index
    from aml_edge.training.planning import plan_training
    from aml_edge.training.run_folder import read_run_record

    begun = read_run_record(out)
    if begun.quantized_from is None and (start.qat or start.student is not None):
        raise UsageError(f"`run` is {out}, whose training was begun without --qat; leave --qat and --from out.")
    recipe = overridden(begun.recipe, options.changes) if options.recipe is None else _chosen(options, start)
    where, student = index or begun.index, None
    if begun.quantized_from is not None:
        student = start.student or begun.quantized_from.path
    opened = None if where is None else open_index(where)
    return plan_training(recipe, data or begun.data, opened, quantized_from=student, progress=progress)


def _accelerator(options: MachineOptions) -> Accelerator:
    from accelerate import Accelerator

    if options.mixed_precision not in (None, "no", "fp16", "bf16"):
        raise UsageError(f"`mixed_precision` is {options.mixed_precision!r}; it must be no, fp16 or bf16.")
    try:
        accelerator = Accelerator(cpu=options.cpu, mixed_precision=options.mixed_precision)
    except ValueError as problem:
        raise UsageError(f"`mixed_precision` is {options.mixed_precision!r}, which cannot be here: {problem}") from None
    if accelerator.mixed_precision == "fp16" and accelerator.device.type == "cpu":  # Accelerate would take float32
        raise UsageError("`mixed_precision` is 'fp16', which a CPU does not train in; take bf16, or a GPU.")
    return accelerator


@contextmanager
def _what_is_left_said(run: Path, console: Console) -> Iterator[None]:
    """Says what the run folder holds and how to go on, where the training was stopped or could not go on."""
    from aml_edge.training.log import read_epochs
    from aml_edge.training.run_folder import LAST_FILE, RUN_RECORD

    try:
        yield
    except (KeyboardInterrupt, TrainingError, ImageError, OSError) as ending:
        kept = "no network yet"
        if (run / LAST_FILE).is_file() and (epochs := read_epochs(run)):
            kept = f"the network of epoch {epochs[-1].epoch} in {LAST_FILE}"
        console.print(f"[yellow]stopped:[/] {escape(str(run))} holds {escape(kept)}.", soft_wrap=True)
        if isinstance(ending, KeyboardInterrupt | OSError) and (run / RUN_RECORD).is_file():
            console.print(f"go on: aml-edge train --out {escape(shlex.quote(str(run)))} --resume", soft_wrap=True)
        raise


def _print_plan(plan: TrainingPlan, console: Console) -> None:
    images = f"{len(plan.training.items)} images"
    if plan.validation is not None:
        images += f", {len(plan.validation.items)} for validation"
    console.print(f"recipe {escape(plan.recipe.name)}; {images}: {escape(str(plan.data))}", soft_wrap=True)
    for note in plan.notes:
        console.print(f"[yellow]warning:[/] {escape(note)}", soft_wrap=True)


def _print_report(report: TrainingReport, console: Console) -> None:
    epochs = "1 epoch" if report.epochs == 1 else f"{report.epochs} epochs"
    best = report.best_validation_loss
    judged = "" if best is None else f", validation {best:.4f} after epoch {report.best_epoch}, which is kept"
    console.print(
        f"{epochs} of {report.images} images in {report.seconds:.1f} s ({report.images_per_second:.1f} images/s)"
        f", after {report.preparing_seconds:.1f} s of preparation; "
        f"loss {report.first_loss:.4f} → {report.last_loss:.4f}{judged}",
        soft_wrap=True,
    )
    console.print(f"[bold]{escape(str(report.run))}[/]", soft_wrap=True)
