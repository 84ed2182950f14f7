"""A run that was stopped: it goes on to the same bytes, and only where it is the same run."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator

from aml_edge.datasets.labelled_images import ImageLabels
from aml_edge.errors import TrainingError, UsageError
from aml_edge.image_loading import ImageItem
from aml_edge.progress import ProgressTask
from aml_edge.training.plan import TrainingPlan
from aml_edge.training.report import TrainingReport, read_report
from aml_edge.training.run import RunOptions, train
from aml_edge.training.state import save_state
from aml_edge.training.training_set import TrainingSet
from aml_edge.training.validation import validation_loss

STEPS_PER_EPOCH, EPOCHS = 3, 3
COMPARED = {"student.safetensors", "student.json", "last.safetensors", "last.json", "run.json", "log.csv", "epochs.csv"}
RESUME = RunOptions(resume=True)


@pytest.fixture(scope="module")
def plan(planned: Callable[..., TrainingPlan], labelled_set: TrainingSet) -> TrainingPlan:
    """Eight pairs, three steps an epoch; validated by the same images."""
    mined = planned("mined", epochs=EPOCHS, batch_size=3, frozen_stages=4)
    return replace(mined, training=labelled_set, validation=labelled_set)


@pytest.fixture(scope="module")
def unbroken(plan: TrainingPlan, tmp_path_factory: pytest.TempPathFactory) -> TrainingReport:
    return train(plan, tmp_path_factory.mktemp("unbroken") / "run")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def require_equal(report: TrainingReport, unbroken: TrainingReport) -> None:
    ours, theirs = contents(report.run), contents(unbroken.run)
    assert {name for name in ours if not name.startswith("tensorboard/")} == COMPARED | {"report.json"}
    for name in COMPARED:
        assert ours[name] == theirs[name], name
    timed = ("run", "preparing_seconds", "seconds", "images_per_second")
    assert replace(report, **{name: getattr(unbroken, name) for name in timed}) == unbroken


class SignalAt:
    """A Progress at which a signal comes to this process after some advances of a task."""

    def __init__(self, number: signal.Signals, task: str, advances: int) -> None:
        self.number, self.aim, self.left = number, task, advances

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[ProgressTask]:
        self.description = description
        yield self

    def advance(self, steps: int = 1, *, status: str = "") -> None:
        if self.description == self.aim and steps:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), self.number)


@pytest.fixture
def default_ctrl_c() -> Iterator[None]:
    """A job that was begun in the background inherits that SIGINT is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("steps", [1, 3, 5, 8])
def test_a_signal_ends_a_run_after_the_step_and_it_goes_on(
    plan: TrainingPlan, unbroken: TrainingReport, tmp_path: Path, number: signal.Signals, steps: int
) -> None:
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(plan, run, RunOptions(progress=SignalAt(number, "training", steps)))
    assert len((run / "log.csv").read_text().splitlines()) == 1 + steps
    assert (run / "state.safetensors").exists()
    assert (run / "last.safetensors").exists() == (steps > STEPS_PER_EPOCH)
    assert not (run / "report.json").exists()
    require_equal(train(plan, run, RESUME), unbroken)


def test_a_signal_before_the_first_step_ends_a_run_that_can_be_begun_again(
    plan: TrainingPlan, unbroken: TrainingReport, tmp_path: Path, default_ctrl_c: None
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(plan, tmp_path / "run", RunOptions(progress=SignalAt(signal.SIGINT, "frozen stages", 1)))
    assert set(contents(tmp_path / "run")) == {"run.json"}
    require_equal(train(plan, tmp_path / "run", RESUME), unbroken)


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_signal_during_validation_is_obeyed_at_the_epoch_s_end(
    plan: TrainingPlan, unbroken: TrainingReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int
) -> None:
    left = [epoch]

    def told_meanwhile(*arguments: Any, **options: Any) -> float:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGINT)
        return validation_loss(*arguments, **options)

    monkeypatch.setattr("aml_edge.training.run.validation_loss", told_meanwhile)
    if epoch == EPOCHS:  # then nothing is left to do
        require_equal(train(plan, tmp_path / "run"), unbroken)
        return
    with pytest.raises(KeyboardInterrupt):
        train(plan, tmp_path / "run")
    assert len((tmp_path / "run" / "log.csv").read_text().splitlines()) == 1 + STEPS_PER_EPOCH
    require_equal(train(plan, tmp_path / "run", RESUME), unbroken)


