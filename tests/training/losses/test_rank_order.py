"""ROP against its definition written out, and orders kept and reversed."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from aml_edge.errors import UsageError
from aml_edge.training.losses.rank_order import rank_order

RowsAt = Callable[..., Tensor]
UnitRows = Callable[[int, int, int], Tensor]
EXACT = 1e-9


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def step(value: float) -> float:
    return 0.5 if value == 0 else float(value > 0)


def written_out(
    student: Tensor, teacher: Tensor, bank: Tensor, neighbours: int, temperature: float, sharpness: float
) -> float:
    """The definition, pair by pair; the sum over images."""
    total = 0.0
    for image, own in zip(student, teacher, strict=True):
        others = [row for row in bank if not torch.equal(row, own)]
        others.sort(key=lambda row: -float(row @ own))
        listed = [own, *others[:neighbours]]
        s, t = [float(image @ row) for row in listed], [float(own @ row) for row in listed]
        normaliser = sum(math.exp(sharpness * one) for one in t)
        for i, threshold in enumerate(t):
            weight = (i + 1) * math.exp(sharpness * threshold) / normaliser
            for found, wanted in zip(s, t, strict=True):
                missed = step(wanted - threshold) - sigmoid((found - threshold) / temperature)
                total += weight * missed**2 / len(listed)
    return total


@pytest.mark.parametrize(("temperature", "sharpness"), [(0.1, 0.2), (0.02, 0.2), (0.1, 0), (0.5, 5)])
@pytest.mark.parametrize("in_bank", [True, False])
def test_equals_the_definition_written_out(
    unit_rows: UnitRows, temperature: float, sharpness: float, in_bank: bool
) -> None:
    student, teacher, others = unit_rows(5, 6, 0), unit_rows(5, 6, 1), unit_rows(14, 6, 2)
    bank = torch.cat([others, teacher]) if in_bank else others
    loss = rank_order(
        student,
        teacher,
        bank=bank,
        neighbours=6,
        temperature=temperature,
        sharpness=sharpness,
        reduction="sum",
    )
    expected = written_out(student, teacher, bank, 6, temperature, sharpness)
    assert loss.item() == pytest.approx(expected, abs=EXACT)


def test_without_a_bank_the_whole_batch_is_ranked(unit_rows: UnitRows) -> None:
    student, teacher = unit_rows(7, 6, 0), unit_rows(7, 6, 1)
    expected = written_out(student, teacher, teacher, 6, 0.1, 0.2) / 7
    assert rank_order(student, teacher).item() == pytest.approx(expected, abs=EXACT)


def test_the_teacher_s_order_costs_least(rows_at: RowsAt) -> None:
    bank = rows_at(0, 30, 70, 110)
    kept, half_kept, reversed_order = (
        rank_order(rows_at(degrees), rows_at(0), bank=bank, neighbours=3).item() for degrees in (0, 60, 150)
    )
    assert kept < half_kept < reversed_order


def test_a_sharp_sigmoid_counts_nothing_but_misplaced_pairs(rows_at: RowsAt) -> None:
    """At the teacher's own embedding, where the diagonal is a half on both sides."""
    bank = rows_at(0, 30, 70, 110)
    loss = rank_order(rows_at(0), rows_at(0), bank=bank, neighbours=3, temperature=1e-3)
    assert loss.item() == pytest.approx(0, abs=1e-12)


def test_one_image_is_compared_with_itself(rows_at: RowsAt) -> None:
    loss = rank_order(rows_at(60), rows_at(0))
    assert loss.item() == pytest.approx((0.5 - sigmoid((0.5 - 1) / 0.1)) ** 2)
    assert rank_order(rows_at(10), rows_at(10)).item() == pytest.approx(0, abs=1e-12)


def test_neighbours_that_the_teacher_ties_are_a_half_to_each_other(rows_at: RowsAt) -> None:
    loss = rank_order(rows_at(0), rows_at(0), bank=rows_at(0, 60, -60), neighbours=2, temperature=1e-3)
    assert loss.item() == pytest.approx(0, abs=1e-12)


def test_a_bank_without_a_number_of_neighbours_is_refused(rows_at: RowsAt) -> None:
    with pytest.raises(UsageError, match="`neighbours` is not set beside a bank of 4; say how many of it are listed"):
        rank_order(rows_at(0), rows_at(0), bank=rows_at(0, 1, 2, 3))
