"""CSD: the student finds an image as similar to its neighbours in a bank as the teacher does.

Source: Wu, Wang, Zhou, Li, Tian, "Contextual similarity distillation for asymmetric image retrieval", CVPR 2022, the
contextual similarity consistency as a Kullback-Leibler divergence. Its authors published no code: the list, the
divergence and the two temperatures are as read from the reimplementation by the authors of D3still, but with the
neighbours from a bank as in the paper. How many the paper lists could not be confirmed and has no default.

The student meets teacher embeddings in every dot product, so it is tied to the teacher's coordinates, in the directions
that an image's list spans; what is orthogonal to its whole list costs nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from aml_edge.errors import UsageError
from aml_edge.training.losses.embedding_rows import Reduction, in_full_precision, reduced

SAME_IMAGE = 1e-5
"""Squared distance of unit rows below which a row of a bank, kept in half precision perhaps, is the image itself."""


@in_full_precision
def csd(
    student: Tensor,
    teacher: Tensor,
    *,
    bank: Tensor | None = None,
    neighbours: int | None = None,
    student_temperature: float = 1.0,
    teacher_temperature: float = 0.01,
    reduction: Reduction = "mean",
) -> Tensor:
    """Returns Σ p log(p / q) over each image's list, p the teacher's softmax of similarities and q the student's.

    The divergence is 0 where both agree, which with different temperatures is not at the teacher's own embedding.

    Args:
        student: (B, D) embeddings, rows L2-normalised.
        teacher: (B, D) of the same images, likewise.
        bank: (M, D) teacher embeddings to find the neighbours in; the batch's own where there is none.
        neighbours: how many are listed, after the image itself; see `listed_similarities`.
        student_temperature, teacher_temperature: of the two softmaxes.
        reduction: over the B images.

    Raises:
        UsageError: the shapes do not belong together, or the bank is too small.
    """
    of_student, of_teacher = listed_similarities(student, teacher, bank, neighbours)
    divergences = functional.kl_div(
        functional.log_softmax(of_student / student_temperature, dim=1),
        functional.log_softmax(of_teacher / teacher_temperature, dim=1),
        reduction="none",
        log_target=True,
    )
    return reduced(divergences.sum(dim=1), reduction)


def listed_similarities(
    student: Tensor, teacher: Tensor, bank: Tensor | None, neighbours: int | None
) -> tuple[Tensor, Tensor]:
    """Returns the student's and the teacher's similarities to each image's list, both (B, 1 + K), in the same order.

    The list begins with the teacher's embedding of the image itself. Then come the K rows of the bank that are most
    similar to it, the most similar first; a copy of the image itself is passed over.

    Args:
        student: (B, D), rows L2-normalised.
        teacher: (B, D), likewise.
        bank: (M, D) teacher embeddings, likewise; without it the batch's own.
        neighbours: K, below M because one row may be the image itself; without it all other images of the batch.

    Raises:
        UsageError: the shapes do not belong together, the bank is too small, or neighbours is missing beside a bank.
    """
    require_shared_space(student, teacher)
    images = teacher if bank is None else bank
    if images.ndim != 2 or images.shape[1] != teacher.shape[1]:
        raise UsageError(
            f"`bank` is {tuple(images.shape)} and `teacher` {tuple(teacher.shape)}; the bank must hold embeddings of "
            "the same teacher, (M, D): embed its images with this one."
        )
    count = _neighbours_among(images, neighbours, of_batch=bank is None)
    similarities = teacher @ images.T  # (B, M)
    nearest = similarities.topk(count + 1, dim=1).indices
    starts_with_itself = (teacher - images[nearest[:, 0]]).square().sum(dim=1) < SAME_IMAGE
    listed = torch.where(starts_with_itself[:, None], nearest[:, 1:], nearest[:, :-1])  # (B, K)
    of_student = torch.cat([_own(student, teacher), (student @ images.T).gather(1, listed)], dim=1)
    of_teacher = torch.cat([_own(teacher, teacher), similarities.gather(1, listed)], dim=1)
    return of_student, of_teacher


def require_shared_space(student: Tensor, teacher: Tensor) -> None:
    """Raises `UsageError` unless both are (B, D) embeddings of the same images that can be compared to each other."""
    if student.ndim != 2 or student.shape != teacher.shape:
        raise UsageError(
            f"`student` is {tuple(student.shape)} and `teacher` {tuple(teacher.shape)}; both must be embeddings of the "
            "same images in the teacher's space, (B, D): give the student the teacher's dimension."
        )


def _own(rows: Tensor, teacher: Tensor) -> Tensor:
    """Returns the similarity of each row to the teacher's embedding of the same image, (B, 1)."""
    return (rows * teacher).sum(dim=1, keepdim=True)


def _neighbours_among(images: Tensor, neighbours: int | None, *, of_batch: bool) -> int:
    place = "batch" if of_batch else "bank"
    if neighbours is None and of_batch:
        return len(images) - 1
    if neighbours is None:
        raise UsageError(f"`neighbours` is not set beside a bank of {len(images)}; say how many of it are listed.")
    if not 1 <= neighbours < len(images):
        raise UsageError(
            f"`neighbours` is {neighbours} in a {place} of {len(images)}; it must be between 1 and one less than the "
            f"{place}: set fewer, or give a larger {place}."
        )
    return neighbours
