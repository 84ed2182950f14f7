"""The validation loss against sums over tuples, and that judging a network leaves it alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from aml_edge.errors import ImageBatchError
from aml_edge.image_loading import ImageItem
from aml_edge.networks.normalisation import Normalise
from aml_edge.networks.student import Student
from aml_edge.preprocessing import Preprocessing
from aml_edge.training.inputs import PixelInputs
from aml_edge.training.losses.relational import relational
from aml_edge.training.processes import Processes
from aml_edge.training.settings import Mining, Mode, TrainingSettings
from aml_edge.training.split import Split
from aml_edge.training.training_set import TrainingSet
from aml_edge.training.validation import validation_loss

NATIVE = Preprocessing(64)
SINGLE_PRECISION = 1e-4
"""Relative, of a loss."""
REG = TrainingSettings(image_side_px=64, batch_size=5, queries_per_epoch=7, images_at_once=4)
CONTR = replace(REG, loss="contrastive", loss_options={"margin": 0.7}, mining=Mining.HARD, negatives=2, pool_size=10)
Rows = npt.NDArray[np.float64]


@pytest.fixture
def network(new_student: Callable[[], Student]) -> Student:
    return new_student()


@pytest.fixture
def split_of(network: Student, labelled_set: TrainingSet, processes: Processes) -> Callable[[TrainingSettings], Split]:
    inputs = PixelInputs(network, labelled_set, NATIVE)
    return lambda settings: Split(network, inputs, labelled_set, settings, processes)


@pytest.fixture
def students(network: Student, pixels: list[npt.NDArray[np.uint8]]) -> Rows:
    """The network's embeddings, of one image at a time."""
    normalise = Normalise(NATIVE.mean, NATIVE.std)
    with torch.no_grad():
        rows = [network(normalise(torch.from_numpy(image)[None]))[0].double().numpy() for image in pixels]
    return np.stack(rows)


@pytest.fixture
def teachers(labelled_set: TrainingSet) -> Rows:
    assert labelled_set.teacher is not None
    return labelled_set.teacher.rows.astype(np.float64)


def lot(seed: int) -> np.random.Generator:
    """An epoch that there never is."""
    return np.random.default_rng([seed, 2**32])


def test_is_the_mean_over_images_drawn_by_lot(
    split_of: Callable[[TrainingSettings], Split], students: Rows, teachers: Rows
) -> None:
    for seed in (0, 5):
        rows = lot(seed).permutation(12)[:7]
        expected = np.mean([0.5 * ((students[row] - teachers[row] + 1e-6) ** 2).sum() for row in rows])
        assert validation_loss(split_of(REG), seed=seed) == pytest.approx(expected, rel=SINGLE_PRECISION)


@pytest.mark.parametrize("mode", Mode)
def test_is_the_mean_over_queries_and_their_hard_negatives(
    split_of: Callable[[TrainingSettings], Split],
    students: Rows,
    teachers: Rows,
    labelled_set: TrainingSet,
    mode: Mode,
) -> None:
    labels = labelled_set.labels
    assert labels is not None
    others = students if mode is Mode.SYMMETRIC else teachers
    generator = lot(3)
    pairs, pool = generator.permutation(8)[:7], generator.permutation(12)[:10].tolist()
    losses = []
    for pair in pairs:
        anchor, positive = labels.query_rows[pair], labels.positive_rows[pair]
        negatives: list[int] = []
        for row in sorted(pool, key=lambda row: -float(students[anchor] @ others[row])):
            if labels.clusters[row] not in {labels.clusters[one] for one in (anchor, *negatives)}:
                negatives.append(row)
        far = [float(np.linalg.norm(students[anchor] - others[row] + 1e-6)) for row in negatives[:2]]
        near = float(np.linalg.norm(students[anchor] - others[positive] + 1e-6))
        losses.append(0.5 * near**2 + sum(0.5 * max(0.0, 0.7 - distance) ** 2 for distance in far))
    settings = replace(CONTR, mode=mode, warm_start=False)
    assert validation_loss(split_of(settings), seed=3) == pytest.approx(np.mean(losses), rel=SINGLE_PRECISION)


def test_a_loss_of_whole_batches_is_the_mean_over_batches(
    split_of: Callable[[TrainingSettings], Split], students: Rows, teachers: Rows
) -> None:
    rows = lot(0).permutation(12)
    batches = rows[:5], rows[5:10]  # a smaller last one has another loss
    expected = np.mean(
        [relational(torch.from_numpy(students[batch]), torch.from_numpy(teachers[batch])).item() for batch in batches]
    )
    settings = replace(REG, loss="relational", queries_per_epoch=0)
    assert validation_loss(split_of(settings), seed=0) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("settings", [REG, CONTR])
def test_judges_again_as_before_and_leaves_the_network_as_it_is(
    split_of: Callable[[TrainingSettings], Split], network: Student, settings: TrainingSettings
) -> None:
    split = split_of(settings)
    first = validation_loss(split, seed=0)
    network.train()
    network.backbone.trunk.bn1.eval()
    modes = [module.training for module in network.modules()]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert validation_loss(split, seed=0) == first  # in evaluation mode, whatever mode it is in
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(weight.grad is None for weight in network.parameters())
    assert validation_loss(split, seed=1) != first


def test_follows_the_network(split_of: Callable[[TrainingSettings], Split], network: Student) -> None:
    split = split_of(CONTR)
    before = validation_loss(split, seed=0)
    with torch.no_grad():
        network.adaptor.weight.mul_(torch.linspace(-1, 1, 16)[:, None, None, None])
    assert validation_loss(split, seed=0) != pytest.approx(before, rel=1e-3)


def test_unreadable_images_are_all_listed(
    network: Student, labelled_set: TrainingSet, processes: Processes, tmp_path: Path
) -> None:
    broken = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in broken:
        path.write_bytes(b"no image")
    items = (*labelled_set.items[:10], *(ImageItem(path) for path in broken))
    images = TrainingSet(items, teacher=labelled_set.teacher)
    settings = replace(REG, queries_per_epoch=0)
    split = Split(network, PixelInputs(network, images, NATIVE), images, settings, processes)
    with pytest.raises(ImageBatchError, match="2 of 12 images cannot be read") as caught:
        validation_loss(split, seed=0)
    assert sorted(path for path, _ in caught.value.failures) == broken
