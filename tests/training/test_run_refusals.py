"""A training run that is refused or breaks off: what is said, and that nothing is lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from aml_edge.datasets.labelled_images import ImageLabels
from aml_edge.errors import DatasetError, ImageBatchError, SpaceMismatchError, TrainingError, UsageError
from aml_edge.image_loading import ImageItem
from aml_edge.networks.checkpoints import StudentCheckpoint, load_student
from aml_edge.training.log import read_steps
from aml_edge.training.losses import LOSSES
from aml_edge.training.plan import TrainingPlan, is_run_of
from aml_edge.training.report import TrainingReport, read_report
from aml_edge.training.run import RunOptions, train
from aml_edge.training.settings import Mining
from aml_edge.training.state import save_state
from aml_edge.training.training_set import TrainingSet

STUDENT_FILES = {"student.safetensors", "student.json", "last.safetensors", "last.json"}
Planned = Callable[..., TrainingPlan]
Contents = Callable[[Path], dict[str, bytes]]


def broken_after(good_steps: int) -> Any:
    """Returns the regression loss, which is not a number from some step on."""
    calls = 0

    def loss(anchor: Tensor, teacher_anchor: Tensor, *, reduction: str) -> Tensor:
        nonlocal calls
        calls += 1
        total = (1 - (anchor * teacher_anchor).sum(dim=1)).sum()
        return total if calls <= good_steps else total * torch.nan

    return replace(LOSSES["regression"], function=loss)


@pytest.mark.parametrize(("good_steps", "kept"), [(1, False), (4, True)])
def test_a_loss_that_is_not_finite_leaves_the_last_epoch_s_network(
    plan: TrainingPlan,
    pictures: tuple[Path, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    good_steps: int,
    kept: bool,
) -> None:
    monkeypatch.setitem(LOSSES, "regression", broken_after(good_steps))
    with pytest.raises(TrainingError) as caught:
        train(plan, tmp_path / "run")
    first, *files = str(caught.value).splitlines()
    step, epoch = good_steps + 1, 1 + good_steps // 3
    assert first.startswith(f"the loss is nan and the norm of its gradient nan at step {step} (epoch {epoch} of 2); ")
    assert first.endswith("try a `learning_rate` below 0.001, or look at the images of this step:")
    assert len(files) == 4
    assert set(files) <= {f"  {path}" for path in pictures}
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert left == {"run.json", "log.csv", "epochs.csv", "tensorboard"} | (
        STUDENT_FILES | {"state.safetensors"} if kept else set()
    )
    assert len(read_steps(tmp_path / "run")) == good_steps
    if kept:
        trained = load_student(tmp_path / "run")
        assert all(weight.isfinite().all() for weight in trained.student.parameters())
        monkeypatch.setitem(LOSSES, "regression", broken_after(1))
        with pytest.raises(TrainingError, match=r"the loss is nan .* at step 5 "):
            train(plan, tmp_path / "run", RunOptions(resume=True))


def test_unreadable_images_are_listed_and_no_network_is_saved(
    planned: Planned, training_set: TrainingSet, tmp_path: Path
) -> None:
    broken = replace(training_set, items=(*training_set.items[:-1], ImageItem(tmp_path / "gone.png")))
    for frozen_stages in (0, 1):
        with pytest.raises(ImageBatchError, match=r"1 of 12 images cannot be read[\s\S]*gone\.png"):
            train(
                replace(planned("small", frozen_stages=frozen_stages, warm_start=False), training=broken),
                tmp_path / f"run {frozen_stages}",
            )
        assert not (tmp_path / f"run {frozen_stages}" / "student.safetensors").exists()
        left = [path for path in (tmp_path / f"run {frozen_stages}").rglob("*") if path.is_file()]
        assert left == []  # with other images it is another run, and nothing was learned that could go on


def test_what_was_learned_stays_where_images_become_unreadable(
    planned: Planned, training_set: TrainingSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = tuple(ImageItem(tmp_path / item.path.name) for item in training_set.items)
    for copied, item in zip(copies, training_set.items, strict=True):
        shutil.copy(item.path, copied.path)
    changed = planned("small", frozen_stages=0, epochs=2, warm_start=False)

    def then_damaged(*arguments: Any) -> None:
        save_state(*arguments)
        copies[0].path.write_bytes(b"no image")

    monkeypatch.setattr("aml_edge.training.run.save_state", then_damaged)  # first called after the first epoch
    with pytest.raises(ImageBatchError, match=r"1 of 12 images cannot be read"):
        train(replace(changed, training=replace(training_set, items=copies)), tmp_path / "run")
    assert {"run.json", "state.safetensors", "student.safetensors", "last.safetensors"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }


CLUSTERS = ImageLabels(tuple(range(12)), (), ())
NO_PAIRS, TWO_CLUSTERS = CLUSTERS, ImageLabels((0, 1) * 6, (0,), (2,))
NO_LABELS = "`mining` is 'hard', but the images have no labels of what matches; give a training set"
TOO_FEW_CLUSTERS = "`negatives` is 2, but a pool of 12 images has only 2 clusters, and a query takes"


@pytest.mark.parametrize(
    ("settings", "changes", "labels", "validation_labels", "message"),
    [
        ("small", {"loss": "hinge"}, None, None, "`loss` is 'hinge'; it must be one of"),
        ("mined", {"mining": Mining.NONE}, None, None, "`mining` is 'none', but the loss contrastive"),
        ("mined", {"loss_options": {"size": 3}}, None, None, "`loss_options.size` is 3, but the loss contrastive"),
        ("small", {"loss": "dark_rank"}, None, None, "`list_length` is 4 in a batch of 4; it must be between 1 and"),
        ("small", {"frozen_stages": 20}, None, None, "`frozen_stages` is 20; this backbone has"),
        ("mined", {}, None, None, NO_LABELS),
        ("mined", {}, NO_PAIRS, None, NO_LABELS),
        ("mined", {}, TWO_CLUSTERS, None, TOO_FEW_CLUSTERS),
        ("mined", {"negatives": 4}, "labelled", None, "`negatives` is 4, but a pool of 12 images has only 4 clusters"),
        ("mined", {}, "labelled", TWO_CLUSTERS, TOO_FEW_CLUSTERS),
        ("mined", {}, "labelled", NO_PAIRS, NO_LABELS),
    ],
)
def test_what_cannot_be_trained_is_refused_before_another_run_is_lost(
    planned: Planned,
    finished: TrainingReport,
    contents: Contents,
    labelled_set: TrainingSet,
    tmp_path: Path,
    settings: str,
    changes: dict[str, Any],
    labels: ImageLabels | str | None,
    validation_labels: ImageLabels | None,
    message: str,
) -> None:
    given = labelled_set.labels if isinstance(labels, str) else labels
    bad = replace(
        planned(settings, **changes),
        training=replace(labelled_set, labels=given),
        validation=None if validation_labels is None else replace(labelled_set, labels=validation_labels),
    )
    shutil.copytree(finished.run, tmp_path / "run")
    before = contents(tmp_path / "run")
    for run, overwrite in ((tmp_path / "new", False), (tmp_path / "run", True)):
        with pytest.raises((UsageError, DatasetError)) as caught:
            train(bad, run, RunOptions(overwrite=overwrite))
        assert str(caught.value).startswith(message)
    assert not (tmp_path / "new").exists()
    assert contents(tmp_path / "run") == before


def test_a_student_of_another_teacher_is_refused(plan: TrainingPlan, start: StudentCheckpoint, tmp_path: Path) -> None:
    stranger = replace(plan, start=replace(start, space=replace(start.space, teacher="another")))
    with pytest.raises(
        SpaceMismatchError, match=r"student 'small' lives in another .* but the teacher's index in colours"
    ):
        train(stranger, tmp_path / "run")
    with pytest.raises(UsageError, match=r"^`mode` is 'asymmetric', which needs the teacher's index"):
        train(replace(plan, training=replace(plan.training, teacher=None)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_another_run_is_replaced_only_if_told_to(
    plan: TrainingPlan, planned: Planned, finished: TrainingReport, contents: Contents, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished.run, run)
    (run / "notes.txt").write_text("mine")
    before, other = contents(run), planned("small", epochs=1, seed=1)
    assert is_run_of(plan, run) and not is_run_of(other, run) and not is_run_of(plan, tmp_path)
    with pytest.raises(UsageError, match=r"which holds another run \(run\.json, log\.csv, .*or pass --overwrite\."):
        train(other, run)
    assert contents(run) == before
    train(other, run, RunOptions(overwrite=True))
    assert is_run_of(other, run)
    assert (run / "notes.txt").read_text() == "mine"
    assert len(read_steps(run)) == 3
    assert len(list((run / "tensorboard").iterdir())) == 1


def test_to_go_on_and_to_overwrite_exclude_each_other(
    plan: TrainingPlan, finished: TrainingReport, contents: Contents
) -> None:
    before = contents(finished.run)
    with pytest.raises(UsageError, match=r"^`resume` and `overwrite` exclude each other; go on with the run, or repl"):
        train(plan, finished.run, RunOptions(resume=True, overwrite=True))
    assert contents(finished.run) == before


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"run": 3}', "[" * 100_000, "\xff"])
def test_a_report_that_is_damaged_is_refused(finished: TrainingReport, tmp_path: Path, damage: str) -> None:
    (tmp_path / "report.json").write_text(damage, encoding="latin-1")
    with pytest.raises(UsageError, match=r"report\.json cannot be read: [\s\S]*; start again with --overwrite\.$"):
        read_report(tmp_path)
    shutil.copy(finished.run / "report.json", tmp_path)
    assert read_report(tmp_path) == replace(finished, run=tmp_path)  # wherever it now lies
    with pytest.raises(UsageError, match="cannot be read"):
        read_report(tmp_path / "nowhere")
