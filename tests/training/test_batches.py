"""Batches of images: in order, and through a network by shape as if one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from aml_edge.errors import ImageBatchError
from aml_edge.image_loading import ImageItem
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.networks.normalisation import Normalise
from aml_edge.preprocessing import Preprocessing
from aml_edge.training.batches import Group, forward_by_shape, load_groups
from aml_edge.training.training_set import TrainingSet

Images = list[npt.NDArray[np.uint8]]
SINGLE_PRECISION = 1e-5
"""A convolution may add in another order when its batch is larger."""


def tensors(pixels: Images) -> list[Tensor]:
    return [torch.from_numpy(image) for image in pixels]


def test_gives_the_rows_asked_for_in_their_order(training_set: TrainingSet, pixels: Images) -> None:
    groups = [[7, 0], [3, 11, 3], [], [2]]  # an image may be asked for again, and a group may be empty
    given = list(load_groups(training_set.items, groups, Preprocessing(64)))
    assert [len(group) for group in given] == [2, 3, 0, 1]
    for rows, group in zip(groups, given, strict=True):
        for row, image in zip(rows, group, strict=True):
            np.testing.assert_array_equal(image.numpy(), pixels[row])


def test_images_are_fitted(training_set: TrainingSet) -> None:
    (group,) = load_groups(training_set.items, [[0, 1]], Preprocessing(32))
    assert [tuple(image.shape) for image in group] == [(32, 24, 3), (24, 32, 3)]


def test_no_groups_give_none(training_set: TrainingSet) -> None:
    assert list(load_groups(training_set.items, [], Preprocessing(64))) == []


def test_unreadable_images_are_all_listed(tmp_path: Path, pictures: tuple[Path, ...]) -> None:
    broken = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in broken:
        path.write_bytes(b"no image")
    items = [ImageItem(path) for path in (pictures[0], pictures[1], broken[0], pictures[2], broken[1])]
    given: list[Group] = []
    with pytest.raises(ImageBatchError, match="2 of 5 images cannot be read") as caught:
        given.extend(load_groups(items, [[0, 1], [2, 3], [4]], Preprocessing(64)))
    assert len(given) == 1  # the group before the first of them
    assert [path for path, _ in caught.value.failures] == broken


def test_by_shape_equals_one_by_one(start: StudentCheckpoint, pixels: Images) -> None:
    normalise = Normalise(start.preprocessing.mean, start.preprocessing.std)

    def network(batch: Tensor) -> Tensor:
        embeddings: Tensor = start.student(normalise(batch))
        return embeddings

    with torch.inference_mode():
        together = torch.stack(forward_by_shape(network, tensors(pixels)))
        alone = torch.cat([network(torch.from_numpy(image)[None]) for image in pixels])
    assert together.shape == (len(pixels), 16)
    assert (together - alone).abs().max() < SINGLE_PRECISION


def test_images_of_one_shape_go_together(pixels: Images) -> None:
    given: list[tuple[int, ...]] = []

    def network(batch: Tensor) -> Tensor:
        given.append(tuple(batch.shape))
        return batch.float().mean(dim=(1, 2))

    rows = torch.stack(forward_by_shape(network, tensors(pixels)))
    assert sorted(given) == [(4, 64, 48, 3), (8, 48, 64, 3)]
    np.testing.assert_allclose(rows, np.stack([image.mean(axis=(0, 1)) for image in pixels]), rtol=1e-5)


def test_gradients_reach_every_image(pixels: Images) -> None:
    scale = torch.ones(3, requires_grad=True)
    rows = forward_by_shape(lambda batch: batch.float().mean(dim=(1, 2)) * scale, tensors(pixels))
    total = torch.stack(rows).sum()
    (gradient,) = torch.autograd.grad(total, scale)
    expected = np.stack([image.mean(axis=(0, 1)) for image in pixels]).sum(axis=0)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)
