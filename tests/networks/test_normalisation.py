"""From pixels to a network's input, against the formula in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aml_edge.networks.normalisation import Normalise

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_scales_centres_divides_and_puts_channels_first(dtype: torch.dtype) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3))
    normalised = Normalise(MEAN, STD)(torch.from_numpy(pixels).to(dtype))
    expected = ((pixels / 255 - MEAN) / STD).transpose(0, 3, 1, 2)
    assert normalised.shape == (2, 3, 4, 5)
    assert normalised.dtype == torch.float32
    np.testing.assert_allclose(normalised, expected, atol=1e-6)


def test_black_and_white_become_the_ends_of_the_range() -> None:
    pixels = torch.tensor([[[[0, 0, 0], [255, 255, 255]]]], dtype=torch.uint8)
    assert Normalise((0.5,) * 3, (0.5,) * 3)(pixels).flatten().tolist() == [-1.0, 1.0] * 3


def test_adds_nothing_to_a_checkpoint_and_learns_nothing() -> None:
    normalise = Normalise(MEAN, STD)
    assert normalise.state_dict() == {}
    assert list(normalise.parameters()) == []
