"""MS against the published values, the formula written out, and where exponentials overflow."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from aml_edge.training.losses.multi_similarity import multi_similarity

RowsAt = Callable[..., Tensor]


def test_value_and_gradient_are_the_published_ones(check: Callable[[str, str, Callable[..., Tensor]], None]) -> None:
    check(
        "multi_similarity_threshold_0.5_alpha_2_beta_40",
        "anchor",
        lambda anchor, teacher_positive, teacher_negatives, **_: multi_similarity(
            anchor, teacher_positive, teacher_negatives, reduction="sum"
        ),
    )


def test_several_positives_share_one_logarithm(rows_at: RowsAt) -> None:
    loss = multi_similarity(rows_at(0), rows_at(60, 90)[None], rows_at(90)[None], threshold=0.5, alpha=2, beta=4)
    pulled = math.log(1 + math.exp(0) + math.exp(1)) / 2
    assert loss.item() == pytest.approx(pulled + math.log(1 + math.exp(-2)) / 4)


def test_without_positives_and_negatives_it_is_zero(rows_at: RowsAt) -> None:
    none = torch.zeros(1, 0, 2, dtype=torch.float64)
    assert multi_similarity(rows_at(0), none, none).item() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_sharp_exponential_does_not_overflow(rows_at: RowsAt, dtype: torch.dtype) -> None:
    row = rows_at(0).to(dtype).requires_grad_()
    loss = multi_similarity(row, row.detach(), row.detach()[None], beta=400)  # e^200 has no place in float32
    assert loss.item() == pytest.approx(0.5 + math.log(1 + math.exp(-1)) / 2, abs=1e-4)
    (gradient,) = torch.autograd.grad(loss, row)
    assert gradient.isfinite().all()
