"""Contr and Contr⁺ against the published values, and where there is nothing to pull or to push."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from aml_edge.errors import UsageError
from aml_edge.training.losses.contrastive import contrastive, contrastive_plus

Check = Callable[[str, str, Callable[..., Tensor]], None]
RowsAt = Callable[..., Tensor]


@pytest.mark.parametrize("margin", [0.7, 0.85])
def test_value_and_gradient_are_the_published_ones(check: Check, margin: float) -> None:
    check(
        f"contrastive_l2_margin_{margin}",
        "anchor",
        lambda anchor, teacher_positive, teacher_negatives, **_: contrastive(
            anchor, teacher_positive, teacher_negatives, margin=margin, reduction="sum"
        ),
    )
    check(
        f"contrastive_plus_l2_margin_{margin}",
        "anchor",
        lambda anchor, teacher_positive, teacher_negatives, teacher_anchor, **_: contrastive_plus(
            anchor, teacher_positive, teacher_negatives, teacher_anchor=teacher_anchor, margin=margin, reduction="sum"
        ),
    )


def test_the_similarity_form_is_the_paper_s(rows_at: RowsAt) -> None:
    anchor, positive = rows_at(0), rows_at(60)
    negatives = rows_at(36.86989764584402, 120)[None]  # cosines 0.8 and -0.5
    loss = contrastive(anchor, positive, negatives, margin=0.7, form="similarity")
    assert loss.item() == pytest.approx((0.8 - 0.7) - 0.5)


def test_several_positives_are_summed(rows_at: RowsAt) -> None:
    anchor, none = rows_at(0), torch.zeros(1, 0, 2, dtype=torch.float64)
    both = contrastive(anchor, rows_at(60, 90)[None], none, margin=0.7, eps=0)
    assert both.item() == pytest.approx(0.5 + 1.0)  # 1 − cos


def test_without_positives_and_negatives_there_is_nothing_to_learn(rows_at: RowsAt) -> None:
    anchor, none = rows_at(0, 50).requires_grad_(), torch.zeros(2, 0, 2, dtype=torch.float64)
    for form in ("distance", "similarity"):
        loss = contrastive(anchor, none, none, margin=0.7, form=form)
        (gradient,) = torch.autograd.grad(loss, anchor)
        assert loss.item() == 0
        assert not gradient.any()


def test_an_anchor_that_equals_its_negative_has_a_finite_gradient(rows_at: RowsAt) -> None:
    anchor = rows_at(30).requires_grad_()
    (gradient,) = torch.autograd.grad(contrastive(anchor, rows_at(30), rows_at(30)[None], margin=0.7), anchor)
    assert gradient.isfinite().all()


def test_far_negatives_cost_nothing(rows_at: RowsAt) -> None:
    assert contrastive(rows_at(0), rows_at(0), rows_at(90, 180)[None], margin=0.7, eps=0).item() == 0


def test_mean_is_the_sum_over_the_number_of_anchors(rows_at: RowsAt) -> None:
    anchor, positive, negatives = rows_at(0, 10), rows_at(20, 70), rows_at(15, 25, 5, 90).reshape(2, 2, 2)
    total = contrastive(anchor, positive, negatives, margin=0.7, reduction="sum")
    assert contrastive(anchor, positive, negatives, margin=0.7).item() == pytest.approx(total.item() / 2)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2, 3), (2, 4), (2, 5, 3)), r"`anchor` is \(2, 3\) and `positive` \(2, 1, 4\); they must be \(B, D\) and"),
        (((2, 3), (2, 3), (2, 3)), r"`anchor` is \(2, 3\) and `negatives` \(2, 3\); they must be \(B, D\) and \(B, N"),
        (((2, 3), (2, 3), (1, 5, 3)), r"`negatives` \(1, 5, 3\); they must be"),
    ],
)
def test_shapes_that_do_not_belong_together_are_refused(shapes: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        contrastive(*(torch.zeros(shape) for shape in shapes), margin=0.7)


def test_a_form_that_there_is_not_is_refused(rows_at: RowsAt) -> None:
    with pytest.raises(UsageError, match="`form` is 'angle'; it must be 'distance' or 'similarity'"):
        contrastive(rows_at(0), rows_at(0), rows_at(0)[None], margin=1, form="angle")  # type: ignore[arg-type]
