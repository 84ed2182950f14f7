"""D3still: the differences between an image's similarities to its neighbours become the teacher's.

Source: Xie et al., "D3still: decoupled differential distillation for asymmetric image retrieval", CVPR 2024: feature
representation knowledge, and inconsistent and consistent pairwise similarity differential knowledge; as read from the
authors' published code. The values are that code's defaults, which its authors tuned anew after the paper and differ
per data set. Where the teacher finds two neighbours equally similar, which the code counts as a difference of 1, there
is no order to keep, and the pair is left out here.

The first part alone ties the student to the teacher's coordinates, and the others compare with teacher embeddings.
"""

from __future__ import annotations

from torch import Tensor

from aml_edge.training.losses.csd import listed_similarities
from aml_edge.training.losses.embedding_rows import Reduction, in_full_precision, reduced, safe_sqrt

GAP_OFFSET = 0.1
"""Added to the teacher's difference, by which an error is divided, so that small differences do not outweigh all."""


@in_full_precision
def d3still(
    student: Tensor,
    teacher: Tensor,
    *,
    bank: Tensor | None = None,
    neighbours: int | None = 9,
    feature_weight: float = 50.0,
    inconsistent_weight: float = 2.0,
    consistent_weight: float = 1.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Returns the weighted sum of three norms: of 1 − s·t over the batch, and of each image's errors of two kinds.

    A difference is that of an image's similarities to two neighbours. Its error, student's less teacher's, is divided
    by the teacher's plus 0.1. It is inconsistent where the signs oppose, consistent where they agree; a tie is neither.

    Args:
        student: (B, D) embeddings, rows L2-normalised.
        teacher: (B, D) of the same images, likewise.
        bank: (M, D) teacher embeddings to find the neighbours in; the batch's own where there is none.
        neighbours: K, at least 2 for a difference; (B, K, K) values are held. See `csd.listed_similarities`.
        feature_weight, inconsistent_weight, consistent_weight: of the three parts.
        reduction: the mean as in the authors' code, or B times it.

    Raises:
        UsageError: the shapes do not belong together, or the bank is too small.
    """
    of_student, of_teacher = listed_similarities(student, teacher, bank, neighbours)
    feature = safe_sqrt((of_teacher[:, 0] - of_student[:, 0]).square().sum())
    student_gaps, teacher_gaps = _differences(of_student[:, 1:]), _differences(of_teacher[:, 1:])
    errors = ((student_gaps - teacher_gaps) / (GAP_OFFSET + teacher_gaps.abs())).square()
    agreement = student_gaps.sign() * teacher_gaps.sign()
    inconsistent = safe_sqrt(errors.where(agreement < 0, 0).sum(dim=(1, 2)))
    consistent = safe_sqrt(errors.where(agreement > 0, 0).sum(dim=(1, 2)))
    listed = max(student_gaps.shape[1], 1)
    per_image = (inconsistent_weight * inconsistent + consistent_weight * consistent) / listed
    return reduced(per_image + feature_weight * feature / len(student), reduction)


def _differences(values: Tensor) -> Tensor:
    """Returns v_j − v_i as [b, i, j], (B, K, K)."""
    return values[:, None, :] - values[:, :, None]
