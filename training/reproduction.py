"""`reproduce`: trains and tests every row of the paper's table on a data set of any size.

The data set is a folder with a training set in the SfM layout below `train/` and a test set in the revisited layout
below `test/`. First a teacher is trained alone, so that it is a retrieval network; its indexes are built; then each row
is trained by its recipe and tested symmetrically and, where it has a teacher, asymmetrically. What is finished is kept
and used again.

Source: Budnik and Avrithis, "Asymmetric metric learning for knowledge transfer", CVPR 2021, section 5.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aml_edge.contestants import Contestants
from aml_edge.datasets.image_source import image_source
from aml_edge.datasets.loading import load_test_set
from aml_edge.datasets.retrieval_dataset import RetrievalDataset
from aml_edge.datasets.revisited import ground_truth_files
from aml_edge.datasets.sfm import sfm_files
from aml_edge.errors import DatasetError, UsageError, unusable_path
from aml_edge.evaluation import RetrievalRow, evaluate_contestants
from aml_edge.index import TeacherIndex, open_index
from aml_edge.index.building import build_index
from aml_edge.networks.checkpoints import StudentCheckpoint, TeacherCheckpoint, load_student, load_teacher
from aml_edge.progress import SayingProgress, SilentProgress
from aml_edge.runtimes.checkpoint_embedders import teacher_embedder
from aml_edge.training.plan import is_run_of
from aml_edge.training.planning import plan_training
from aml_edge.training.recipe import Recipe, overridden, read_recipe
from aml_edge.training.report import TrainingReport
from aml_edge.training.run import RunOptions, train
from aml_edge.training.settings import Mining, Mode, TrainingSettings
from aml_edge.training.starting_network import starting_network

TEACHER, UNTRAINED = "teacher", "untrained"
ROWS = (
    "contr-alone",
    "contr",
    "contr-plus",
    "triplet",
    "ms",
    "reg",
    "rkd",
    "dark",
)
"""The paper's, in the order of its losses."""
LATER_ROWS = ("csd", "raml", "ssp", "d3still", "rank-order")
RECIPE_PREFIX = "small-"


@dataclass(frozen=True)
class ReproducedRow:
    """One row of the table.

    Args:
        name: of the row; its recipe is ``small-NAME``.
        network, teacher: backbones; no teacher where it was trained alone.
        labels: whether it used labels.
        mining, loss: as in `TrainingSettings`.
        asymmetric_training: whether positives and negatives were embedded by the teacher.
        training: how it went; None of the student that was not trained.
        symmetric, asymmetric: how well its queries found images in its own database and in the teacher's index.
    """

    name: str
    network: str
    teacher: str | None
    labels: bool
    mining: Mining
    loss: str
    asymmetric_training: bool
    training: TrainingReport | None
    symmetric: RetrievalRow
    asymmetric: RetrievalRow | None


@dataclass(frozen=True)
class ReproductionPlan:
    """What is to be reproduced.

    Args:
        data: folder of the two sets.
        out: folder for `runs/` and `indexes/`.
        rows: names of `ROWS` and `LATER_ROWS`; the teacher and a student that was not trained always come first.
        changes: ``name=value`` each, for every recipe but the teacher's.
        teacher_changes: the same for the teacher's.
    """

    data: Path
    out: Path
    rows: tuple[str, ...] = ROWS
    changes: tuple[str, ...] = ()
    teacher_changes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        known = (*ROWS, *LATER_ROWS)
        unknown = [name for name in self.rows if name not in known]
        if unknown:
            raise UsageError(f"`rows` has '{unknown[0]}'; a row is one of {', '.join(known)}.")

    @property
    def training_root(self) -> Path:
        """The training set; raises `DatasetError` unless there is one."""
        return _sole([folder for folder in self._folders("train") if sfm_files(folder)], self.data, "train/NAME")

    @property
    def test_root(self) -> Path:
        """The test set; raises `DatasetError` unless there is one."""
        return _sole([folder for folder in self._folders("test") if ground_truth_files(folder)], self.data, "test/NAME")

    def _folders(self, part: str) -> list[Path]:
        return sorted(folder for folder in (self.data / part).glob("*") if folder.is_dir())


