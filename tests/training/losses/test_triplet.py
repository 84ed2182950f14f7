"""Triplet against the published values and a closed form."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from aml_edge.training.losses.triplet import triplet

RowsAt = Callable[..., Tensor]


def test_value_and_gradient_are_the_published_ones(check: Callable[[str, str, Callable[..., Tensor]], None]) -> None:
    check(
        "triplet_l2_margin_0.1",
        "anchor",
        lambda anchor, teacher_positive, teacher_negatives, **_: triplet(
            anchor, teacher_positive, teacher_negatives, margin=0.1, reduction="sum"
        ),
    )


def test_of_unit_rows_it_compares_similarities(rows_at: RowsAt) -> None:
    loss = triplet(rows_at(0), rows_at(60, 90)[None], rows_at(60, 180)[None], margin=0.1)
    # positives' cosines 0.5 and 0, negatives' 0.5 and -1
    assert loss.item() == pytest.approx(0.1 + 0 + (1.0 + 0.1) + 0)


def test_without_positives_or_negatives_it_is_zero(rows_at: RowsAt) -> None:
    none = torch.zeros(1, 0, 2, dtype=torch.float64)
    assert triplet(rows_at(0), none, rows_at(0)[None], margin=0.1).item() == 0
    assert triplet(rows_at(0), rows_at(9), none, margin=0.1).item() == 0
