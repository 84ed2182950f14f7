"""What training is measured against does the same as ours, as far as both round alike."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from aml_edge.networks.student import Student
from aml_edge.preprocessing import Preprocessing
from aml_edge.training import published_way
from aml_edge.training.loop import Training
from aml_edge.training.losses import loss_with_options
from aml_edge.training.mining import hardest_negatives
from aml_edge.training.published_way import AnchorImages, hardest_by_full_ranks, train_one_by_one
from aml_edge.training.settings import Mining, Schedule, TrainingSettings
from aml_edge.training.training_set import TrainingSet
from aml_edge.training.tuples import Tuples

SIDE = 64


@pytest.mark.parametrize(
    ("loss", "options", "mining"),
    [("regression", {}, Mining.NONE), ("contrastive_plus", {"margin": 0.7}, Mining.RANDOM)],
)
def test_one_by_one_measures_the_losses_of_ours(
    labelled_set: TrainingSet,
    new_student: Callable[[], Student],
    new_training: Callable[..., Training],
    monkeypatch: pytest.MonkeyPatch,
    loss: str,
    options: dict[str, float],
    mining: Mining,
) -> None:
    monkeypatch.setattr(published_way, "DECODING_PROCESSES", 0)  # a test's process may have threads, and must not fork
    settings = TrainingSettings(
        loss=loss,
        loss_options=options,
        mining=mining,
        negatives=2,
        batch_size=3,
        epochs=1,
        image_side_px=SIDE,
        frozen_stages=0,
        warm_start=False,
        learning_rate=1e-5,
        schedule=Schedule.EXPONENTIAL,
    )
    training = new_training(settings)
    ours = list(training.steps_of_epoch())
    tuples = training.tuples
    assert isinstance(tuples, Tuples) and labelled_set.teacher is not None
    images = AnchorImages(labelled_set.items, tuples.anchors.tolist(), Preprocessing(SIDE))
    rows = torch.from_numpy(labelled_set.teacher.rows)
    student = new_student()
    losses = train_one_by_one(student, images, tuples, rows, loss_with_options(loss, options), settings)
    assert losses == pytest.approx([step.loss for step in ours], rel=1e-4)  # Adam turns rounding into steps
    untouched = copy.deepcopy(new_student())
    before, ends = (
        torch.cat([weight.detach().flatten() for weight in network.parameters()]) for network in (untouched, student)
    )
    end = torch.cat([weight.detach().flatten() for weight in training.network.parameters()])
    assert (end - ends).norm() < 0.1 * (ends - before).norm()


@pytest.mark.parametrize("seed", range(3))
def test_full_ranks_find_the_same_negatives(seed: int) -> None:
    generator = np.random.default_rng(seed)

    def embedded(count: int) -> Any:
        rows = generator.normal(size=(count, 8)).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    queries, pool = embedded(20), embedded(60)
    of_queries, of_pool = generator.integers(9, size=20), generator.integers(9, size=60)
    found = hardest_by_full_ranks(queries, of_queries, pool, of_pool, 4)
    np.testing.assert_array_equal(found, hardest_negatives(queries, of_queries, pool, of_pool, 4))