@pytest.mark.parametrize(("seconds", "states"), [(0.0, 9 + 3), (1e9, 3)])
def test_states_are_saved_as_often_as_was_asked(
    plan: TrainingPlan,
    unbroken: TrainingReport,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    states: int,
) -> None:
    saved = []

    def counted(*arguments: Any) -> None:
        save_state(*arguments)
        saved.append(arguments[-1])

    clock = iter(range(10**6))  # seconds that pass between two looks at it
    monkeypatch.setattr("aml_edge.training.run.save_state", counted)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    require_equal(train(plan, tmp_path / "run", RunOptions(state_seconds=seconds)), unbroken)
    assert saved == [tmp_path / "run" / "state.safetensors"] * states


def test_a_finished_run_is_left_as_it_is(plan: TrainingPlan, unbroken: TrainingReport) -> None:
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in unbroken.run.rglob("*")}
    held = contents(unbroken.run)
    assert train(plan, unbroken.run, RESUME) == unbroken == read_report(unbroken.run)
    assert contents(unbroken.run) == held
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in unbroken.run.rglob("*")} == before


@pytest.fixture(scope="module")
def stopped(plan: TrainingPlan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped after its fourth step; no test may change it."""
    run = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.raises(KeyboardInterrupt):
        train(plan, run, RunOptions(progress=SignalAt(signal.SIGTERM, "training", 4)))
    return run


@pytest.fixture
def copied(stopped: Path, tmp_path: Path) -> Path:
    """A copy of it, which may be changed."""
    return Path(shutil.copytree(stopped, tmp_path / "run"))


def changed_pictures(plan: TrainingPlan, folder: Path, change: bool) -> TrainingPlan:
    """Returns the plan with its pictures copied to another folder, where one of them is another file."""
    paths = [Path(shutil.copy(item.path, folder)) for item in plan.training.items]
    if change:
        paths[3].write_bytes(paths[3].read_bytes() + b"\0")
    moved = replace(plan.training, items=tuple(ImageItem(path) for path in paths))
    return replace(plan, training=moved, validation=moved, data=folder, index=folder)


def with_settings(plan: TrainingPlan, **changes: Any) -> TrainingPlan:
    return replace(plan, recipe=replace(plan.recipe, settings=replace(plan.recipe.settings, **changes)))


def relabelled(plan: TrainingPlan) -> TrainingPlan:
    labels = plan.training.labels
    assert labels is not None
    others = ImageLabels(labels.clusters, labels.query_rows, (2, *labels.positive_rows[1:]))
    return replace(plan, training=replace(plan.training, labels=others))


def taught_otherwise(plan: TrainingPlan) -> TrainingPlan:
    teacher = plan.training.teacher
    assert teacher is not None
    rows = teacher.rows.copy()
    rows[5] = rows[5, ::-1]
    return replace(plan, training=replace(plan.training, teacher=replace(teacher, rows=rows)))


IMAGES = "training images, labels or teacher embeddings"
VALIDATION = "validation images, labels or teacher embeddings"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda plan, folder: with_settings(plan, seed=1), "`seed`"),
        (lambda plan, folder: with_settings(plan, loss_options={"margin": 0.6}, epochs=4), "`loss_options`, `epochs`"),
        (lambda plan, folder: changed_pictures(plan, folder, change=True), f"{IMAGES}, {VALIDATION}"),
        (lambda plan, folder: relabelled(plan), IMAGES),
        (lambda plan, folder: taught_otherwise(plan), IMAGES),
        (lambda plan, folder: replace(plan, validation=None), VALIDATION),
    ],
)
def test_another_training_does_not_go_on(
    plan: TrainingPlan, copied: Path, tmp_path: Path, change: Callable[[TrainingPlan, Path], TrainingPlan], words: str
) -> None:
    before, other = contents(copied), tmp_path / "other"
    other.mkdir()
    with pytest.raises(UsageError) as caught:
        train(change(plan, other), copied, RESUME)
    assert str(caught.value) == (
        f"`run` is {copied}, whose training was begun with other {words}; go on with the same, or start again with "
        "--overwrite."
    )
    assert contents(copied) == before


def test_data_that_were_moved_go_on(plan: TrainingPlan, unbroken: TrainingReport, copied: Path, tmp_path: Path) -> None:
    (tmp_path / "moved").mkdir()
    moved = changed_pictures(plan, tmp_path / "moved", change=False)
    renamed = replace(moved, recipe=replace(moved.recipe, name="other", about={"row": "a row"}))
    report = train(renamed, copied, RESUME)
    assert report.recipe == "other"
    require_equal(replace(report, recipe="small"), unbroken)


def test_another_number_of_processes_does_not_go_on(
    plan: TrainingPlan, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is in the first of two processes."""
    before = contents(copied)
    monkeypatch.setattr(Accelerator, "num_processes", property(lambda accelerator: 2))
    with pytest.raises(TrainingError) as caught:
        train(plan, copied, RESUME)
    assert str(caught.value) == (
        f"{copied / 'state.safetensors'} was saved by a training that differs in processes (1, now 2); go on with the "
        "same, or start again with --overwrite."
    )
    assert contents(copied) == before


@pytest.mark.parametrize("damage", ["cut", "garbage", "student"])
def test_a_damaged_state_is_refused_and_nothing_is_lost(plan: TrainingPlan, copied: Path, damage: str) -> None:
    state = copied / "state.safetensors"
    content = state.read_bytes()
    state.write_bytes(
        {"cut": content[:-1], "garbage": b"state" * 1000, "student": (copied / "student.safetensors").read_bytes()}[
            damage
        ]
    )
    before = contents(copied)
    with pytest.raises(TrainingError) as caught:
        train(plan, copied, RESUME)
    assert str(caught.value).startswith(f"{state} cannot be read: ")
    assert str(caught.value).endswith("; start again with --overwrite.")
    assert contents(copied) == before


def test_a_log_that_lacks_steps_is_refused_and_nothing_is_lost(plan: TrainingPlan, copied: Path) -> None:
    (copied / "log.csv").unlink()
    before = contents(copied)
    with pytest.raises(TrainingError, match=r"log\.csv lacks lines up to 4, which the state to go on from has done; "):
        train(plan, copied, RESUME)
    assert contents(copied) == before


def test_what_a_killed_process_left_is_removed_or_cut_off(
    plan: TrainingPlan, unbroken: TrainingReport, copied: Path
) -> None:
    (copied / ".state.123.partial.safetensors").write_bytes(b"half")
    with (copied / "log.csv").open("a") as stream:
        stream.write("5,2,3,3,0.1,0.1\n6,2,3,")
    require_equal(train(plan, copied, RESUME), unbroken)


def test_where_nothing_was_begun_nothing_goes_on(plan: TrainingPlan, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        train(plan, tmp_path / "run", RESUME)
    assert str(caught.value) == (
        f"`run` is {tmp_path / 'run'}, where no training was begun (run.json is not there); name another folder."
    )
    assert not (tmp_path / "run").exists()


class Counted:
    """A Progress that notes what the training was said to have done."""

    def __init__(self) -> None:
        self.advances: list[int] = []

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[ProgressTask]:
        self.advances = [-total]
        yield self

    def advance(self, steps: int = 1, *, status: str = "") -> None:
        self.advances.append(steps)


def test_progress_begins_where_the_run_was_stopped(plan: TrainingPlan, copied: Path) -> None:
    progress = Counted()
    train(plan, copied, RunOptions(resume=True, progress=progress))
    assert progress.advances == [-24, 8, 3, 3, 2, 3, 3, 2]  # an epoch and a batch of the next, then batches of 3, 3, 2
