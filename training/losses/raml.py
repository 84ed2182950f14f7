"""RAML: the student's embedding goes where the teacher's stands, and so do its similarities to other embeddings.

Source: Suma and Tolias, "Large-to-small image resolution asymmetry in deep metric learning", WACV 2023, the absolute
and the two relational distillation terms; as read from the authors' published code, without the 1e-6 that it adds to
each difference. The authors compare augmentations of one image with each other; a batch of single images, as here by
default, is a simplification that the reimplementation by the authors of D3still makes too.

The absolute term and the first relational one tie the student to the teacher's coordinates; the second, among student
embeddings alone, does not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from aml_edge.errors import UsageError
from aml_edge.training.losses.csd import require_shared_space
from aml_edge.training.losses.embedding_rows import Reduction, in_full_precision, reduced


@in_full_precision
def raml(
    student: Tensor,
    teacher: Tensor,
    *,
    views: int | None = None,
    teacher_weight: float = 0.7482,
    student_weight: float = 0.6778,
    reduction: Reduction = "mean",
) -> Tensor:
    """Returns (1 − s·t)² + A mean (s·t' − t·t')² + C mean (s·s' − t·t')² over the rows, the means over other views.

    Args:
        student: (B, D) embeddings s, rows L2-normalised.
        teacher: (B, D) embeddings t of the same images under the same augmentations, likewise.
        views: how many rows in a row show one image, as the authors have it; without it all rows are compared.
        teacher_weight, student_weight: A and C; the authors tuned them per data set, and these are their values for
            Stanford Online Products. For CUB-200 they had 0.7718 and 0.6684, for Cars-196 0.6371 and 0.7731.
        reduction: over the B rows.

    Raises:
        UsageError: the shapes do not belong together, or the batch is no multiple of views.
    """
    require_shared_space(student, teacher)
    together = len(student) if views is None else views
    if together < 1 or len(student) % together:
        raise UsageError(
            f"`views` is {views} in a batch of {len(student)}; the batch must be a multiple of it: set it to the "
            "number of augmentations that each image has there, or leave it out."
        )
    s, t = (rows.reshape(-1, together, rows.shape[1]) for rows in (student, teacher))  # (G, V, D)
    absolute = (1 - (student * teacher).sum(dim=1)).square()
    of_teacher = t @ t.mT  # (G, V, V)
    to_teacher = _mean_of_others((s @ t.mT - of_teacher).square())
    to_student = _mean_of_others((s @ s.mT - of_teacher).square())
    return reduced(absolute + teacher_weight * to_teacher + student_weight * to_student, reduction)


def _mean_of_others(squares: Tensor) -> Tensor:
    """Returns the mean of each row without its diagonal element, (B,) of (G, V, V); 0 where there is no other."""
    count = squares.shape[2]
    others = squares.masked_fill(torch.eye(count, dtype=torch.bool, device=squares.device), 0)
    return (others.sum(dim=2) / max(count - 1, 1)).flatten()
