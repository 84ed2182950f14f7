"""The demo's steps on two landmarks with small networks: what is finished is kept, what is not the demo's refused."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aml_edge.artifact import Artifact, Format, Manifest, Precision, Verdict
from aml_edge.cli import demo_steps as steps
from aml_edge.cli.demo_steps import DemoPaths
from aml_edge.datasets.image_source import image_source
from aml_edge.datasets.loading import load_test_set
from aml_edge.datasets.synthetic.writing import SyntheticReport
from aml_edge.embedder import FakeEmbedder
from aml_edge.errors import SpaceMismatchError, TeacherIndexError
from aml_edge.exporters.export_spec import ExportSpec
from aml_edge.formats import read_artifact, write_manifest
from aml_edge.index import TeacherIndex
from aml_edge.index.building import build_index
from aml_edge.networks.checkpoints import STUDENT_FILE, StudentCheckpoint, TeacherCheckpoint, load_student
from aml_edge.networks.released import RUNS, resolve_student
from aml_edge.networks.teacher import Teacher, TeacherSpec
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.progress import ProgressTask, SilentProgress
from aml_edge.space import EmbeddingSpace
from aml_edge.training.log import read_epochs
from aml_edge.training.loop import StepRecord, Training
from aml_edge.training.recipe import DEFAULT_RECIPE, Recipe, overridden, read_recipe
from aml_edge.training.settings import TrainingSettings

RECIPE = Recipe(
    "small",
    {},
    TrainingSettings(backbone="mobilenetv2_035", epochs=2, batch_size=4, image_side_px=64, frozen_stages=2),
)
QUICK = overridden(RECIPE, ["epochs=1", "warm_start=false"])
TOY_SPACE = EmbeddingSpace("toy", "0" * 64, 3)
SILENT = SilentProgress()


class RecordingProgress:
    """Remembers what was announced and each step's words."""

    def __init__(self) -> None:
        self.tasks: list[tuple[str, int]] = []
        self.said: list[str] = []

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[ProgressTask]:
        self.tasks.append((description, total))
        yield self

    def advance(self, steps: int = 1, *, status: str = "") -> None:
        self.said.append(status)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small images in place of the demo's."""
    monkeypatch.setattr(steps, "IMAGE_SIDE_PX", 64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def make_index(folder: Path, tiny_teacher: TeacherCheckpoint) -> Callable[[Path], TeacherIndex]:
    """Returns a function that gives the teacher's index of a data set, built once."""

    def make(root: Path) -> TeacherIndex:
        return steps.indexed(tiny_teacher, root, folder / root.parent.name, SILENT)

    return make


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_demo_s_recipe_comes_with_us_and_is_the_default() -> None:
    recipe = read_recipe(steps.RECIPE)
    assert steps.RECIPE == DEFAULT_RECIPE
    assert recipe.settings.backbone == "imagenet:efficientnet_lite0"
    assert recipe.settings.image_side_px == 256  # as the demo's teacher sees


def test_things_are_where_the_commands_look_for_them() -> None:
    paths = DemoPaths(Path())
    assert paths.run == RUNS / "demo"
    assert paths.artifacts == Path("artifacts")
    below = DemoPaths(Path("there"))
    made = (below.data, below.training_index, below.index, below.run, below.artifacts)
    assert [path.as_posix() for path in made] == [
        "there/data/demo",
        "there/indexes/demo-training",
        "there/indexes/demo",
        "there/runs/demo",
        "there/artifacts",
    ]


def test_an_index_is_built_once(
    tiny_teacher: TeacherCheckpoint, synthetic: SyntheticReport, make_index: Callable[[Path], TeacherIndex]
) -> None:
    first = make_index(synthetic.test_root)
    assert first.space == tiny_teacher.space()
    assert first.preprocessing == Preprocessing(64)
    assert first.ids == image_source(synthetic.test_root).ids
    before, progress = bytes_of(first.path), RecordingProgress()
    again = steps.indexed(tiny_teacher, synthetic.test_root, first.path, progress)
    assert progress.tasks == []
    assert np.array_equal(again.embeddings, first.embeddings)
    assert bytes_of(first.path) == before


@pytest.mark.parametrize("other", ["teacher", "images", "size"])
def test_another_index_is_refused_and_left_alone(
    tiny_teacher: TeacherCheckpoint,
    synthetic: SyntheticReport,
    make_index: Callable[[Path], TeacherIndex],
    monkeypatch: pytest.MonkeyPatch,
    other: str,
) -> None:
    there = make_index(synthetic.test_root).path
    before, teacher, root = bytes_of(there), tiny_teacher, synthetic.test_root
    if other == "teacher":
        teacher = replace(tiny_teacher, teacher=Teacher(TeacherSpec("mobilenetv2_035"), seed=9).eval())
    elif other == "images":
        root = synthetic.train_root
    else:
        monkeypatch.setattr(steps, "IMAGE_SIDE_PX", 48)
    with pytest.raises(TeacherIndexError, match=f"^{there} is there already, and an index is never written over"):
        steps.indexed(teacher, root, there, SILENT)
    assert bytes_of(there) == before
    assert not Path(f"{there}.partial").exists()


def test_a_finished_student_is_kept(
    synthetic: SyntheticReport, make_index: Callable[[Path], TeacherIndex], tmp_path: Path
) -> None:
    index, run = make_index(synthetic.train_root), tmp_path / "runs" / "demo"
    student, report = steps.trained(index, synthetic.train_root, run, RECIPE, SILENT)
    assert report is not None
    assert (report.images, report.epochs, report.steps, report.recipe) == (6, 2, 4, "small")
    assert report.best_validation_loss is not None
    assert (student.name, student.space, student.trained) == ("demo", index.space, True)
    before = bytes_of(run)
    again, nothing = steps.trained(index, synthetic.train_root, run, RECIPE, SILENT)
    assert nothing is None
    assert again.weights_sha256 == student.weights_sha256
    assert bytes_of(run) == before

    other = overridden(RECIPE, ["epochs=1"])
    _, anew = steps.trained(index, synthetic.train_root, run, other, SILENT)
    assert anew is not None and anew.epochs == 1
    assert bytes_of(run)[STUDENT_FILE] != before[STUDENT_FILE]

    stranger = replace(index, space=replace(index.space, teacher="another"))
    retrained, report = steps.trained(stranger, synthetic.train_root, run, other, SILENT)
    assert report is not None
    assert retrained.space.teacher == "another"


def test_a_training_that_was_stopped_goes_on(
    synthetic: SyntheticReport,
    make_index: Callable[[Path], TeacherIndex],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The student of the first epoch is there, but it is not the demo's."""
    index, run = make_index(synthetic.train_root), tmp_path / "demo"
    whole, epochs = Training.steps_of_epoch, []

    def stopped(training: Training) -> Iterator[StepRecord]:
        for record in whole(training):
            if record.epoch == 2:
                raise KeyboardInterrupt
            yield record

    def watched(training: Training) -> Iterator[StepRecord]:
        epochs.append(training.position.epoch)
        return whole(training)

    with monkeypatch.context() as patched:
        patched.setattr(Training, "steps_of_epoch", stopped)
        with pytest.raises(KeyboardInterrupt):
            steps.trained(index, synthetic.train_root, run, RECIPE, SILENT)
    half_way = load_student(run)
    assert half_way.trained
    with monkeypatch.context() as patched:
        patched.setattr(Training, "steps_of_epoch", watched)
        student, report = steps.trained(index, synthetic.train_root, run, RECIPE, SILENT)
    assert epochs == [2]
    assert report is not None and (report.epochs, report.steps) == (2, 4)
    unbroken, _ = steps.trained(index, synthetic.train_root, tmp_path / "unbroken" / "demo", RECIPE, SILENT)
    assert student.weights_sha256 == unbroken.weights_sha256
    assert len(read_epochs(run)) == 2


@pytest.mark.parametrize("damage", ["no record", "a record of no use", "a student only"])
def test_a_run_that_does_not_say_what_it_is_is_trained_again(
    synthetic: SyntheticReport, make_index: Callable[[Path], TeacherIndex], tmp_path: Path, damage: str
) -> None:
    index = make_index(synthetic.train_root)
    _, first = steps.trained(index, synthetic.train_root, tmp_path, QUICK, SILENT)
    if damage == "no record":
        (tmp_path / "run.json").unlink()
    elif damage == "a record of no use":
        (tmp_path / "run.json").write_text("{")
    else:
        for path in tmp_path.iterdir():
            if path.is_file() and path.name != STUDENT_FILE:
                path.unlink()
    _, report = steps.trained(index, synthetic.train_root, tmp_path, QUICK, SILENT)
    assert first is not None and report is not None
    assert report.last_loss == first.last_loss


def test_four_rows_are_evaluated(
    tiny_teacher: TeacherCheckpoint, synthetic: SyntheticReport, make_index: Callable[[Path], TeacherIndex]
) -> None:
    index, dataset = make_index(synthetic.test_root), load_test_set(synthetic.test_root)
    before = steps.untrained(index, RECIPE)
    assert (before.trained, before.space) == (False, index.space)
    rows = steps.evaluated(tiny_teacher, before, before, index, dataset, SILENT)
    assert [row.name for row in rows] == [
        "teacher → teacher",
        "student → student",
        "student → teacher",
        "untrained → teacher",
    ]
    assert rows[2].report == rows[3].report  # one network under both names
    assert all(not math.isnan(row.report.medium.mean_average_precision) for row in rows)
    stranger = replace(before, space=replace(before.space, teacher="another"))
    with pytest.raises(SpaceMismatchError):
        steps.evaluated(tiny_teacher, before, stranger, index, dataset, SILENT)


@pytest.fixture
def toy_index(synthetic: SyntheticReport, tmp_path: Path) -> TeacherIndex:
    """An index in the toy file's space."""
    return build_index(FakeEmbedder(TOY_SPACE, Preprocessing(32)), image_source(synthetic.test_root), tmp_path / "ix")


@pytest.mark.parametrize(
    ("installed", "names"),
    [
        ((Format.ONNX, Format.COREML), ("onnx fp32", "onnx fp16", "coreml fp32", "coreml fp16")),
        ((), ()),
    ],
)
def test_files_are_exported_in_every_installed_format(
    toy_student: StudentCheckpoint,
    toy_index: TeacherIndex,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    installed: tuple[Format, ...],
    names: tuple[str, ...],
) -> None:
    def stand_in(student: StudentCheckpoint, spec: ExportSpec, out: Path, *, space: EmbeddingSpace) -> Artifact:
        assert (student, out, space) == (toy_student, tmp_path, TOY_SPACE)
        assert (spec.image_side_px, spec.fit) == (64, Fit.LETTERBOX)
        manifest = Manifest(
            space=space,
            preprocessing=student.preprocessing.fitted(spec.fit, spec.image_side_px),
            student=student.name,
            backbone="none",
            weights_sha256="1" * 64,
            format=spec.format,
            precision=spec.precision,
            target="test",
        )
        return Artifact(out / f"{spec.format} {spec.precision}", manifest)

    monkeypatch.setattr(steps, "is_installed", lambda model_format: model_format in installed)
    monkeypatch.setattr(steps, "export_student", stand_in)
    progress = RecordingProgress()
    files = steps.exported(toy_student, toy_index, tmp_path, (Precision.FP32, Precision.FP16), progress)
    assert tuple(artifact.path.name for artifact, _ in files) == names
    assert (progress.tasks, tuple(progress.said)) == ([("exporting", len(names))], names)
    assert all(seconds > 0 for _, seconds in files)


def test_a_file_that_says_something_else_than_its_student_is_not_verified(
    synthetic: SyntheticReport,
    toy_student: StudentCheckpoint,
    toy_file: Path,
    toy_index: TeacherIndex,
    tmp_path: Path,
) -> None:
    path = tmp_path / "copy.onnx"
    shutil.copy(toy_file, path)
    manifest = replace(read_artifact(toy_file).manifest, weights_sha256=toy_student.weights_sha256)
    write_manifest(Artifact(path, manifest))
    dataset = load_test_set(synthetic.test_root)
    (report,) = steps.verified([(read_artifact(path), 1.5)], toy_student, toy_index, dataset, SILENT)
    assert (report.path, report.seconds) == (path, 1.5)
    assert report.verification is not None and report.verification.report is not None
    assert report.verification.report.images == len(dataset.query_items) + len(dataset.database_items)
    verdict = report.verification.judgement.verdict
    assert verdict is Verdict.NOT_RUN  # random weights say nearly the same of every image: nothing can be proven
    assert report.manifest == read_artifact(path).manifest
    assert report.manifest.verdict is verdict


def test_the_demo_s_run_is_what_other_commands_find(
    synthetic: SyntheticReport,
    make_index: Callable[[Path], TeacherIndex],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    run = DemoPaths(Path()).run
    student, _ = steps.trained(make_index(synthetic.train_root), synthetic.train_root, run, QUICK, SILENT)
    for name in (None, "demo"):
        assert resolve_student(name).weights_sha256 == student.weights_sha256
