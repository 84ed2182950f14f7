"""D3still against its definition written out, part by part."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from aml_edge.errors import UsageError
from aml_edge.training.losses.d3still import d3still

RowsAt = Callable[..., Tensor]
UnitRows = Callable[[int, int, int], Tensor]
EXACT = 1e-9


def written_out(student: Tensor, teacher: Tensor, bank: Tensor, neighbours: int, weights: tuple[float, ...]) -> float:
    """The definition, pair by pair; the mean over images."""
    missing = math.sqrt(sum((1 - float(s @ t)) ** 2 for s, t in zip(student, teacher, strict=True)))
    total = weights[0] * missing
    for image, own in zip(student, teacher, strict=True):
        others = [row for row in bank if not torch.equal(row, own)]
        others.sort(key=lambda row: -float(row @ own))
        inconsistent = consistent = 0.0
        for a in others[:neighbours]:
            for b in others[:neighbours]:
                found, wanted = float(image @ a - image @ b), float(own @ a - own @ b)
                squared = ((found - wanted) / (0.1 + abs(wanted))) ** 2
                if found * wanted < 0:
                    inconsistent += squared
                elif found * wanted > 0:
                    consistent += squared
        total += (weights[1] * math.sqrt(inconsistent) + weights[2] * math.sqrt(consistent)) / neighbours
    return total / len(student)


@pytest.mark.parametrize("weights", [(50, 2, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1)])
@pytest.mark.parametrize("in_bank", [True, False])
def test_equals_the_definition_written_out(unit_rows: UnitRows, weights: tuple[float, ...], in_bank: bool) -> None:
    student, teacher, others = unit_rows(5, 6, 0), unit_rows(5, 6, 1), unit_rows(14, 6, 2)
    bank = torch.cat([others, teacher]) if in_bank else others
    loss = d3still(
        student,
        teacher,
        bank=bank,
        neighbours=6,
        feature_weight=weights[0],
        inconsistent_weight=weights[1],
        consistent_weight=weights[2],
    )
    assert loss.item() == pytest.approx(written_out(student, teacher, bank, 6, weights), abs=EXACT)


def test_without_a_bank_the_nine_neighbours_are_those_of_the_batch(unit_rows: UnitRows) -> None:
    student, teacher = unit_rows(12, 6, 0), unit_rows(12, 6, 1)
    expected = written_out(student, teacher, teacher, 9, (50, 2, 1))
    assert d3still(student, teacher).item() == pytest.approx(expected, abs=EXACT)


def test_nothing_is_left_to_learn_on_the_teacher_s_own_embeddings(unit_rows: UnitRows) -> None:
    student = unit_rows(12, 6, 0).requires_grad_()
    loss = d3still(student, student.detach())
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == 0
    assert not gradient.any()


def test_a_reversed_order_is_inconsistent_and_a_kept_one_consistent(rows_at: RowsAt) -> None:
    teacher, bank = rows_at(0), rows_at(20, 70, 200)
    for degrees, name in ((-5, "consistent_weight"), (100, "inconsistent_weight")):
        settings = {"feature_weight": 0.0, "inconsistent_weight": 0.0, "consistent_weight": 0.0, name: 1.0}
        loss = d3still(rows_at(degrees), teacher, bank=bank, neighbours=2, **settings)  # type: ignore[arg-type]
        found = math.cos(math.radians(20 - degrees)) - math.cos(math.radians(70 - degrees))
        wanted = math.cos(math.radians(20)) - math.cos(math.radians(70))
        one = abs(found - wanted) / (0.1 + wanted)
        assert loss.item() == pytest.approx(math.sqrt(2) * one / 2)


def test_neighbours_that_the_teacher_ties_have_no_order_to_keep(rows_at: RowsAt) -> None:
    loss = d3still(rows_at(30), rows_at(0), bank=rows_at(20, -20, 0), neighbours=2)
    assert loss.item() == pytest.approx(50 * (1 - math.cos(math.radians(30))))


def test_two_images_leave_the_features_alone(rows_at: RowsAt) -> None:
    loss = d3still(rows_at(60, 90), rows_at(0, 0), neighbours=1)
    assert loss.item() == pytest.approx(50 * math.sqrt(0.5**2 + 1) / 2)


def test_a_batch_too_small_for_the_list_is_refused(unit_rows: UnitRows) -> None:
    with pytest.raises(UsageError, match="`neighbours` is 9 in a batch of 9; it must be between 1 and one less than"):
        d3still(unit_rows(9, 6, 0), unit_rows(9, 6, 1))
