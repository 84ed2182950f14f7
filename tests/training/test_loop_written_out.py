"""The training loop against loops written out: one image at a time, in float64, each loss in plain sight."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from aml_edge.networks.student import Student
from aml_edge.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from aml_edge.training.loop import StepRecord, Training
from aml_edge.training.settings import TrainingSettings
from aml_edge.training.training_set import TeacherEmbeddings, TrainingSet

DOUBLE_PRECISION = 1e-9
"""Of weights after some steps of Adam in float64: sums are taken in another order."""
Images = list[npt.NDArray[np.uint8]]
Trained = Callable[..., tuple[Training, list[StepRecord]]]


@pytest.fixture
def trained(
    new_training: Callable[..., Training],
    loop_settings: Callable[..., TrainingSettings],
    steps_of: Callable[[Training], Iterator[StepRecord]],
    labelled_set: TrainingSet,
) -> Trained:
    """Trains to the end, in float64; returns the training and its steps' records."""

    def train(loop: str, images: TrainingSet = labelled_set, **changes: Any) -> tuple[Training, list[StepRecord]]:
        training = new_training(loop_settings(loop, **changes), double=True, images=images)
        return training, list(steps_of(training))

    return train


class WrittenOut:
    """A training written out: one image at a time, in evaluation mode all along, in float64.

    Args:
        student: trained in place.
        pixels: the images.
        factor: of the adaptor's rate.
    """

    def __init__(self, student: Student, pixels: Images, factor: float) -> None:
        self.student = student.double().eval()
        self.images = [
            torch.from_numpy(((image / 255.0 - IMAGENET_MEAN) / IMAGENET_STD).transpose(2, 0, 1)[None])
            for image in pixels
        ]
        self.rates = [1e-3, 1e-3 * factor, 1e-2]
        groups: list[dict[str, Any]] = [
            {"params": student.backbone.parameters(), "weight_decay": 1e-6},
            {"params": student.adaptor.parameters(), "weight_decay": 1e-6},
            {"params": student.pool.parameters()},
        ]
        self.optimiser = torch.optim.Adam(groups)
        self.losses: list[float] = []

    def embed(self, row: int) -> Tensor:
        embedding: Tensor = self.student(self.images[row])[0]
        return embedding

    def step(self, losses: Iterable[Tensor], anchors: int, share: float) -> None:
        loss = torch.stack(list(losses)).sum() / anchors
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * share
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.losses.append(loss.item())


def require_same(training: Training, records: list[StepRecord], by_hand: WrittenOut) -> None:
    assert [record.loss for record in records] == pytest.approx(by_hand.losses, rel=1e-6)  # they are logged in float32
    expected = dict(by_hand.student.named_parameters())
    for name, weight in training.network.named_parameters():
        torch.testing.assert_close(weight, expected[name], atol=DOUBLE_PRECISION, rtol=0, msg=name)


def test_reg_is_what_a_loop_written_out_gives(
    trained: Trained, new_student: Callable[[], Student], training_set: TrainingSet, pixels: Images
) -> None:
    training, records = trained("reg")
    assert training_set.teacher is not None
    targets = torch.from_numpy(training_set.teacher.rows)
    by_hand = WrittenOut(new_student(), pixels, factor=0.1)
    shares = [1 / 3, 2 / 3, 1.0, 1.0, 0.75, 0.25]  # three steps up, then 0.5 (1 + cos) of 0, 60 and 120 degrees
    orders = [np.random.default_rng([0, epoch]).permutation(12).tolist() for epoch in (1, 2)]
    batches = [order[start : start + 5] for order in orders for start in (0, 5, 10)]
    for share, rows in zip(shares, batches, strict=True):
        losses = [0.5 * ((by_hand.embed(row) - targets[row] + 1e-6) ** 2).sum() for row in rows]
        by_hand.step(losses, len(rows), share)
    require_same(training, records, by_hand)
    assert [record.learning_rate for record in records] == pytest.approx([1e-3 * share for share in shares])
    assert [(record.step, record.epoch, record.anchors, record.images) for record in records] == [
        (1, 1, 5, 5), (2, 1, 5, 5), (3, 1, 2, 2), (4, 2, 5, 5), (5, 2, 5, 5), (6, 2, 2, 2),
    ]  # fmt: skip


