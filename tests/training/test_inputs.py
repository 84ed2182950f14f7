"""What is kept of frozen stages trains as pixels do, fits its memory, and is not kept where it does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from aml_edge.errors import ImageBatchError
from aml_edge.image_loading import ImageItem
from aml_edge.networks.student import Student
from aml_edge.preprocessing import Preprocessing
from aml_edge.progress import SilentProgress
from aml_edge.training.batches import forward_by_shape
from aml_edge.training.inputs import InputOptions, KeptInputs, PixelInputs, TrainingInputs, training_inputs
from aml_edge.training.loop import Training
from aml_edge.training.optimisation import freeze_stages
from aml_edge.training.processes import Processes
from aml_edge.training.settings import TrainingSettings
from aml_edge.training.split import Split
from aml_edge.training.training_set import TrainingSet

NATIVE = Preprocessing(64)
SINGLE_PRECISION = 1e-5
"""A convolution may add in another order when its batch is larger."""
FROZEN = 4


def inputs_of(student: Student, training_set: TrainingSet, most_bytes: int = 2**30) -> TrainingInputs:
    freeze_stages(student.backbone, FROZEN)
    options = InputOptions(FROZEN, most_bytes=most_bytes)
    return training_inputs(student, training_set, NATIVE, options, progress=SilentProgress())


def feature_maps(inputs: TrainingInputs, rows: list[int]) -> list[Tensor]:
    with torch.no_grad():
        return [one for group in inputs.groups([rows]) for one in forward_by_shape(inputs.trunk, group)]


def test_kept_inputs_lead_to_the_feature_maps_of_the_pixels(
    new_student: Callable[[], Student], training_set: TrainingSet
) -> None:
    student, rows = new_student(), [7, 0, 3, 11, 2]
    kept = inputs_of(student, training_set)
    assert isinstance(kept, KeptInputs)
    assert [len(group) for group in kept.groups([[7, 0], [], [3]])] == [2, 0, 1]
    expected = feature_maps(PixelInputs(student, training_set, NATIVE), rows)
    for ours, theirs in zip(feature_maps(kept, rows), expected, strict=True):
        assert (ours - theirs).abs().max() < SINGLE_PRECISION * theirs.abs().max()


def test_training_on_kept_inputs_loses_as_training_on_pixels_does(
    new_student: Callable[[], Student], training_set: TrainingSet, processes: Processes
) -> None:
    settings = TrainingSettings(epochs=2, batch_size=5, image_side_px=64, frozen_stages=FROZEN, learning_rate=1e-4)
    losses: list[list[float]] = []
    for make in (inputs_of, lambda student, data: PixelInputs(student, data, NATIVE)):
        student = new_student()
        freeze_stages(student.backbone, FROZEN)
        split = Split(student, make(student, training_set), training_set, settings, processes)
        training = Training(student, split, settings, processes)
        losses.append([])
        while not training.is_done:
            losses[-1].extend(record.loss for record in training.steps_of_epoch())
            training.end_epoch()
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)  # Adam's steps are as long where a gradient is rounding
    assert losses[0][-1] < losses[0][0]


def test_too_much_is_not_kept(new_student: Callable[[], Student], training_set: TrainingSet) -> None:
    student = new_student()
    kept = inputs_of(student, training_set)
    assert isinstance(kept, KeptInputs)
    needed = sum(one.numel() * 4 for one in kept.features)
    assert isinstance(inputs_of(student, training_set, needed), KeptInputs)
    assert isinstance(inputs_of(student, training_set, needed - 1), PixelInputs)


def test_pixels_where_nothing_is_frozen(new_student: Callable[[], Student], training_set: TrainingSet) -> None:
    inputs = training_inputs(new_student(), training_set, NATIVE, InputOptions(0), progress=SilentProgress())
    assert isinstance(inputs, PixelInputs)


def test_unreadable_images_are_all_listed(
    new_student: Callable[[], Student], training_set: TrainingSet, tmp_path: Path
) -> None:
    (tmp_path / "torn.png").write_bytes(b"no image")
    items = (*training_set.items[:-1], ImageItem(tmp_path / "torn.png"))
    with pytest.raises(ImageBatchError, match="1 of 12 images cannot be read"):
        inputs_of(new_student(), TrainingSet(items))


def test_shapes_are_those_of_what_the_network_takes(
    new_student: Callable[[], Student], training_set: TrainingSet, tmp_path: Path
) -> None:
    (tmp_path / "torn.png").write_bytes(b"no image")
    items = (*training_set.items, ImageItem(tmp_path / "torn.png"))
    pixels = PixelInputs(new_student(), TrainingSet(items), Preprocessing(32))
    (group,) = pixels.groups([range(12)])
    assert [pixels.shape_of(row) for row in range(12)] == [(one.shape[1], one.shape[0]) for one in group]
    assert pixels.shape_of(12) == ()
    kept = inputs_of(new_student(), training_set)
    (group,) = kept.groups([range(12)])
    assert [kept.shape_of(row) for row in range(12)] == [tuple(one.shape) for one in group]
    assert len({kept.shape_of(row) for row in range(12)}) == 2
