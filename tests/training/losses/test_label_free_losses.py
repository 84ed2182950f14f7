"""What csd, raml, ssp, d3still and rank_order have in common: no labels, a fixed teacher, its coordinates kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from aml_edge.errors import UsageError
from aml_edge.training.losses.csd import csd
from aml_edge.training.losses.d3still import d3still
from aml_edge.training.losses.raml import raml
from aml_edge.training.losses.rank_order import rank_order
from aml_edge.training.losses.ssp import ssp

COUNT, BANK, DIMENSION = 6, 20, 8
Loss = Callable[..., Tensor]

WITH_BANK: dict[str, Loss] = {
    "csd": lambda student, teacher, bank, **options: csd(student, teacher, bank=bank, neighbours=7, **options),
    "d3still": lambda student, teacher, bank, **options: d3still(student, teacher, bank=bank, **options),
    "rank_order": lambda student, teacher, bank, **options: rank_order(
        student, teacher, bank=bank, neighbours=7, **options
    ),
}
IN_BATCH: dict[str, Loss] = {
    "raml": lambda student, teacher, bank, **options: raml(student, teacher, **options),
    "csd in batch": lambda student, teacher, bank, **options: csd(student, teacher, **options),
    "d3still in batch": lambda student, teacher, bank, **options: d3still(student, teacher, neighbours=4, **options),
    "rank_order in batch": lambda student, teacher, bank, **options: rank_order(student, teacher, **options),
}
BY_BLOCKS: dict[str, Loss] = {
    "ssp": lambda student, teacher, bank, **options: ssp(student, teacher, bank=bank, subspaces=4, **options),
}
LOSSES = WITH_BANK | IN_BATCH | BY_BLOCKS


def unit_rows(count: int, seed: int, dimension: int = DIMENSION) -> Tensor:
    """Returns unit rows with values that half precision holds, so nearly unit ones."""
    generator = torch.Generator().manual_seed(seed)
    rows = functional.normalize(torch.randn(count, dimension, generator=generator, dtype=torch.float64))
    return rows.bfloat16().double()


@pytest.fixture
def tensors() -> tuple[Tensor, Tensor, Tensor]:
    """Student, teacher, bank; the teacher's rows are in the bank too, as those of training images are."""
    teacher = unit_rows(COUNT, 1)
    return unit_rows(COUNT, 0), teacher, torch.cat([unit_rows(BANK - COUNT, 2), teacher])


