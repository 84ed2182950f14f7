"""The training loop against one written out, and what it must leave alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from aml_edge.errors import TrainingError, UsageError
from aml_edge.networks.checkpoints import weights_sha256
from aml_edge.networks.normalisation import Normalise
from aml_edge.networks.student import Student
from aml_edge.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from aml_edge.training.inputs import PixelInputs
from aml_edge.training.loop import training_steps
from aml_edge.training.optimisation import freeze_stages
from aml_edge.training.settings import TrainingSettings
from aml_edge.training.training_set import TrainingSet

NATIVE = Preprocessing(64)
PLAIN = TrainingSettings(epochs=2, batch_size=5, image_side_px=64, learning_rate=1e-3, warm_up=0.5)


def steps_of(student: Student, training_set: TrainingSet, settings: TrainingSettings) -> list[Any]:
    inputs = PixelInputs(student, training_set, NATIVE)
    return list(training_steps(student, inputs, training_set.teacher_embeddings, settings))


def batch_norm_statistics(student: Student) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in student.named_buffers()}


class DoubleInputs(PixelInputs):
    """Pixels for a student in float64. In float32 a gradient may be nothing but rounding, and Adam's first steps are
    as long as where it is more: two loops that agree would part.
    """

    def __init__(self, student: Student, training_set: TrainingSet) -> None:
        super().__init__(student, training_set, NATIVE)
        normalise = Normalise(NATIVE.mean, NATIVE.std)
        self.trunk = lambda stack: student.backbone(normalise(stack).double())


def test_does_what_a_loop_written_out_does(
    new_student: Callable[[], Student], training_set: TrainingSet, pixels: list[npt.NDArray[np.uint8]]
) -> None:
    trained, written_out = new_student().double(), new_student().double()
    inputs = DoubleInputs(trained, training_set)
    records = list(training_steps(trained, inputs, training_set.teacher_embeddings, PLAIN))

    groups: list[dict[str, Any]] = [
        {"params": written_out.backbone.parameters(), "lr": 1e-3, "weight_decay": 1e-6},
        {"params": written_out.adaptor.parameters(), "lr": 1e-3 * PLAIN.adaptor_rate_factor, "weight_decay": 1e-6},
        {"params": written_out.pool.parameters(), "lr": 1e-2},
    ]
    optimiser = torch.optim.Adam(groups)
    shares = [1 / 3, 2 / 3, 1.0, 1.0, 0.75, 0.25]  # three steps up, then 0.5 (1 + cos) of 0, 60 and 120 degrees
    rates = [group["lr"] for group in optimiser.param_groups]
    images = [
        torch.from_numpy(((image / 255.0 - IMAGENET_MEAN) / IMAGENET_STD).transpose(2, 0, 1)[None]) for image in pixels
    ]
    targets = torch.from_numpy(training_set.teacher_embeddings)
    generator = torch.Generator().manual_seed(PLAIN.seed)
    losses = []
    orders = [torch.randperm(12, generator=generator).tolist() for _ in range(2)]
    batches = [order[start : start + 5] for order in orders for start in (0, 5, 10)]
    for share, rows in zip(shares, batches, strict=True):
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * share
        embeddings = torch.cat([written_out(images[row]) for row in rows])  # in evaluation mode all along
        loss = 0.5 * ((embeddings - targets[rows] + 1e-6) ** 2).sum() / len(rows)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())

    assert [record.loss for record in records] == pytest.approx(losses, rel=1e-4)
    assert [record.learning_rate for record in records] == pytest.approx([1e-3 * share for share in shares])
    assert [(record.step, record.epoch, record.images) for record in records] == [
        (1, 1, 5), (2, 1, 5), (3, 1, 2), (4, 2, 5), (5, 2, 5), (6, 2, 2),
    ]  # fmt: skip


def test_frozen_statistics_and_stages_stay_and_all_else_learns(
    new_student: Callable[[], Student], training_set: TrainingSet
) -> None:
    student = new_student()
    freeze_stages(student.backbone, 3)
    before = {name: weight.detach().clone() for name, weight in student.named_parameters()}
    statistics = batch_norm_statistics(student)
    steps_of(student, training_set, PLAIN)
    assert all(torch.equal(value, statistics[name]) for name, value in student.named_buffers())
    changed = {name for name, weight in student.named_parameters() if not torch.equal(weight, before[name])}
    frozen = tuple(f"backbone.trunk.{stage}." for stage in ("conv_stem", "bn1", "blocks.0", "blocks.1"))
    assert changed == {name for name in before if not name.startswith(frozen)}


def test_the_same_seed_gives_the_same_weights(new_student: Callable[[], Student], training_set: TrainingSet) -> None:
    hashes = []
    for seed, global_seed in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(global_seed)
        student = new_student()
        steps_of(student, training_set, replace(PLAIN, seed=seed))
        hashes.append(weights_sha256(student))
    assert hashes[0] == hashes[1]
    assert hashes[0] != hashes[2]


def test_each_image_is_seen_once_an_epoch(
    new_student: Callable[[], Student], training_set: TrainingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def regression(anchor: Tensor, teacher_anchor: Tensor) -> Tensor:
        same = (teacher_anchor[:, None] == torch.from_numpy(training_set.teacher_embeddings)[None]).all(dim=2)
        seen.extend(same.float().argmax(dim=1).tolist())
        return anchor.sum()

    monkeypatch.setattr("aml_edge.training.losses.LOSSES", {"regression": regression})
    steps_of(new_student(), training_set, PLAIN)
    assert sorted(seen[:12]) == sorted(seen[12:]) == list(range(12))
    assert seen[:12] != seen[12:] != list(range(12))


@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_stops_where_the_loss_or_its_gradient_is_not_finite(
    new_student: Callable[[], Student], training_set: TrainingSet, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    calls = 0

    def breaks_at_the_third_step(anchor: Tensor, teacher_anchor: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls < 3:
            return (anchor - teacher_anchor).square().sum()
        if broken == "loss":
            return anchor.sum() * math.nan
        return (anchor.sum() * 0.0).sqrt()  # zero, with an infinite slope

    monkeypatch.setattr("aml_edge.training.losses.LOSSES", {"regression": breaks_at_the_third_step})
    student = new_student()
    inputs = PixelInputs(student, training_set, NATIVE)
    hashes = []
    with pytest.raises(TrainingError) as caught:
        for _ in training_steps(student, inputs, training_set.teacher_embeddings, PLAIN):
            hashes.append(weights_sha256(student))
    assert len(hashes) == 2
    assert weights_sha256(student) == hashes[-1]
    said = "the loss is nan" if broken == "loss" else "the loss is 0"
    assert str(caught.value) == (
        f"{said} and the norm of its gradient nan at step 3 of 6 (epoch 1); try a `learning_rate` below 0.001."
    )


def test_an_unknown_loss_is_refused(new_student: Callable[[], Student], training_set: TrainingSet) -> None:
    with pytest.raises(UsageError, match="`loss` is 'hinge'; it must be one of regression"):
        steps_of(new_student(), training_set, replace(PLAIN, loss="hinge"))
