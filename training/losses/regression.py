"""Reg: the student's embedding of an image goes where the teacher's stands; no labels, no mining.

It ties the student to the teacher's coordinates by nothing else than them.

Source: Budnik and Avrithis, "Asymmetric metric learning for knowledge transfer", CVPR 2021, the regression loss.
"""

from __future__ import annotations

from torch import Tensor

from aml_edge.errors import UsageError
from aml_edge.training.losses.embedding_rows import Reduction, in_full_precision, reduced

DIFFERENCE_EPS = 1e-6
"""The published runs measure the distance of a and b as ‖a − b + eps‖; 1e-6 moves the loss in its sixth decimal."""


@in_full_precision
def regression(
    anchor: Tensor,
    teacher_anchor: Tensor,
    *,
    reduction: Reduction = "mean",
    eps: float = DIFFERENCE_EPS,
) -> Tensor:
    """Returns ½‖f(a) − g(a)‖² over the anchors a, a scalar; for unit rows and eps 0 it is 1 − cos(f(a), g(a)).

    Args:
        anchor: (B, D) student embeddings, rows L2-normalised.
        teacher_anchor: (B, D) teacher embeddings of the same images, rows L2-normalised.
        reduction: over the B anchors.
        eps: added to each element of the difference.

    Raises:
        UsageError: the shapes differ, or are not (B, D).
    """
    if anchor.ndim != 2 or anchor.shape != teacher_anchor.shape:
        raise UsageError(
            f"`anchor` is {tuple(anchor.shape)} and `teacher_anchor` {tuple(teacher_anchor.shape)}; "
            "both must be (B, D) embeddings of the same images."
        )
    return reduced(0.5 * (anchor - teacher_anchor + eps).square().sum(dim=1), reduction)