def rotation(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    turn: Tensor = torch.linalg.qr(torch.randn(DIMENSION, DIMENSION, generator=generator, dtype=torch.float64)).Q
    return turn


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_is_that_of_finite_differences(name: str, tensors: tuple[Tensor, Tensor, Tensor]) -> None:
    student, teacher, bank = tensors
    assert torch.autograd.gradcheck(lambda rows: LOSSES[name](rows, teacher, bank), student.requires_grad_())


@pytest.mark.parametrize("name", LOSSES)
def test_the_order_of_the_images_does_not_matter(name: str, tensors: tuple[Tensor, Tensor, Tensor]) -> None:
    student, teacher, bank = tensors
    order = [3, 1, 5, 0, 2, 4]
    expected = LOSSES[name](student, teacher, bank).item()
    assert LOSSES[name](student[order], teacher[order], bank.flip(0)).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_the_sum_is_the_mean_times_the_number_of_images(name: str, tensors: tuple[Tensor, Tensor, Tensor]) -> None:
    mean, total = (LOSSES[name](*tensors, reduction=reduction).item() for reduction in ("mean", "sum"))
    assert total == pytest.approx(COUNT * mean, abs=1e-12)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("turns", range(3))
def test_a_turn_of_the_student_alone_changes_it(name: str, turns: int, tensors: tuple[Tensor, Tensor, Tensor]) -> None:
    """So it ties the student to the teacher's coordinates."""
    student, teacher, bank = tensors
    turned = LOSSES[name](student @ rotation(turns), teacher, bank).item()
    assert abs(turned - LOSSES[name](student, teacher, bank).item()) > 1e-3


@pytest.mark.parametrize("name", WITH_BANK | IN_BATCH)
def test_a_turn_of_student_and_teacher_together_costs_nothing(
    name: str, tensors: tuple[Tensor, Tensor, Tensor]
) -> None:
    turn = rotation(0)
    turned = LOSSES[name](*(rows @ turn for rows in tensors)).item()
    assert turned == pytest.approx(LOSSES[name](*tensors).item(), abs=1e-9)


@pytest.mark.parametrize("name", LOSSES)
def test_descent_from_another_space_finds_the_teacher_s(name: str) -> None:
    """A free student, turned out of the teacher's space, comes nearer to the teacher's own embeddings."""
    teacher = unit_rows(16, 1)
    student = (teacher @ rotation(4)).requires_grad_()
    bank = torch.cat([unit_rows(64, 2), teacher])
    before = (student * teacher).sum(dim=1).mean().item()
    optimizer = torch.optim.Adam([student], lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        LOSSES[name](functional.normalize(student), teacher, bank).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    after = (functional.normalize(student) * teacher).sum(dim=1).mean().item()
    assert before < 0.5
    assert after > 0.8


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_autocast_and_half_inputs_change_nothing(
    name: str, dtype: torch.dtype, tensors: tuple[Tensor, Tensor, Tensor]
) -> None:
    expected = LOSSES[name](*(rows.float() for rows in tensors))
    with torch.autocast("cpu", torch.bfloat16):
        found = LOSSES[name](*(rows.to(dtype) for rows in tensors))
    assert found.dtype == torch.float32
    assert found.item() == expected.item()
    assert LOSSES[name](*tensors).dtype == torch.float64


@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_does_not_overflow(name: str, tensors: tuple[Tensor, Tensor, Tensor]) -> None:
    student, teacher, bank = (rows.half() for rows in tensors)
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(LOSSES[name](student, teacher, bank), student)
    assert gradient.isfinite().all()
    longer = LOSSES[name](300 * student, 300 * teacher, 300 * bank)  # products of up to 90 000
    assert longer.isfinite()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("value", [0.0, 1 / math.sqrt(DIMENSION)])
def test_equal_rows_have_a_finite_gradient(name: str, value: float) -> None:
    student = torch.full((COUNT, DIMENSION), value, dtype=torch.float64, requires_grad=True)
    for teacher in (student.detach(), unit_rows(COUNT, 1)):
        loss = LOSSES[name](student, teacher, torch.cat([teacher, teacher]))
        (gradient,) = torch.autograd.grad(loss, student)
        assert loss.isfinite()
        assert gradient.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_is_written_into_the_tensors(name: str, tensors: tuple[Tensor, Tensor, Tensor]) -> None:
    before = [rows.clone() for rows in tensors]
    LOSSES[name](*tensors)
    assert all(torch.equal(rows, kept) for rows, kept in zip(tensors, before, strict=True))


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_larger_than_the_bank_is_built(largest_built: Callable[[Callable[[], object]], int], name: str) -> None:
    student, teacher, bank = unit_rows(8, 0, 128), unit_rows(8, 1, 128), unit_rows(50, 2, 128)
    student.requires_grad_()
    largest = largest_built(lambda: LOSSES[name](student, teacher, bank).backward())  # type: ignore[no-untyped-call]
    assert 0 < largest <= bank.numel()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shapes", [((3, 8), (2, 8)), ((3, 4), (3, 8)), ((8,), (8,))])
def test_embeddings_of_other_images_or_another_dimension_are_refused(name: str, shapes: Any) -> None:
    student, teacher = (torch.zeros(shape) for shape in shapes)
    with pytest.raises(UsageError) as caught:
        LOSSES[name](student, teacher, torch.zeros(20, 8))
    assert str(caught.value) == (
        f"`student` is {shapes[0]} and `teacher` {shapes[1]}; both must be embeddings of the same images in the "
        "teacher's space, (B, D): give the student the teacher's dimension."
    )
