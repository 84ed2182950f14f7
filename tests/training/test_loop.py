"""Training step by step: what changes nothing, what must stay, and how it stops and goes on."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from aml_edge.errors import ImageBatchError, TrainingError, UsageError
from aml_edge.image_loading import ImageItem
from aml_edge.networks.checkpoints import weights_sha256
from aml_edge.networks.student import Student
from aml_edge.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from aml_edge.training.inputs import PixelInputs
from aml_edge.training.loop import Position, StepRecord, Training
from aml_edge.training.losses import LOSSES, LossSpec, Takes
from aml_edge.training.processes import Processes
from aml_edge.training.settings import BatchNorm, TrainingSettings
from aml_edge.training.split import Split
from aml_edge.training.training_set import TeacherEmbeddings, TrainingSet

NATIVE = Preprocessing(64)
Images = list[npt.NDArray[np.uint8]]
NewTraining = Callable[..., Training]
LoopSettings = Callable[..., TrainingSettings]
StepsOf = Callable[[Training], Iterator[StepRecord]]


@pytest.mark.parametrize("loop", ["reg", "contr", "alone"])
def test_how_many_images_go_at_once_changes_no_gradient(
    new_training: NewTraining, loop_settings: LoopSettings, loop: str
) -> None:
    gradients = []
    for at_once in (1, 9, 64):
        training = new_training(loop_settings(loop, images_at_once=at_once), double=True)
        next(training.steps_of_epoch())
        gradients.append({name: weight.grad for name, weight in training.network.named_parameters()})
    for name, expected in gradients[0].items():
        assert expected is not None
        for other in gradients[1:]:
            torch.testing.assert_close(
                other[name], expected, atol=1e-12 * expected.abs().max().item(), rtol=1e-9, msg=name
            )


def copied(source: Training, target: Training) -> Training:
    """Returns `target`, put where `source` is, as a file would put it there."""
    state = copy.deepcopy((source.network.state_dict(), source.optimiser.state_dict()["state"], source.tuples))
    target.network.load_state_dict(state[0])
    groups = target.optimiser.state_dict()["param_groups"]
    target.optimiser.load_state_dict({"state": state[1], "param_groups": groups})
    target.tuples, target.position = state[2], source.position
    return target


@pytest.mark.parametrize(
    ("loop", "changes"),
    [("reg", {}), ("contr", {}), ("alone", {"batch_norm": BatchNorm.TRAINED, "frozen_stages": 2}), ("rkd", {})],
    ids=["reg", "contr", "alone", "rkd"],
)
def test_a_training_that_was_stopped_goes_on_to_the_same_weights(
    new_training: NewTraining, loop_settings: LoopSettings, steps_of: StepsOf, loop: str, changes: dict[str, Any]
) -> None:
    settings = loop_settings(loop, **changes)
    unbroken = new_training(settings)
    stopped = [copied(unbroken, new_training(settings))]
    records = []
    while not unbroken.is_done:
        for record in unbroken.steps_of_epoch():
            records.append(record)
            stopped.append(copied(unbroken, new_training(settings)))
        unbroken.end_epoch()
        stopped.append(copied(unbroken, new_training(settings)))
    assert len(stopped) == 1 + len(records) + 2
    ends = unbroken.network.state_dict()
    for training in stopped:
        step = training.position.step
        assert list(steps_of(training)) == records[step:]
        for name, value in training.network.state_dict().items():
            assert torch.equal(value, ends[name]), (step, name)


def test_positions_count_epochs_batches_and_steps(new_training: NewTraining, loop_settings: LoopSettings) -> None:
    training = new_training(loop_settings("reg"))
    positions = [training.position]
    while not training.is_done:
        for _ in training.steps_of_epoch():
            positions.append(training.position)
            assert training.tuples is not None
        training.end_epoch()
        positions.append(training.position)
        assert training.tuples is None
    assert positions == [
        Position(1, 0, 0), Position(1, 1, 1), Position(1, 2, 2), Position(1, 3, 3),
        Position(2, 0, 3), Position(2, 1, 4), Position(2, 2, 5), Position(2, 3, 6),
        Position(3, 0, 6),
    ]  # fmt: skip


def test_frozen_statistics_and_stages_stay_and_all_else_learns(
    new_training: NewTraining, loop_settings: LoopSettings, steps_of: StepsOf
) -> None:
    training = new_training(loop_settings("reg", frozen_stages=3))
    network = training.network
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    statistics = {name: value.clone() for name, value in network.named_buffers()}
    list(steps_of(training))
    assert all(torch.equal(value, statistics[name]) for name, value in network.named_buffers())
    changed = {name for name, weight in network.named_parameters() if not torch.equal(weight, before[name])}
    frozen = tuple(f"backbone.trunk.{stage}." for stage in ("conv_stem", "bn1", "blocks.0", "blocks.1"))
    assert changed == {name for name in before if not name.startswith(frozen)}


def test_trained_statistics_follow_the_batches_but_for_frozen_stages(
    new_training: NewTraining,
    loop_settings: LoopSettings,
    new_student: Callable[[], Student],
    labelled_set: TrainingSet,
    pixels: Images,
) -> None:
    """Against PyTorch's own training mode, on images of one shape that all go at once."""
    rows = [row for row, image in enumerate(pixels) if image.shape == (48, 64, 3)]
    assert labelled_set.teacher is not None
    teacher = TeacherEmbeddings(labelled_set.teacher.rows[rows], labelled_set.teacher.space)
    images = TrainingSet(tuple(labelled_set.items[row] for row in rows), teacher=teacher)
    settings = loop_settings("reg", batch_norm=BatchNorm.TRAINED, frozen_stages=3, batch_size=8)
    training = new_training(settings, double=True, images=images)
    next(training.steps_of_epoch())
    plain = new_student().double().train()
    trunk = plain.backbone.trunk
    for frozen in (trunk.bn1, trunk.blocks[0], trunk.blocks[1]):
        frozen.eval()
    order = np.random.default_rng([0, 1]).permutation(len(rows))[:8].tolist()
    stack = torch.stack([torch.from_numpy(pixels[rows[place]]).double() for place in order])
    mean, std = (torch.tensor(value, dtype=torch.float64) for value in (IMAGENET_MEAN, IMAGENET_STD))
    plain(((stack / 255 - mean) / std).permute(0, 3, 1, 2))
    start = dict(new_student().double().named_buffers())
    moved = 0
    for name, value in training.network.named_buffers():
        torch.testing.assert_close(value, dict(plain.named_buffers())[name], rtol=1e-9, atol=1e-12, msg=name)
        moved += not torch.equal(value, start[name])
    frozen_buffers = [
        name
        for name in start
        if name.startswith(("backbone.trunk.bn1", "backbone.trunk.blocks.0", "backbone.trunk.blocks.1"))
    ]
    assert moved == len(start) - len(frozen_buffers)
    assert len(rows) == 8 and frozen_buffers


