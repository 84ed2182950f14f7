"""RKD against the published values, difference vectors written out, and batches without differences."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from aml_edge.errors import UsageError
from aml_edge.training.losses.relational import relational

UnitRows = Callable[[int, int, int], Tensor]


def written_out(student: Tensor, teacher: Tensor) -> float:
    """The definition, element by element."""

    def relations(rows: Tensor) -> tuple[Tensor, Tensor]:
        differences = rows[None, :, :] - rows[:, None, :]
        lengths = differences.norm(dim=2)
        unit = functional.normalize(differences, dim=2)
        return lengths / lengths[lengths > 0].mean(), torch.einsum("ijd,ikd->ijk", unit, unit)

    (distances, angles), (teacher_distances, teacher_angles) = relations(student), relations(teacher)
    distance_loss = functional.smooth_l1_loss(distances, teacher_distances)
    return float(distance_loss + 2 * functional.smooth_l1_loss(angles, teacher_angles))


def test_value_and_gradient_are_the_published_ones(check: Callable[[str, str, Callable[..., Tensor]], None]) -> None:
    check(
        "rkd_distance_1_angle_2",
        "student_batch",
        lambda student_batch, teacher_batch, **_: relational(student_batch, teacher_batch),
    )


@pytest.mark.parametrize(("of_student", "of_teacher"), [(8, 8), (4, 32)])
def test_equals_the_definition_written_out(unit_rows: UnitRows, of_student: int, of_teacher: int) -> None:
    student, teacher = unit_rows(9, of_student, 0), unit_rows(9, of_teacher, 1)
    assert relational(student, teacher).item() == pytest.approx(written_out(student, teacher), abs=1e-12)
    assert relational(student, teacher, reduction="sum").item() == pytest.approx(9 * written_out(student, teacher))


def test_rotation_and_scale_cost_nothing(unit_rows: UnitRows) -> None:
    teacher = unit_rows(6, 5, 0)
    rotation, _ = torch.linalg.qr(unit_rows(5, 5, 1))
    assert relational(3 * teacher @ rotation, teacher).item() == pytest.approx(0, abs=1e-12)


def test_nearly_equal_rows_in_float32_keep_their_angles(unit_rows: UnitRows) -> None:
    """As an untrained network gives them: all cosines round to 1."""
    shared = functional.normalize(torch.ones(1, 64, dtype=torch.float64))
    student, teacher = shared + 1e-4 * unit_rows(8, 64, 0), unit_rows(8, 64, 1)
    assert relational(student.float(), teacher.float()).item() == pytest.approx(written_out(student, teacher), rel=0.02)


def test_equal_rows_have_a_finite_gradient(unit_rows: UnitRows) -> None:
    student = torch.ones(4, 3, dtype=torch.float64, requires_grad=True)
    loss = relational(student, unit_rows(4, 3, 0))
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.isfinite()
    assert gradient.isfinite().all()
    assert relational(torch.ones(4, 3), torch.ones(4, 3)).item() == 0


def test_two_and_one_image_do(unit_rows: UnitRows) -> None:
    assert relational(unit_rows(2, 3, 0), unit_rows(2, 3, 1)).isfinite()
    assert relational(unit_rows(1, 3, 0), unit_rows(1, 3, 1)).item() == 0


def test_batches_of_different_images_are_refused() -> None:
    with pytest.raises(UsageError, match=r"`student` is \(3, 4\) and `teacher` \(2, 4\); both must be embeddings"):
        relational(torch.zeros(3, 4), torch.zeros(2, 4))


def test_nothing_as_large_as_all_difference_vectors_is_built(
    unit_rows: UnitRows, largest_built: Callable[[Callable[[], object]], int]
) -> None:
    count, dimension = 16, 64
    student = unit_rows(count, dimension, 0).requires_grad_()
    teacher = unit_rows(count, dimension, 1)
    assert largest_built(lambda: relational(student, teacher).backward()) == count**3  # type: ignore[no-untyped-call]
