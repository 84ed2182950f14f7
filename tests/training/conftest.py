"""A small student, small images of two shapes, and a teacher that looks at colours only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from aml_edge.datasets.labelled_images import ImageLabels
from aml_edge.image_loading import ImageItem
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.space import EmbeddingSpace
from aml_edge.training.inputs import PixelInputs
from aml_edge.training.loop import StepRecord, Training
from aml_edge.training.optimisation import freeze_stages
from aml_edge.training.plan import TrainingPlan
from aml_edge.training.processes import Processes
from aml_edge.training.recipe import Recipe
from aml_edge.training.report import TrainingReport
from aml_edge.training.run import train
from aml_edge.training.run_folder import StudentStart
from aml_edge.training.settings import Mining, Mode, Schedule, TrainingSettings
from aml_edge.training.split import Split
from aml_edge.training.training_set import TeacherEmbeddings, TrainingSet

DIMENSION = 16
SIDE = 64
COUNT = 12
SPACE = EmbeddingSpace("colours", "c" * 64, DIMENSION)

REG = TrainingSettings(
    epochs=2, batch_size=5, image_side_px=SIDE, learning_rate=1e-3, warm_up=0.5, frozen_stages=0, warm_start=False
)
CONTR = replace(
    REG,
    loss="contrastive",
    loss_options={"margin": 0.7},
    mining=Mining.HARD,
    negatives=2,
    queries_per_epoch=7,
    pool_size=10,
    batch_size=3,
    schedule=Schedule.EXPONENTIAL,
    decay=0.5,
)
LOOPS = {
    "reg": REG,
    "contr": CONTR,
    "alone": replace(CONTR, mode=Mode.SYMMETRIC),
    "rkd": replace(REG, loss="relational"),
}

SMALL = TrainingSettings(
    backbone="mobilenetv2_035", epochs=2, batch_size=4, image_side_px=SIDE, frozen_stages=1, warm_start_penalty=0.1
)
RUNS = {
    "small": SMALL,
    "mined": replace(
        SMALL, loss="contrastive", loss_options={"margin": 0.7}, mining=Mining.HARD, negatives=2, warm_start=False
    ),
}


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Small operators on few cores: a second thread only waits."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Twelve PNG files of blobs of colour, every third one upright, none larger than the student's side."""
    root = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    paths = []
    for number in range(COUNT):
        size = (48, 64) if number % 3 == 0 else (64, 48)
        blobs = Image.fromarray(generator.integers(0, 256, (3, 4, 3), dtype=np.uint8))
        paths.append(root / f"{number:02}.png")
        blobs.resize(size, Image.Resampling.BICUBIC).save(paths[-1])
    return tuple(paths)


@pytest.fixture(scope="session")
def pixels(pictures: tuple[Path, ...]) -> list[npt.NDArray[np.uint8]]:
    """What the files hold."""
    return [np.array(Image.open(path)) for path in pictures]


@pytest.fixture(scope="session")
def training_set(pictures: tuple[Path, ...], pixels: list[npt.NDArray[np.uint8]]) -> TrainingSet:
    """The pictures with embeddings that are a fixed positive mixture of their mean colours; no labels."""
    mixture = np.random.default_rng(1).uniform(size=(3, DIMENSION))
    rows = np.stack([image.mean(axis=(0, 1)) for image in pixels]) @ mixture
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    teacher = TeacherEmbeddings(rows.astype(np.float32), SPACE)
    return TrainingSet(tuple(ImageItem(path) for path in pictures), teacher=teacher)


@pytest.fixture(scope="session")
def labelled_set(training_set: TrainingSet) -> TrainingSet:
    """The same in four clusters of three, with eight pairs that match."""
    labels = ImageLabels(
        clusters=(5, 5, 5, 2, 2, 2, 9, 9, 9, 0, 0, 0),
        query_rows=(0, 1, 3, 5, 6, 8, 9, 11),
        positive_rows=(1, 2, 4, 3, 7, 6, 10, 9),
    )
    return TrainingSet(training_set.items, labels, training_set.teacher)


@pytest.fixture(scope="module")
def processes() -> Processes:
    """One process, on the CPU; for one module, since tests of the command reset Accelerate's state in between."""
    from accelerate import Accelerator

    return Processes(Accelerator(cpu=True))


@pytest.fixture(scope="session")
def start() -> StudentCheckpoint:
    """A student with random weights that claims the teacher's space; leave it as it is."""
    student = Student(StudentSpec("mobilenetv2_035", DIMENSION)).eval()
    return StudentCheckpoint(student, "small", SPACE, Preprocessing(SIDE), trained=False)


@pytest.fixture
def new_student() -> Callable[[], Student]:
    """Makes the same student again, to be trained."""
    return lambda: Student(StudentSpec("mobilenetv2_035", DIMENSION)).eval()


