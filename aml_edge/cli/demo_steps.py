"""What the demo does, step by step; each step keeps what an earlier run of the same demo has finished."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from aml_edge.artifact import Artifact, Precision
from aml_edge.contestants import Contestants
from aml_edge.datasets.image_source import image_source
from aml_edge.datasets.retrieval_dataset import RetrievalDataset
from aml_edge.evaluation import RetrievalRow, evaluate_contestants, evaluate_retrieval, retrieval_row
from aml_edge.exporters import EXPORTERS, is_installed
from aml_edge.exporters.export import ExportReport, export_student, report_of
from aml_edge.exporters.export_spec import ExportSpec
from aml_edge.exporters.verification import VerificationOptions, Verifier
from aml_edge.exporters.verification_images import images_of_dataset
from aml_edge.index import TeacherIndex, open_index
from aml_edge.index.building import build_index
from aml_edge.networks.checkpoints import StudentCheckpoint, TeacherCheckpoint, load_student
from aml_edge.progress import Progress
from aml_edge.querying import sized, student_queries
from aml_edge.runtimes.checkpoint_embedders import teacher_embedder
from aml_edge.training.plan import is_run_of
from aml_edge.training.planning import plan_training
from aml_edge.training.recipe import DEFAULT_RECIPE, Recipe
from aml_edge.training.report import TrainingReport
from aml_edge.training.run import RunOptions, train
from aml_edge.training.run_folder import is_finished
from aml_edge.training.starting_network import starting_network

TEACHER = "imagenet:efficientnet_lite2"
RECIPE = DEFAULT_RECIPE
IMAGE_SIDE_PX = 256
AIMED_SHARE = 0.8


@dataclass(frozen=True)
class DemoPaths:
    """Where the demo puts things, each in the folder where the commands look for it.

    Args:
        root: the folder that all others are in.
    """

    root: Path

    @property
    def data(self) -> Path:
        """The synthetic data sets."""
        return self.root / "data" / "demo"

    @property
    def training_index(self) -> Path:
        """The teacher's index of the training images."""
        return self.root / "indexes" / "demo-training"

    @property
    def index(self) -> Path:
        """The teacher's index of the test set's database."""
        return self.root / "indexes" / "demo"

    @property
    def run(self) -> Path:
        """The training run."""
        return self.root / "runs" / "demo"

    @property
    def artifacts(self) -> Path:
        """The exported files."""
        return self.root / "artifacts"


def indexed(teacher: TeacherCheckpoint, images: Path, out: Path, progress: Progress) -> TeacherIndex:
    """Returns the teacher's index of the images of a data set, built unless it is there.

    Raises:
        TeacherIndexError: another index is there.
    """
    source = image_source(images)
    preprocessing = sized(teacher.preprocessing, IMAGE_SIDE_PX)
    if out.exists():
        found = open_index(out)
        if (found.space, found.preprocessing, found.ids) == (teacher.space(), preprocessing, source.ids):
            return found
    return build_index(teacher_embedder(teacher, preprocessing), source, out, progress=progress)


def trained(
    index: TeacherIndex, images: Path, run: Path, recipe: Recipe, progress: Progress
) -> tuple[StudentCheckpoint, TrainingReport | None]:
    """Returns the student trained for an index, and how; no report where an earlier run had done all of it.

    A run of the same recipe and data that was stopped goes on; any other one is replaced.
    """
    plan = plan_training(recipe, images, index)
    goes_on = is_run_of(plan, run)
    done = goes_on and is_finished(run)
    report = train(plan, run, RunOptions(resume=goes_on, overwrite=not goes_on, progress=progress))
    return load_student(run), None if done else report


def untrained(index: TeacherIndex, recipe: Recipe) -> StudentCheckpoint:
    """Returns the student that the training starts from: ImageNet's trunk, a random adaptor."""
    start = starting_network(recipe.settings, index.space)
    assert isinstance(start, StudentCheckpoint)
    return start


def evaluated(
    teacher: TeacherCheckpoint,
    student: StudentCheckpoint,
    before: StudentCheckpoint,
    index: TeacherIndex,
    dataset: RetrievalDataset,
    progress: Progress,
) -> tuple[RetrievalRow, ...]:
    """Returns the rows teacher → teacher, student → student, student → teacher, untrained → teacher."""
    rows = evaluate_contestants(Contestants(student=student, teacher=teacher), (index,), dataset, progress=progress)
    report = evaluate_retrieval(student_queries(before, index), index, dataset, name="untrained", progress=progress)
    return (*rows, retrieval_row("untrained", "teacher", report))


def share_reached(rows: tuple[RetrievalRow, ...]) -> float:
    """Returns the student's asymmetric mAP, medium, as a share of the teacher's own."""
    medium = {row.name: row.report.medium.mean_average_precision for row in rows}
    return medium["student → teacher"] / medium["teacher → teacher"]


def exported(
    student: StudentCheckpoint, index: TeacherIndex, out: Path, precisions: tuple[Precision, ...], progress: Progress
) -> list[tuple[Artifact, float]]:
    """Returns the student's files in every format whose converter is installed, and the seconds that each took."""
    side = student.preprocessing.image_side_px
    specs = [
        ExportSpec(model_format, precision, side)
        for model_format in EXPORTERS
        if is_installed(model_format)
        for precision in precisions
    ]
    files: list[tuple[Artifact, float]] = []
    with progress.task("exporting", len(specs)) as task:
        for spec in specs:
            started = time.perf_counter()
            artifact = export_student(student, spec, out, space=index.space)
            files.append((artifact, time.perf_counter() - started))
            task.advance(status=artifact.path.name)
    return files


def verified(
    files: list[tuple[Artifact, float]],
    student: StudentCheckpoint,
    index: TeacherIndex,
    dataset: RetrievalDataset,
    progress: Progress,
) -> tuple[ExportReport, ...]:
    """Returns the report of each file, verified in its runtime over real pixels."""
    verifier = Verifier(student, index, images_of_dataset(dataset))
    options = VerificationOptions(progress=progress)
    return tuple(
        report_of(artifact, seconds=seconds).verified_by(verifier.verify(artifact, options))
        for artifact, seconds in files
    )
