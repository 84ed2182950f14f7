"""CSD against its definition written out, and which rows of a bank an image is compared with."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from aml_edge.errors import UsageError
from aml_edge.training.losses.csd import csd, listed_similarities

RowsAt = Callable[..., Tensor]
UnitRows = Callable[[int, int, int], Tensor]
EXACT = 1e-9


def cosines(*degrees: float) -> list[float]:
    return [math.cos(math.radians(angle)) for angle in degrees]


def softmax(values: list[float], temperature: float) -> list[float]:
    weights = [math.exp(value / temperature) for value in values]
    return [weight / sum(weights) for weight in weights]


def written_out(
    student: Tensor, teacher: Tensor, bank: Tensor, neighbours: int, temperatures: tuple[float, float]
) -> float:
    """The definition, image by image; the sum."""
    total = 0.0
    for image, own in zip(student, teacher, strict=True):
        others = [row for row in bank if not torch.equal(row, own)]
        others.sort(key=lambda row: -float(row @ own))
        listed = [own, *others[:neighbours]]
        q = softmax([float(image @ row) for row in listed], temperatures[0])
        p = softmax([float(own @ row) for row in listed], temperatures[1])
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return total


@pytest.mark.parametrize("temperatures", [(1.0, 0.01), (0.1, 0.1), (0.5, 0.05)])
@pytest.mark.parametrize("in_bank", [True, False])
def test_equals_the_definition_written_out(
    unit_rows: UnitRows, temperatures: tuple[float, float], in_bank: bool
) -> None:
    student, teacher, others = unit_rows(5, 6, 0), unit_rows(5, 6, 1), unit_rows(11, 6, 2)
    bank = torch.cat([others, teacher]) if in_bank else others
    loss = csd(
        student,
        teacher,
        bank=bank,
        neighbours=4,
        student_temperature=temperatures[0],
        teacher_temperature=temperatures[1],
        reduction="sum",
    )
    assert loss.item() == pytest.approx(written_out(student, teacher, bank, 4, temperatures), abs=EXACT)


def test_without_a_bank_the_neighbours_are_those_of_the_batch(unit_rows: UnitRows) -> None:
    student, teacher = unit_rows(7, 6, 0), unit_rows(7, 6, 1)
    expected = written_out(student, teacher, teacher, 3, (1, 0.01)) / 7
    assert csd(student, teacher, neighbours=3).item() == pytest.approx(expected, abs=EXACT)
    everything = written_out(student, teacher, teacher, 6, (1, 0.01)) / 7
    assert csd(student, teacher).item() == pytest.approx(everything, abs=EXACT)


def test_a_list_begins_with_the_image_itself_and_goes_by_the_teacher_s_order(rows_at: RowsAt) -> None:
    bank = rows_at(90, 30, 0, -10)
    of_student, of_teacher = listed_similarities(rows_at(50), rows_at(0), bank, 2)
    assert of_teacher[0].tolist() == pytest.approx(cosines(0, 10, 30))
    assert of_student[0].tolist() == pytest.approx(cosines(50, 60, 20))


def test_a_bank_that_lacks_the_image_gives_as_many_neighbours(rows_at: RowsAt) -> None:
    _, of_teacher = listed_similarities(rows_at(50), rows_at(0), rows_at(90, 30, -10), 2)
    assert of_teacher[0].tolist() == pytest.approx(cosines(0, 10, 30))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_copy_of_the_image_in_fewer_bits_is_passed_over_too(unit_rows: UnitRows, dtype: torch.dtype) -> None:
    teacher = unit_rows(5, 2048, 0)
    bank = torch.cat([unit_rows(20, 2048, 1), teacher]).to(dtype).double()
    _, of_teacher = listed_similarities(teacher, teacher, bank, 3)
    assert (of_teacher[:, 1:] < 0.5).all()


def test_nothing_is_left_to_learn_where_both_find_the_same_similarities(unit_rows: UnitRows) -> None:
    teacher = unit_rows(6, 4, 0).requires_grad_()
    loss = csd(teacher, teacher.detach(), student_temperature=0.1, teacher_temperature=0.1)
    (gradient,) = torch.autograd.grad(loss, teacher)
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert gradient.abs().max().item() == pytest.approx(0, abs=1e-12)


def test_what_is_orthogonal_to_the_whole_list_costs_nothing(unit_rows: UnitRows) -> None:
    """The limit of the tie to the teacher's coordinates: few neighbours leave many directions free."""
    student, teacher, bank = (functional.pad(unit_rows(count, 3, count), (0, 3)) for count in (4, 4, 9))
    teacher = bank[:4]
    elsewhere = functional.pad(unit_rows(4, 3, 1), (3, 0))
    expected = csd(student, teacher, bank=bank, neighbours=5).item()
    assert csd(student + elsewhere, teacher, bank=bank, neighbours=5).item() == pytest.approx(expected, abs=1e-12)


def test_one_image_alone_teaches_nothing_and_two_do(rows_at: RowsAt) -> None:
    student = rows_at(40).requires_grad_()
    loss = csd(student, rows_at(0))
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == 0
    assert not gradient.any()
    assert csd(rows_at(40, 70), rows_at(0, 90)).item() > 0


@pytest.mark.parametrize("neighbours", [-1, 0, 4, 4096])
def test_more_neighbours_than_the_bank_has_are_refused(rows_at: RowsAt, neighbours: int) -> None:
    with pytest.raises(UsageError) as caught:
        csd(rows_at(0, 1), rows_at(0, 1), bank=rows_at(0, 1, 2, 3), neighbours=neighbours)
    assert str(caught.value) == (
        f"`neighbours` is {neighbours} in a bank of 4; it must be between 1 and one less than the bank: "
        "set fewer, or give a larger bank."
    )
    with pytest.raises(UsageError, match=r"`neighbours` is 2 in a batch of 2; .*: set fewer, or give a larger batch"):
        csd(rows_at(0, 1), rows_at(0, 1), neighbours=2)


def test_a_bank_without_a_number_of_neighbours_is_refused(rows_at: RowsAt) -> None:
    with pytest.raises(UsageError) as caught:
        csd(rows_at(0, 1), rows_at(0, 1), bank=rows_at(0, 1, 2, 3))
    assert str(caught.value) == "`neighbours` is not set beside a bank of 4; say how many of it are listed."


@pytest.mark.parametrize("shape", [(9, 3), (2,)])
def test_a_bank_of_another_teacher_is_refused(rows_at: RowsAt, shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        csd(rows_at(0, 1), rows_at(0, 1), bank=torch.zeros(shape), neighbours=1)
    assert str(caught.value) == (
        f"`bank` is {shape} and `teacher` (2, 2); the bank must hold embeddings of the same teacher, (M, D): "
        "embed its images with this one."
    )