@pytest.mark.parametrize("loop", ["contr", "alone"])
def test_contr_is_what_a_loop_written_out_gives(
    trained: Trained, new_student: Callable[[], Student], labelled_set: TrainingSet, pixels: Images, loop: str
) -> None:
    training, records = trained(loop, adaptor_rate_factor=0.5, images_at_once=8)
    labels, teacher = labelled_set.labels, labelled_set.teacher
    assert labels is not None and teacher is not None
    targets = torch.from_numpy(teacher.rows).double()
    by_hand = WrittenOut(new_student(), pixels, factor=0.5)

    def compared(row: int) -> Tensor:
        return by_hand.embed(row) if loop == "alone" else targets[row]

    def negatives_of(anchor: int, pool: list[int]) -> list[int]:
        with torch.no_grad():
            query = by_hand.embed(anchor)
            ranked = sorted(pool, key=lambda row: -float(query @ compared(row)))
        found: list[int] = []
        for row in ranked:
            if labels.clusters[row] not in {labels.clusters[one] for one in (anchor, *found)}:
                found.append(row)
        return found[:2]

    def loss_of(anchor: int, positive: int, negatives: list[int]) -> Tensor:
        near = by_hand.embed(anchor) - compared(positive) + 1e-6
        loss = 0.5 * near.square().sum()
        for row in negatives:
            far = by_hand.embed(anchor) - compared(row) + 1e-6
            loss = loss + 0.5 * (0.7 - far.square().sum().sqrt()).clamp(min=0).square()
        return loss

    images = []
    for epoch in (1, 2):
        generator = np.random.default_rng([0, epoch])
        pairs = generator.permutation(8)[:7].tolist()
        pool = generator.permutation(12)[:10].tolist()
        tuples = [(labels.query_rows[pair], labels.positive_rows[pair]) for pair in pairs]
        mined = [(anchor, positive, negatives_of(anchor, pool)) for anchor, positive in tuples]
        for batch in (mined[:3], mined[3:6], mined[6:]):
            by_hand.step([loss_of(*one) for one in batch], len(batch), math.exp(-0.5 * (epoch - 1)))
            every = {row for anchor, positive, negatives in batch for row in (anchor, positive, *negatives)}
            images.append(len(every if loop == "alone" else {one[0] for one in batch}))
    require_same(training, records, by_hand)
    assert [record.anchors for record in records] == [3, 3, 1, 3, 3, 1]
    assert [record.images for record in records] == images
    assert by_hand.losses[0] > 0.01


def test_rkd_is_what_a_loop_written_out_gives(
    trained: Trained, new_student: Callable[[], Student], training_set: TrainingSet, pixels: Images
) -> None:
    """Distances over their mean and cosines of angles, each compared with the teacher's, in batches of five."""
    assert training_set.teacher is not None
    teacher = TeacherEmbeddings(training_set.teacher.rows.astype(np.float64), training_set.teacher.space)
    training, records = trained("rkd", replace(training_set, teacher=teacher))
    targets = torch.from_numpy(teacher.rows)
    by_hand = WrittenOut(new_student(), pixels, factor=0.1)

    def relations(rows: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        places = range(len(rows))
        distances = [(rows[i] - rows[j]).norm() for i in places for j in places if i != j]
        mean = torch.stack(distances).mean()
        angles = [
            torch.nn.functional.cosine_similarity(rows[j] - rows[i], rows[k] - rows[i], dim=0)
            for i in places for j in places for k in places if i not in (j, k)
        ]  # fmt: skip
        return [distance / mean for distance in distances], angles

    def smooth_l1(one: Tensor, other: Tensor) -> Tensor:
        gap = (one - other).abs()
        return 0.5 * gap**2 if gap < 1 else gap - 0.5

    orders = [np.random.default_rng([0, epoch]).permutation(12).tolist() for epoch in (1, 2)]
    batches = [order[start : start + 5] for order in orders for start in (0, 5)]  # the last two images have no batch
    for share, rows in zip([0.5, 1.0, 1.0, 0.5], batches, strict=True):
        ours, theirs = relations([by_hand.embed(row) for row in rows]), relations([targets[row] for row in rows])
        losses = [
            weight * smooth_l1(one, other)
            for weight, mine, given in zip((1 / 5**2, 2 / 5**3), ours, theirs, strict=True)
            for one, other in zip(mine, given, strict=True)
        ]
        by_hand.step(losses, 1, share)
    require_same(training, records, by_hand)
    assert [record.images for record in records] == [5, 5, 5, 5]
