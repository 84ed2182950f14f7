"""`aml-edge train`: a student learns to stand where the teacher's index stands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from aml_edge.cli.console import ConsoleProgress, JsonOption, console_for, write_json
from aml_edge.cli.option_groups import with_option_groups
from aml_edge.errors import TrainingError
from aml_edge.training.settings import TrainingSettings

if TYPE_CHECKING:
    from aml_edge.training.run import TrainingReport

DEFAULTS = TrainingSettings()
"""Those of the demo."""


@dataclass(frozen=True)
class SettingsOptions:
    """`TrainingSettings` as options, field by field."""

    loss: Annotated[str, typer.Option(help="What is minimised.")] = DEFAULTS.loss
    epochs: Annotated[int, typer.Option(help="How often each image is seen.")] = DEFAULTS.epochs
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = DEFAULTS.batch_size
    image_side_px: Annotated[int, typer.Option(help="Longest side of an image; the aspect stays.")] = (
        DEFAULTS.image_side_px
    )
    learning_rate: Annotated[float, typer.Option(help="Adam's, of the trunk, at its highest.")] = DEFAULTS.learning_rate
    adaptor_rate_factor: Annotated[float, typer.Option(help="The adaptor's rate over the trunk's.")] = (
        DEFAULTS.adaptor_rate_factor
    )
    pooling_rate_factor: Annotated[float, typer.Option(help="The rate of GeM's power over the trunk's.")] = (
        DEFAULTS.pooling_rate_factor
    )
    weight_decay: Annotated[float, typer.Option(help="Adam's L2 penalty, but for GeM's power.")] = DEFAULTS.weight_decay
    warm_up: Annotated[float, typer.Option(help="Share of the steps over which the rate rises.")] = DEFAULTS.warm_up
    warm_start: Annotated[bool, typer.Option(help="Start the adaptor from a ridge regression.")] = DEFAULTS.warm_start
    warm_start_penalty: Annotated[float, typer.Option(help="Of that regression.")] = DEFAULTS.warm_start_penalty
    frozen_stages: Annotated[int, typer.Option(help="Stages of the trunk, from the image on, left as they are.")] = (
        DEFAULTS.frozen_stages
    )
    seed: Annotated[int, typer.Option(help="Of the adaptor's first weights and the order of the images.")] = (
        DEFAULTS.seed
    )


@with_option_groups
def train(
    data: Annotated[Path, typer.Option(help="The training images: a set in the SfM layout, or a folder.")],
    index: Annotated[Path, typer.Option(help="The teacher's index of these images.")],
    out: Annotated[Path, typer.Option(metavar="RUN", help="The run folder to write to, e.g. runs/first.")],
    options: SettingsOptions,
    *,
    backbone: Annotated[
        str, typer.Option(help="The student's: a named one, one of timm, or imagenet:NAME with ImageNet weights.")
    ] = "imagenet:efficientnet_lite0",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is there.")] = False,
    json_target: JsonOption = None,
) -> None:
    """Train a student whose queries fit a teacher's index."""
    from aml_edge.datasets.image_source import image_source
    from aml_edge.index import open_index
    from aml_edge.training.run import prepare_run, train_student
    from aml_edge.training.starting_student import starting_student
    from aml_edge.training.training_set import training_set_of

    console = console_for(json_target)
    settings = TrainingSettings(**asdict(options))
    if not overwrite:
        prepare_run(out)
    teacher, source = open_index(index), image_source(data)
    training_set = training_set_of(source.ids, source.items, teacher)
    start = starting_student(backbone, teacher.space, image_side_px=settings.image_side_px, seed=settings.seed)
    console.print(f"{len(source.ids)} images: {source.kind} {escape(str(data))}", soft_wrap=True)
    with _what_is_left_said(out, console):
        report = train_student(
            start, training_set, settings, out, overwrite=overwrite, progress=ConsoleProgress(console)
        )
    _print_report(report, console)
    write_json(report, json_target)


@contextmanager
def _what_is_left_said(run: Path, console: Console) -> Iterator[None]:
    """Says what the run folder holds where the training was stopped or could not go on."""
    from aml_edge.networks.checkpoints import STUDENT_FILE

    try:
        yield
    except (KeyboardInterrupt, TrainingError):
        kept = "the student of the last whole epoch" if (run / STUDENT_FILE).is_file() else "no student yet"
        console.print(f"[yellow]stopped:[/] {escape(str(run))} holds {kept}.", soft_wrap=True)
        raise


def _print_report(report: TrainingReport, console: Console) -> None:
    epochs = "1 epoch" if report.epochs == 1 else f"{report.epochs} epochs"
    console.print(
        f"{epochs} of {report.images} images in {report.seconds:.1f} s ({report.images_per_second:.1f} images/s)"
        f", after {report.preparing_seconds:.1f} s of preparation; "
        f"loss {report.first_loss:.4f} → {report.last_loss:.4f}",
        soft_wrap=True,
    )
    console.print(f"[bold]{escape(str(report.run))}[/]", soft_wrap=True)
