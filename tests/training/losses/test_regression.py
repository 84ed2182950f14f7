"""Reg against its closed form and against values of the published definition."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from aml_edge.errors import UsageError
from aml_edge.training.losses import LOSSES
from aml_edge.training.losses.regression import regression

REFERENCE = json.loads((Path(__file__).parents[2] / "data" / "losses" / "regression.json").read_text())
"""Values and gradients computed in float64 with the published definition, summed over the anchors."""


def rows_at(*degrees: float) -> torch.Tensor:
    """Returns unit rows (B, 2) at these angles."""
    return torch.tensor(
        [[math.cos(math.radians(angle)), math.sin(math.radians(angle))] for angle in degrees], dtype=torch.float64
    )


@pytest.mark.parametrize("case", REFERENCE)
def test_value_and_gradient_equal_the_published_definition(case: dict[str, list[list[float]]]) -> None:
    anchor = torch.tensor(case["anchor"], dtype=torch.float64, requires_grad=True)
    loss = regression(anchor, torch.tensor(case["teacher_anchor"], dtype=torch.float64), reduction="sum")
    (gradient,) = torch.autograd.grad(loss, anchor)
    assert loss.item() == pytest.approx(case["value"], abs=1e-9)
    torch.testing.assert_close(gradient, torch.tensor(case["gradient"], dtype=torch.float64), atol=1e-9, rtol=0)


def test_equals_one_minus_the_cosine_of_the_angle() -> None:
    loss = regression(rows_at(0, 10), rows_at(60, 100), eps=0)
    assert loss.item() == pytest.approx((1 - math.cos(math.radians(60)) + 1 - math.cos(math.radians(90))) / 2)


def test_mean_is_the_sum_over_the_number_of_anchors() -> None:
    anchor, teacher_anchor = rows_at(0, 20, 40), rows_at(5, 70, 300)
    assert regression(anchor, teacher_anchor, reduction="sum").item() == pytest.approx(
        3 * regression(anchor, teacher_anchor).item()
    )


def test_nothing_is_left_to_learn_on_the_teachers_own_embeddings() -> None:
    assert regression(rows_at(0, 90), rows_at(0, 90), eps=0).item() == 0


def test_half_precision_is_widened_before_anything_is_squared() -> None:
    """Differences of 3e-4 have squares that float16 does not hold."""
    anchor = torch.full((2, 512), 512**-0.5, dtype=torch.float16)
    loss = regression(anchor, anchor.float() + 3e-4, eps=0)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(0.5 * 512 * 9e-8, rel=1e-3)
    with torch.autocast("cpu", torch.bfloat16):
        assert regression(anchor, anchor.float() + 3e-4, eps=0).item() == loss.item()


def test_the_order_of_the_anchors_does_not_matter() -> None:
    anchor, teacher_anchor, order = rows_at(0, 20, 40), rows_at(5, 70, 300), [2, 0, 1]
    assert regression(anchor[order], teacher_anchor[order]).item() == pytest.approx(
        regression(anchor, teacher_anchor).item()
    )


def test_refuses_embeddings_of_another_dimension() -> None:
    with pytest.raises(UsageError) as caught:
        regression(torch.zeros(2, 3), torch.zeros(2, 4))
    assert str(caught.value) == (
        "`anchor` is (2, 3) and `teacher_anchor` (2, 4); both must be (B, D) embeddings of the same images."
    )


def test_the_table_names_it() -> None:
    assert LOSSES["regression"].function is regression
