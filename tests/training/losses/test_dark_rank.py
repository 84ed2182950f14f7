"""DR against the published values and a ranking's likelihood written out."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from aml_edge.errors import UsageError
from aml_edge.training.losses.dark_rank import dark_rank

RowsAt = Callable[..., Tensor]


def test_value_and_gradient_are_the_published_ones(check: Callable[[str, str, Callable[..., Tensor]], None]) -> None:
    check(
        "darkrank_hard_alpha_3_beta_3_length_4",
        "student_batch",
        lambda student_batch, teacher_batch, **_: dark_rank(student_batch, teacher_batch),
    )


def test_equals_the_likelihood_written_out(rows_at: RowsAt) -> None:
    student, teacher = rows_at(0, 10, 100, 40), rows_at(0, 30, 20, 200)
    expected = 0.0
    for anchor, ranked in ((0, (2, 1)), (1, (2, 0)), (2, (1, 0)), (3, (0, 1))):  # by the teacher's angles
        scores = [-2 * float((student[anchor] - student[row]).norm()) ** 1.5 for row in ranked]
        expected -= scores[0] - math.log(sum(math.exp(score) for score in scores))
    loss = dark_rank(student, teacher, alpha=2, beta=1.5, list_length=2, reduction="sum")
    assert loss.item() == pytest.approx(expected)
    assert dark_rank(student, teacher, alpha=2, beta=1.5, list_length=2).item() == pytest.approx(expected / 4)


def test_equal_student_rows_give_every_ranking_the_same_likelihood(rows_at: RowsAt) -> None:
    student = torch.ones(5, 3, dtype=torch.float64, requires_grad=True)
    loss = dark_rank(student, rows_at(0, 10, 25, 45, 70))
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == pytest.approx(math.log(math.factorial(4)))
    assert gradient.isfinite().all()


def test_the_teacher_gets_no_gradient_and_is_left_as_it_is(rows_at: RowsAt) -> None:
    teacher = rows_at(0, 10, 25, 45, 70)
    before = teacher.clone()
    dark_rank(rows_at(0, 20, 30, 50, 60), teacher)
    assert torch.equal(teacher, before)


@pytest.mark.parametrize("length", [0, 4])
def test_a_list_longer_than_the_batch_is_refused(rows_at: RowsAt, length: int) -> None:
    with pytest.raises(UsageError, match=f"`list_length` is {length} in a batch of 4; it must be between"):
        dark_rank(rows_at(0, 1, 2, 3), rows_at(0, 1, 2, 3), list_length=length)