class DoubleInputs(PixelInputs):
    """Pixels for a student in float64. In float32 a gradient may be nothing but rounding, and Adam's first steps are
    as long as where it is more: two loops that agree would part.
    """

    def __init__(self, student: Student, training_set: TrainingSet) -> None:
        preprocessing = Preprocessing(SIDE)
        super().__init__(student, training_set, preprocessing)
        mean, std = (torch.tensor(value, dtype=torch.float64) for value in (preprocessing.mean, preprocessing.std))
        self.trunk = lambda stack: student.backbone(((stack.double() / 255 - mean) / std).permute(0, 3, 1, 2))


@pytest.fixture
def new_training(
    new_student: Callable[[], Student], labelled_set: TrainingSet, processes: Processes
) -> Callable[..., Training]:
    """Makes a training of the same student on the labelled set, in float64 where it is wanted."""

    def make(settings: TrainingSettings, *, double: bool = False, images: TrainingSet = labelled_set) -> Training:
        student = new_student()
        freeze_stages(student.backbone, settings.frozen_stages)
        inputs = DoubleInputs(student.double(), images) if double else PixelInputs(student, images, Preprocessing(SIDE))
        return Training(student, Split(student, inputs, images, settings, processes), settings, processes)

    return make


@pytest.fixture(scope="session")
def loop_settings() -> Callable[..., TrainingSettings]:
    """Returns the settings of a training of two epochs: "reg", "contr", "alone" or "rkd", some of them changed."""

    def settings_of(loop: str, **changes: Any) -> TrainingSettings:
        return replace(LOOPS[loop], **changes)

    return settings_of


@pytest.fixture(scope="session")
def steps_of() -> Callable[[Training], Iterator[StepRecord]]:
    """Yields after every step that is left of a training."""

    def steps(training: Training) -> Iterator[StepRecord]:
        while not training.is_done:
            yield from training.steps_of_epoch()
            training.end_epoch()

    return steps


@pytest.fixture(scope="session")
def planned(start: StudentCheckpoint, training_set: TrainingSet) -> Callable[..., TrainingPlan]:
    """Plans a run by the settings "small" or "mined", some of them changed: twelve images, three steps an epoch, no
    validation.
    """

    def plan_of(settings: str, **changes: Any) -> TrainingPlan:
        recipe = Recipe("small", {}, replace(RUNS[settings], **changes))
        return TrainingPlan(start, recipe, training_set, None, Path("data/small"), Path("indexes/small"))

    return plan_of


@pytest.fixture(scope="session")
def plan(planned: Callable[..., TrainingPlan]) -> TrainingPlan:
    """The small run's, as it is."""
    return planned("small")


@pytest.fixture(scope="session")
def finished(plan: TrainingPlan, tmp_path_factory: pytest.TempPathFactory) -> TrainingReport:
    """The report of its run; no test may change the folder."""
    return train(plan, tmp_path_factory.mktemp("runs") / "first")


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, bytes]]:
    """Returns every file of a folder; those for TensorBoard have the time in their names."""

    def files_of(folder: Path) -> dict[str, bytes]:
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    return files_of


@pytest.fixture(scope="session")
def trained_start(start: StudentCheckpoint) -> StudentCheckpoint:
    """The student as if it were trained, with the square preprocessing of a file; leave it as it is."""
    return replace(start, preprocessing=start.preprocessing.fitted(Fit.LETTERBOX, SIDE), trained=True)


@pytest.fixture(scope="session")
def eighteen(tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    """Eighteen PNG files of blobs of colour, enough to calibrate, of two shapes, with embeddings of their colours."""
    root = tmp_path_factory.mktemp("eighteen")
    generator = np.random.default_rng(2)
    mixture = generator.uniform(size=(3, DIMENSION))
    items, means = [], []
    for number in range(18):
        blobs = Image.fromarray(generator.integers(0, 256, (3, 4, 3), dtype=np.uint8))
        blobs = blobs.resize((64, 48) if number % 2 else (48, 64), Image.Resampling.BICUBIC)
        items.append(ImageItem(root / f"{number:02}.png"))
        blobs.save(items[-1].path)
        means.append(np.array(blobs).mean(axis=(0, 1)))
    rows = np.stack(means) @ mixture
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return TrainingSet(tuple(items), teacher=TeacherEmbeddings(rows.astype(np.float32), SPACE))


@pytest.fixture(scope="session")
def quantized_plan(trained_start: StudentCheckpoint, eighteen: TrainingSet) -> TrainingPlan:
    """Plans a quantization-aware run of two epochs, three steps each, validated by the images that it learns from."""
    settings = replace(
        REG, backbone="any", batch_size=6, fit=Fit.LETTERBOX, pooling_rate_factor=0.0, adaptor_rate_factor=1.0
    )
    start = StudentStart(Path("runs/first"), trained_start.weights_sha256)
    recipe = Recipe("small-qat", {}, settings)
    return TrainingPlan(
        trained_start, recipe, eighteen, eighteen, Path("data/small"), Path("indexes/small"), quantized_from=start
    )