def reproduce(
    plan: ReproductionPlan, *, workers: int = 2, progress: SayingProgress | None = None
) -> tuple[ReproducedRow, ...]:
    """Returns the rows of the teacher, of an untrained student, and those asked for, after all has been trained.

    Args:
        plan: what to reproduce.
        workers: threads that read ahead.
        progress: where each row and its work are announced.

    Raises:
        DatasetError: a set is missing, or there are several.
        UsageError, TeacherIndexError, TrainingError, …: as training, building an index and evaluating raise them.
    """
    progress = progress or SilentProgress()
    dataset = load_test_set(plan.test_root)
    recipe = overridden(read_recipe(RECIPE_PREFIX + TEACHER), plan.teacher_changes)
    trained = _trained(recipe, TEACHER, plan, None, workers, progress)
    teacher = load_teacher(plan.out / "runs" / TEACHER)
    training_index = _indexed(teacher, plan.training_root, plan.out / "indexes" / "training", progress)
    index = _indexed(teacher, plan.test_root, plan.out / "indexes" / "test", progress)
    (own,) = evaluate_contestants(Contestants(teacher=teacher), (index,), dataset, progress=progress)
    before = overridden(read_recipe(RECIPE_PREFIX + "reg"), plan.changes).settings
    start = starting_network(before, index.space, progress=progress)
    assert isinstance(start, StudentCheckpoint)
    rows = [
        _row(TEACHER, recipe.settings, None, trained, own, None),
        _row(UNTRAINED, before, teacher, None, *_tested(start, index, dataset, progress)),
    ]
    for name in plan.rows:
        recipe = overridden(read_recipe(RECIPE_PREFIX + name), plan.changes)
        of_row = training_index if recipe.settings.mode is Mode.ASYMMETRIC else None
        trained = _trained(recipe, name, plan, of_row, workers, progress)
        student = load_student(plan.out / "runs" / name)
        symmetric, asymmetric = _tested(student, None if of_row is None else index, dataset, progress)
        rows.append(_row(name, recipe.settings, teacher, trained, symmetric, asymmetric))
    return tuple(rows)


def _trained(
    recipe: Recipe,
    name: str,
    plan: ReproductionPlan,
    index: TeacherIndex | None,
    workers: int,
    progress: SayingProgress,
) -> TrainingReport:
    progress.say(f"row {name}: recipe {recipe.name}")
    run = plan.out / "runs" / name
    training = plan_training(recipe, plan.training_root, index, progress=progress)
    goes_on = is_run_of(training, run)
    options = RunOptions(resume=goes_on, overwrite=not goes_on, workers=workers, progress=progress)
    return train(training, run, options)


def _indexed(teacher: TeacherCheckpoint, root: Path, out: Path, progress: SayingProgress) -> TeacherIndex:
    """Returns the teacher's index of the images of a data set, built unless it is there."""
    source = image_source(root)
    if out.exists():
        found = open_index(out)
        if (found.space, found.preprocessing, found.ids) == (teacher.space(), teacher.preprocessing, source.ids):
            return found
        raise UsageError(
            f"`out` has {out}, an index of another teacher or of other images; remove it, or give another folder."
        )
    return build_index(teacher_embedder(teacher, teacher.preprocessing), source, out, progress=progress)


def _tested(
    student: StudentCheckpoint, index: TeacherIndex | None, dataset: RetrievalDataset, progress: SayingProgress
) -> tuple[RetrievalRow, RetrievalRow | None]:
    databases: Sequence[TeacherIndex] = () if index is None else (index,)
    rows = evaluate_contestants(Contestants(student=student), databases, dataset, progress=progress)
    return rows[0], rows[1] if len(rows) > 1 else None


def _row(
    name: str,
    settings: TrainingSettings,
    teacher: TeacherCheckpoint | None,
    training: TrainingReport | None,
    symmetric: RetrievalRow,
    asymmetric: RetrievalRow | None,
) -> ReproducedRow:
    alone = settings.mode is Mode.SYMMETRIC
    return ReproducedRow(
        name=name,
        network=settings.backbone.rpartition(":")[2],
        teacher=None if alone or teacher is None else teacher.teacher.spec.backbone,
        labels=settings.mining is not Mining.NONE,
        mining=settings.mining,
        loss=settings.loss,
        asymmetric_training=not alone and training is not None,
        training=training,
        symmetric=symmetric,
        asymmetric=asymmetric,
    )


def _sole(found: list[Path], data: Path, where: str) -> Path:
    if len(found) != 1:
        message = (
            f"{data} has {len(found)} data sets as {where}; it must hold one of each, as `aml-edge data synth` writes."
        )
        raise unusable_path(data, message, DatasetError)
    return found[0]
