"""RAML against its definition written out, and which of its terms fixes coordinates."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from aml_edge.errors import UsageError
from aml_edge.training.losses.raml import raml

RowsAt = Callable[..., Tensor]
UnitRows = Callable[[int, int, int], Tensor]
EXACT = 1e-9


def written_out(student: Tensor, teacher: Tensor, teacher_weight: float, student_weight: float) -> float:
    """The definition for the views of one image, pair by pair; the mean over the views."""
    count = len(student)
    total = sum((1 - float(student[i] @ teacher[i])) ** 2 for i in range(count)) / count
    for i in range(count):
        for j in range(count):
            if i != j:
                wanted = float(teacher[i] @ teacher[j])
                to_teacher = (float(student[i] @ teacher[j]) - wanted) ** 2
                to_student = (float(student[i] @ student[j]) - wanted) ** 2
                total += (teacher_weight * to_teacher + student_weight * to_student) / (count * (count - 1))
    return total


def test_equals_the_definition_written_out(unit_rows: UnitRows) -> None:
    student, teacher = unit_rows(7, 5, 0), unit_rows(7, 5, 1)
    expected = written_out(student, teacher, 0.7482, 0.6778)
    assert raml(student, teacher).item() == pytest.approx(expected, abs=EXACT)
    assert raml(student, teacher, reduction="sum").item() == pytest.approx(7 * expected, abs=EXACT)


def test_views_of_different_images_are_not_compared(unit_rows: UnitRows) -> None:
    student, teacher = unit_rows(6, 5, 0), unit_rows(6, 5, 1)
    images = [written_out(student[rows], teacher[rows], 0.3, 0.5) for rows in (slice(0, 3), slice(3, 6))]
    loss = raml(student, teacher, views=3, teacher_weight=0.3, student_weight=0.5)
    assert loss.item() == pytest.approx(sum(images) / 2, abs=EXACT)


def test_one_view_leaves_the_absolute_term(rows_at: RowsAt) -> None:
    both = raml(rows_at(60, 10), rows_at(0, 100), views=1)
    assert both.item() == pytest.approx(((1 - 0.5) ** 2 + (1 - 0) ** 2) / 2)
    assert raml(rows_at(60), rows_at(0)).item() == pytest.approx((1 - math.cos(math.radians(60))) ** 2)


def test_nothing_is_left_to_learn_on_the_teacher_s_own_embeddings(unit_rows: UnitRows) -> None:
    student = unit_rows(6, 5, 0).requires_grad_()
    loss = raml(student, student.detach())
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == pytest.approx(0, abs=1e-15)
    assert gradient.abs().max().item() == pytest.approx(0, abs=1e-15)


def test_the_term_among_students_alone_fixes_no_coordinates(unit_rows: UnitRows) -> None:
    student, teacher = unit_rows(6, 5, 0), unit_rows(6, 5, 1)
    turn, _ = torch.linalg.qr(unit_rows(5, 5, 2))

    def term(rows: Tensor, teacher_weight: float, student_weight: float) -> float:
        weighted = raml(rows, teacher, teacher_weight=teacher_weight, student_weight=student_weight)
        return weighted.item() - raml(rows, teacher, teacher_weight=0, student_weight=0).item()

    assert term(student @ turn, 0, 1) == pytest.approx(term(student, 0, 1), abs=EXACT)
    assert abs(term(student @ turn, 1, 0) - term(student, 1, 0)) > 0.01


@pytest.mark.parametrize("views", [0, -1, 4, 9])
def test_a_batch_that_does_not_divide_into_views_is_refused(unit_rows: UnitRows, views: int) -> None:
    with pytest.raises(UsageError) as caught:
        raml(unit_rows(6, 5, 0), unit_rows(6, 5, 1), views=views)
    assert str(caught.value) == (
        f"`views` is {views} in a batch of 6; the batch must be a multiple of it: set it to the number of "
        "augmentations that each image has there, or leave it out."
    )
