"""The teacher against its definition, with each of the layers that published ones add."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from aml_edge.networks.teacher import Teacher, TeacherSpec

Rows = npt.NDArray[np.float64]


def unit(rows: Rows) -> Rows:
    normalised: Rows = rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-6)
    return normalised


def linear(layer: nn.Linear, rows: Rows) -> Rows:
    """Applies a linear layer to the last axis, in float64."""
    weights, bias = (tensor.detach().double().numpy() for tensor in (layer.weight, layer.bias))
    result: Rows = rows @ weights.T + bias
    return result


@pytest.mark.parametrize("local_whitening", [False, True])
@pytest.mark.parametrize("whitening_dimension", [None, 40])
def test_is_what_was_published(local_whitening: bool, whitening_dimension: int | None) -> None:
    spec = TeacherSpec("mobilenetv2_035", local_whitening, whitening_dimension)
    teacher = Teacher(spec).eval()
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        features = teacher.backbone(images).double().numpy()
        embeddings = teacher(images).numpy()
    if local_whitening:
        assert teacher.local_whiten is not None
        features = linear(teacher.local_whiten, features.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    expected = unit((np.maximum(features, 1e-6) ** 3).mean(axis=(2, 3)) ** (1 / 3))
    if whitening_dimension is not None:
        assert teacher.whiten is not None
        expected = unit(linear(teacher.whiten, expected))
    assert teacher.dimension == (whitening_dimension or 1280) == embeddings.shape[1]
    np.testing.assert_allclose(embeddings, expected, atol=1e-5)


@pytest.mark.parametrize("local_whitening", [False, True])
@pytest.mark.parametrize("whitening_dimension", [None, 8])
def test_the_head_is_what_follows_the_trunk(local_whitening: bool, whitening_dimension: int | None) -> None:
    teacher = Teacher(TeacherSpec("mobilenetv2_035", local_whitening, whitening_dimension)).eval()
    feature_map = torch.rand(2, 1280, 2, 3, generator=torch.Generator().manual_seed(0))
    teacher.backbone = _Given(feature_map)  # type: ignore[assignment]
    with torch.inference_mode():
        embeddings = teacher.head(feature_map)
        assert torch.equal(embeddings, teacher(torch.zeros(2, 3, 64, 96)))
    assert embeddings.shape == (2, teacher.dimension)
    np.testing.assert_allclose(embeddings.norm(dim=1), 1, atol=1e-4)  # but for the published eps


class _Given(nn.Module):
    """A trunk that gives this feature map of whatever it gets."""

    def __init__(self, feature_map: torch.Tensor) -> None:
        super().__init__()
        self.feature_map = feature_map

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.feature_map


def test_the_seed_decides_all_weights() -> None:
    spec = TeacherSpec("mobilenetv2_035", whitening_dimension=8)
    states = [Teacher(spec, seed=seed).state_dict() for seed in (0, 0, 1)]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert not torch.equal(states[0]["whiten.weight"], states[2]["whiten.weight"])


def test_plain_ones_have_no_layer_but_the_trunk_and_the_power() -> None:
    names = {name.split(".")[0] for name, _ in Teacher(TeacherSpec("mobilenetv2_035")).named_parameters()}
    assert names == {"backbone", "pool"}
