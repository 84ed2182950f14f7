"""GeM and L2 against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from aml_edge.networks.pooling import GeM, gem, l2_normalise

SINGLE_PRECISION = 1e-5


@pytest.fixture
def features() -> torch.Tensor:
    """(2, 3, 4, 5) values between 0.1 and 3."""
    return torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)) * 2.9 + 0.1


@pytest.mark.parametrize("power", [1.0, 2.0, 3.0, 4.6])
def test_is_the_generalised_mean(features: torch.Tensor, power: float) -> None:
    values = features.numpy().astype(np.float64)
    expected = (values**power).sum(axis=(2, 3)) / 20
    np.testing.assert_allclose(gem(features, power), expected ** (1 / power), rtol=SINGLE_PRECISION)


def test_a_large_power_gives_the_maximum(features: torch.Tensor) -> None:
    largest = features.double().amax((2, 3))
    farthest = 1 - 20 ** (-1 / 400)  # one value of twenty, the others nothing
    torch.testing.assert_close(gem(features.double(), 400.0), largest, rtol=farthest + 1e-9, atol=0)


def test_two_values_have_a_closed_form() -> None:
    assert gem(torch.tensor([[[[1.0, 2.0]]]]), 3.0).item() == pytest.approx(4.5 ** (1 / 3))


@pytest.mark.parametrize("value", [0.0, -5.0, 1e-9])
def test_what_lies_below_the_floor_counts_as_the_floor(value: float) -> None:
    pooled = gem(torch.full((1, 1, 2, 2), value, dtype=torch.float64), 3.0)
    assert pooled.item() == pytest.approx(1e-6)
    mixed = gem(torch.tensor([[[[value, 1.0]]]], dtype=torch.float64), 1.0)
    assert mixed.item() == pytest.approx((1e-6 + 1) / 2)


def test_scales_with_its_input(features: torch.Tensor) -> None:
    torch.testing.assert_close(gem(10 * features, 3.0), 10 * gem(features, 3.0))


def test_the_place_of_a_value_does_not_matter(features: torch.Tensor) -> None:
    torch.testing.assert_close(gem(features.flip(2, 3), 3.0), gem(features, 3.0))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_before_the_power(features: torch.Tensor, kind: torch.dtype) -> None:
    half = (100 * features).to(kind)  # in float16 the cube of 300 is infinite
    pooled = gem(half, 3.0)
    assert pooled.dtype == torch.float32
    torch.testing.assert_close(pooled, gem(half.double(), 3.0).float(), rtol=SINGLE_PRECISION, atol=0)
    floor = gem(torch.zeros(1, 1, 2, 2, dtype=kind), 3.0)
    assert floor.item() == pytest.approx(1e-6)  # 1e-18 is 0 in float16


def test_other_precisions_stay(features: torch.Tensor) -> None:
    assert [gem(features.to(kind), 3.0).dtype for kind in (torch.float32, torch.float64)] == [
        torch.float32,
        torch.float64,
    ]


def test_the_power_starts_at_three_and_learns(features: torch.Tensor) -> None:
    pool = GeM()
    assert dict(pool.named_parameters()).keys() == {"p"}
    assert pool.p.tolist() == [3.0]
    (slope,) = torch.autograd.grad(pool(features).sum(), pool.p)
    step = 1e-3
    rise = gem(features.double(), 3 + step).sum() - gem(features.double(), 3 - step).sum()
    assert slope.item() == pytest.approx(rise.item() / (2 * step), rel=1e-3)


def test_rows_get_length_one_but_for_the_published_eps() -> None:
    normalised = l2_normalise(torch.tensor([[3.0, 4.0], [0.3e-6, 0.4e-6]], dtype=torch.float64))
    expected = torch.tensor([[3 / 5.000001, 4 / 5.000001], [0.2, 0.8 / 3]], dtype=torch.float64)
    torch.testing.assert_close(normalised, expected, rtol=1e-9, atol=1e-9)
    assert math.hypot(*normalised[0].tolist()) == pytest.approx(1, abs=1e-6)


def test_a_row_of_zeros_stays_zero_and_has_a_gradient() -> None:
    rows = torch.zeros(1, 4, requires_grad=True)
    normalised = l2_normalise(rows)
    (gradient,) = torch.autograd.grad(normalised.sum(), rows)
    assert normalised.tolist() == [[0.0] * 4]
    assert gradient.isfinite().all()
