"""The images of a split: drawn, divided, embedded and judged, against one image at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from aml_edge.networks.normalisation import Normalise
from aml_edge.networks.student import Student
from aml_edge.preprocessing import Preprocessing
from aml_edge.training.evaluation_mode import evaluation_mode
from aml_edge.training.inputs import PixelInputs
from aml_edge.training.processes import Processes
from aml_edge.training.settings import BatchOrder, Mining, Mode, TrainingSettings
from aml_edge.training.split import Split
from aml_edge.training.training_set import TrainingSet

NATIVE = Preprocessing(64)
SINGLE_PRECISION = 1e-5
"""A convolution may add in another order when its batch is larger."""
REG = TrainingSettings(image_side_px=64, batch_size=5)
CONTR = replace(REG, loss="contrastive", loss_options={"margin": 0.7}, mining=Mining.HARD, negatives=2)
ALONE = replace(CONTR, mode=Mode.SYMMETRIC, warm_start=False)
RKD = replace(REG, loss="relational")
MakeSplit = Callable[..., Split]


@pytest.fixture
def network(new_student: Callable[[], Student]) -> Student:
    return new_student()


@pytest.fixture
def split_of(network: Student, labelled_set: TrainingSet, processes: Processes) -> MakeSplit:
    inputs = PixelInputs(network, labelled_set, NATIVE)

    def make(settings: TrainingSettings, sharing: Processes = processes) -> Split:
        return Split(network, inputs, labelled_set, settings, sharing)

    return make


@pytest.fixture
def one_by_one(network: Student, pixels: list[npt.NDArray[np.uint8]]) -> Tensor:
    """What the network gives of each image alone, in evaluation mode."""
    normalise = Normalise(NATIVE.mean, NATIVE.std)
    with torch.no_grad():
        return torch.cat([network(normalise(torch.from_numpy(image)[None])) for image in pixels])


def one_of(count: int, rank: int) -> Processes:
    """Stands for one of several processes, as far as their shares go."""
    accelerator = SimpleNamespace(
        device=torch.device("cpu"), num_processes=count, process_index=rank, is_main_process=rank == 0
    )
    return Processes(cast(Any, accelerator))


def test_embeds_images_of_several_shapes_as_one_by_one(split_of: MakeSplit, one_by_one: Tensor) -> None:
    rows = np.array([7, 0, 3, 11, 2, 7])
    for at_once in (1, 4, 64):
        found = split_of(replace(REG, images_at_once=at_once)).embeddings_of(rows)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, one_by_one[rows.tolist()], atol=SINGLE_PRECISION, rtol=0)


def test_no_rows_give_no_embeddings(split_of: MakeSplit) -> None:
    assert split_of(REG).embeddings_of(np.array([], np.int64)).shape == (0, 16)


def test_a_network_in_training_mode_is_mined_with_as_it_will_be_used(
    split_of: MakeSplit, network: Student, one_by_one: Tensor
) -> None:
    network.train()
    network.backbone.trunk.bn1.eval()
    modes = [module.training for module in network.modules()]
    before = {name: value.clone() for name, value in network.named_buffers()}
    found = split_of(REG).embeddings_of(np.arange(12))
    np.testing.assert_allclose(found, one_by_one, atol=SINGLE_PRECISION, rtol=0)
    assert all(torch.equal(value, before[name]) for name, value in network.named_buffers())
    assert [module.training for module in network.modules()] == modes


def test_the_mode_comes_back_after_an_error(network: Student) -> None:
    network.train()
    with pytest.raises(KeyError), evaluation_mode(network):
        assert not any(module.training for module in network.modules())
        raise KeyError
    assert all(module.training for module in network.modules())


@pytest.mark.parametrize("mode", Mode)
def test_the_pool_is_the_teachers_or_the_networks_own(
    split_of: MakeSplit, labelled_set: TrainingSet, one_by_one: Tensor, mode: Mode
) -> None:
    assert labelled_set.labels is not None and labelled_set.teacher is not None
    clusters = labelled_set.labels.clusters
    tuples = split_of(ALONE if mode is Mode.SYMMETRIC else CONTR).tuples(np.random.default_rng(0))
    students = one_by_one.double().numpy()
    pool = students if mode is Mode.SYMMETRIC else labelled_set.teacher.rows.astype(np.float64)
    for anchor, negatives in zip(tuples.anchors.tolist(), tuples.negatives.tolist(), strict=True):
        expected: list[int] = []
        for row in np.argsort(-(pool @ students[anchor])).tolist():
            if clusters[row] not in {clusters[one] for one in (anchor, *expected)}:
                expected.append(row)
        assert negatives == expected[:2]
    assert len(tuples) == 8


def test_batches_hold_all_tuples_in_order(split_of: MakeSplit) -> None:
    split = split_of(REG)
    tuples = split.tuples(np.random.default_rng(0))
    batches = split.batches(tuples)
    assert [len(batch) for batch in batches] == [5, 5, 2]
    assert [row for batch in batches for row in batch.anchors.tolist()] == tuples.anchors.tolist()
    assert sorted(tuples.anchors.tolist()) == list(range(12))


@pytest.mark.parametrize("settings", [REG, CONTR, ALONE, RKD])
def test_batches_of_one_shape_hold_the_same_tuples(
    split_of: MakeSplit, pixels: list[npt.NDArray[np.uint8]], settings: TrainingSettings
) -> None:
    settings = replace(settings, batch_size=2)
    drawn = split_of(settings).tuples(np.random.default_rng(0))
    tuples = split_of(replace(settings, batch_order=BatchOrder.BY_SHAPE)).tuples(np.random.default_rng(0))
    of_both = [
        sorted(zip(some.anchors.tolist(), some.positives.tolist(), some.negatives.tolist(), strict=True))
        for some in (drawn, tuples)
    ]
    assert of_both[0] == of_both[1]
    shapes = [{pixels[row].shape for row in batch.anchors} for batch in tuples.batches(2)]
    upright = sum(pixels[row].shape[0] == 64 for row in drawn.anchors)
    assert sum(len(batch) == 1 for batch in shapes) == upright // 2 + (len(drawn) - upright) // 2


@pytest.mark.parametrize(
    ("settings", "sizes"),
    [
        (REG, [5, 5, 2]),
        (RKD, [5, 5]),
        (replace(RKD, batch_size=6), [6, 6]),
        (replace(RKD, batch_size=100), [12]),
        (replace(RKD, queries_per_epoch=3), [3]),
        (replace(REG, queries_per_epoch=6), [5, 1]),
        (CONTR, [5, 3]),
        (replace(REG, loss="csd"), [5, 5]),
        (replace(REG, loss="csd", loss_options={"neighbours": 2}, bank_size=6), [5, 5, 2]),
    ],
)
def test_a_loss_of_whole_batches_leaves_a_smaller_last_one_out(
    split_of: MakeSplit, settings: TrainingSettings, sizes: list[int]
) -> None:
    split = split_of(settings)
    assert [len(batch) for batch in split.batches(split.tuples(np.random.default_rng(0)))] == sizes
    assert split.anchors_per_epoch == sum(sizes)


@pytest.mark.parametrize("at_once", [1, 4, 7, 8, 100])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_processes_share_the_tuples_of_a_batch(split_of: MakeSplit, at_once: int, count: int) -> None:
    for settings, each in ((CONTR, 1), (ALONE, 4)):
        settings = replace(settings, images_at_once=at_once)
        batch = split_of(settings).tuples(np.random.default_rng(0)).part(0, 5)
        anchors: list[int] = []
        for rank in range(count):
            split = split_of(settings, one_of(count, rank))
            chunks = split.chunks(batch)
            assert sum(len(chunk.tuples) for chunk in chunks) in (5 // count, -(-5 // count))
            for chunk in chunks:
                assert len(chunk.own_rows) <= max(each, at_once)
                assert chunk.own_rows.tolist() == split.objective.images_of(chunk.tuples).rows.tolist()
                anchors += chunk.tuples.anchors.tolist()
            full = [len(chunk.tuples) for chunk in chunks[:-1]]
            assert full == [max(1, at_once // each)] * len(full)
        assert anchors == batch.anchors.tolist()


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_processes_share_the_images_of_a_batch_that_stays_whole(split_of: MakeSplit, count: int) -> None:
    batch = split_of(RKD).tuples(np.random.default_rng(0)).part(0, 5)
    rows: list[int] = []
    for rank in range(count):
        (chunk,) = split_of(replace(RKD, images_at_once=1), one_of(count, rank)).chunks(batch)
        assert chunk.tuples is batch
        assert len(chunk.own_rows) in (5 // count, -(-5 // count))
        rows += chunk.own_rows.tolist()
    assert rows == sorted(batch.anchors.tolist())


@pytest.mark.parametrize("settings", [REG, CONTR, ALONE, RKD])
def test_the_loss_is_that_of_the_images_one_by_one(
    split_of: MakeSplit, one_by_one: Tensor, settings: TrainingSettings
) -> None:
    split = split_of(replace(settings, images_at_once=6))
    batch = split.tuples(np.random.default_rng(0)).part(0, 5)
    chunks = split.chunks(batch)
    with torch.no_grad():
        total = sum(
            split.loss_sum(chunk, inputs).item() for chunk, inputs in zip(chunks, split.load(chunks), strict=True)
        )
    images = split.objective.images_of(batch)
    expected = split.objective.loss_sum(batch, images, one_by_one[images.rows.tolist()])
    assert total == pytest.approx(expected.item(), rel=1e-4)
    assert split.mean_over_processes(torch.tensor(total), 5).item() == pytest.approx(total / 5)