def test_several_processes_cannot_train_statistics(
    new_student: Callable[[], Student], labelled_set: TrainingSet, loop_settings: LoopSettings
) -> None:
    two = SimpleNamespace(device=torch.device("cpu"), num_processes=2, process_index=0, is_main_process=True)
    processes = Processes(cast(Any, two))
    student, settings = new_student(), loop_settings("reg", batch_norm=BatchNorm.TRAINED)
    split = Split(student, PixelInputs(student, labelled_set, NATIVE), labelled_set, settings, processes)
    with pytest.raises(UsageError) as caught:
        Training(student, split, settings, processes)
    assert str(caught.value) == (
        "`batch_norm` is 'trained', but in 2 processes the statistics would part; it must be 'frozen', or train in one "
        "process."
    )


def test_the_seed_alone_decides_the_weights(
    new_training: NewTraining, loop_settings: LoopSettings, steps_of: StepsOf
) -> None:
    hashes = []
    for seed, global_seed in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(global_seed)
        np.random.seed(global_seed)
        training = new_training(loop_settings("contr", seed=seed))
        list(steps_of(training))
        hashes.append(weights_sha256(training.network))
    assert hashes[0] == hashes[1]
    assert hashes[0] != hashes[2]


def test_each_image_is_seen_once_an_epoch(
    new_training: NewTraining,
    loop_settings: LoopSettings,
    steps_of: StepsOf,
    training_set: TrainingSet,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert training_set.teacher is not None
    targets = torch.from_numpy(training_set.teacher.rows)
    seen: list[int] = []

    def seeing(anchor: Tensor, teacher_anchor: Tensor, *, reduction: str = "mean") -> Tensor:
        seen.extend((teacher_anchor[:, None] == targets[None]).all(dim=2).float().argmax(dim=1).tolist())
        return anchor.sum()

    monkeypatch.setitem(LOSSES, "regression", LossSpec(seeing, Takes.IMAGES, ties=True))
    list(steps_of(new_training(loop_settings("reg"))))
    assert sorted(seen[:12]) == sorted(seen[12:]) == list(range(12))
    assert seen[:12] != seen[12:] != list(range(12))


@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_stops_where_the_loss_or_its_gradient_is_not_finite(
    new_training: NewTraining,
    loop_settings: LoopSettings,
    steps_of: StepsOf,
    labelled_set: TrainingSet,
    monkeypatch: pytest.MonkeyPatch,
    broken: str,
) -> None:
    calls = 0

    def breaks_at_the_third_step(anchor: Tensor, teacher_anchor: Tensor, *, reduction: str = "mean") -> Tensor:
        nonlocal calls
        calls += 1
        if calls < 3:
            return (anchor - teacher_anchor).square().sum()
        if broken == "loss":
            return anchor.sum() * math.nan
        return (anchor.sum() * 0.0).sqrt()  # zero, with an infinite slope

    monkeypatch.setitem(LOSSES, "regression", LossSpec(breaks_at_the_third_step, Takes.IMAGES, ties=True))
    training = new_training(loop_settings("reg"))
    hashes = []
    with pytest.raises(TrainingError) as caught:
        for _ in steps_of(training):
            hashes.append(weights_sha256(training.network))
    assert len(hashes) == 2
    assert weights_sha256(training.network) == hashes[-1]
    assert training.position == Position(1, 2, 2)
    rows = np.random.default_rng([0, 1]).permutation(12)[10:].tolist()
    files = "".join(f"\n  {labelled_set.items[row].path}" for row in rows)
    assert str(caught.value) == (
        f"the loss is {'nan' if broken == 'loss' else '0'} and the norm of its gradient nan at step 3 (epoch 1 of 2); "
        f"try a `learning_rate` below 0.001, or look at the images of this step:{files}"
    )


def test_the_files_of_a_broken_step_are_those_of_its_tuples(
    new_training: NewTraining,
    loop_settings: LoopSettings,
    steps_of: StepsOf,
    labelled_set: TrainingSet,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Anchor, positive and negatives, tuple by tuple, each file once, ten at most."""

    def broken(anchor: Tensor, positive: Tensor, negatives: Tensor, *, reduction: str = "mean") -> Tensor:
        return anchor.sum() * math.inf

    monkeypatch.setitem(LOSSES, "contrastive", LossSpec(broken, Takes.TUPLES, ties=True))
    for batch_size in (1, 8):
        training = new_training(loop_settings("contr", loss_options={}, batch_size=batch_size, queries_per_epoch=0))
        with pytest.raises(TrainingError) as caught:
            list(steps_of(training))
        assert training.tuples is not None
        first = training.tuples.part(0, batch_size)
        rows: list[int] = []
        for parts in zip(first.anchors, first.positives, first.negatives, strict=True):
            rows += [int(row) for part in parts for row in np.atleast_1d(part) if row not in rows]
        lines = str(caught.value).splitlines()
        assert lines[0].startswith("the loss is inf and the norm of its gradient ")
        assert lines[1:11] == [f"  {labelled_set.items[row].path}" for row in rows[:10]]
        assert lines[11:] == ([f"  and {len(rows) - 10} more"] if len(rows) > 10 else [])
        assert (len(rows) > 10) is (batch_size == 8)


def test_unreadable_images_are_all_listed_at_the_step_that_needs_the_first(
    new_training: NewTraining, loop_settings: LoopSettings, steps_of: StepsOf, labelled_set: TrainingSet, tmp_path: Path
) -> None:
    order = np.random.default_rng([0, 1]).permutation(12).tolist()
    items = list(labelled_set.items)
    for place in (5, 11):  # in the second batch and in the third
        items[order[place]] = ImageItem(tmp_path / f"{place}.png")
        items[order[place]].path.write_bytes(b"no image")
    training = new_training(loop_settings("reg"), images=replace(labelled_set, items=tuple(items)))
    with pytest.raises(ImageBatchError, match="2 of 12 images cannot be read") as caught:
        list(steps_of(training))
    assert [Path(path).name for path, _ in caught.value.failures] == ["5.png", "11.png"]
    assert training.position == Position(1, 1, 1)
