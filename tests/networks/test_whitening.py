"""Whitening against numpy."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from aml_edge.errors import UsageError
from aml_edge.networks.whitening import Whitening


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


@pytest.mark.parametrize("outputs", [3, 5, 8])
def test_centres_projects_and_normalises(outputs: int) -> None:
    mean, projection, rows = random(5), random(outputs, 5), torch.rand(7, 5)
    expected = (rows.double() - mean.double()).numpy() @ projection.double().numpy().T
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    whitening = Whitening(mean, projection)
    assert whitening.dimension == outputs
    np.testing.assert_allclose(whitening(rows), expected, atol=1e-5)


def test_the_mean_itself_stays_zero() -> None:
    mean = random(5)
    assert Whitening(mean, random(3, 5))(mean[None]).tolist() == [[0.0] * 3]


def test_is_fixed_and_its_own_copy() -> None:
    mean, projection = torch.zeros(2), torch.eye(2)
    whitening = Whitening(mean, projection)
    projection.fill_(7)
    assert whitening.projection.tolist() == [[1, 0], [0, 1]]
    assert list(whitening.parameters()) == []
    assert whitening.state_dict().keys() == {"mean", "projection"}


def test_the_hash_covers_shapes_and_values() -> None:
    mean, projection = np.array([1, 2], "<f4"), np.array([[3, 4], [5, 6], [7, 8]], "<f4")
    expected = hashlib.sha256(b"m (2,) P (3, 2)\n" + mean.tobytes() + projection.tobytes()).hexdigest()
    assert Whitening(torch.from_numpy(mean), torch.from_numpy(projection)).sha256 == expected
    others = [
        Whitening(torch.from_numpy(mean) + 1, torch.from_numpy(projection)),
        Whitening(torch.from_numpy(mean), torch.from_numpy(projection) + 1),
        Whitening(torch.from_numpy(mean), torch.from_numpy(projection[:2])),
    ]
    assert len({expected, *(other.sha256 for other in others)}) == 4


def test_the_layout_in_memory_does_not_change_the_hash() -> None:
    mean, projection = random(4), random(4, 4)
    transposed = projection.T.contiguous().T
    assert transposed.stride() != projection.stride()
    assert Whitening(mean, transposed).sha256 == Whitening(mean.double(), projection).sha256


@pytest.mark.parametrize(
    ("mean", "projection"), [((2,), (3, 3)), ((2, 1), (3, 2)), ((2,), (2,)), ((2,), (0, 2)), ((3,), (3, 2))]
)
def test_shapes_that_do_not_belong_together_are_refused(mean: tuple[int, ...], projection: tuple[int, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        Whitening(torch.zeros(mean), torch.zeros(projection))
    assert str(caught.value) == (
        f"`mean` is {mean} and `projection` {projection}; a whitening has a mean (D,) and a projection (D_out, D)."
    )


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    for mean, projection in ((torch.full((2,), value), torch.eye(2)), (torch.zeros(2), torch.full((2, 2), value))):
        with pytest.raises(UsageError, match="a whitening holds NaN or Inf; learn it again"):
            Whitening(mean, projection)
