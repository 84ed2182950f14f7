"""RKD: the student's distances and angles within a batch become the teacher's, up to scale.

Source: Park, Kim, Lu, Cho, "Relational knowledge distillation", CVPR 2019, equations 5 to 9; as used by Budnik and
Avrithis, CVPR 2021. Any rotation of the student costs nothing, so it does not tie it to the teacher's coordinates: the
paper's asymmetric runs with it fail.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from aml_edge.training.losses.embedding_rows import (
    Reduction,
    in_full_precision,
    pairwise_squared_distances,
    reduced,
    require_pair,
    safe_sqrt,
)


@in_full_precision
def relational(
    student: Tensor,
    teacher: Tensor,
    *,
    distance_weight: float = 1.0,
    angle_weight: float = 2.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Returns the smooth L1 loss of mean-normalised distances and of the cosines of all angles, over the B anchors.

    An anchor's part is its mean over the B partners (distances) or the B² pairs of partners (angles).

    Args:
        student: (B, D) embeddings of different images.
        teacher: (B, D') of the same images; the dimensions may differ.
        distance_weight, angle_weight: as published, 1 and 2.
        reduction: over the B anchors.

    Raises:
        UsageError: the shapes do not belong together.
    """
    require_pair(student, teacher)
    of_student, of_teacher = pairwise_squared_distances(student), pairwise_squared_distances(teacher)
    distances = functional.smooth_l1_loss(_mean_normalised(of_student), _mean_normalised(of_teacher), reduction="none")
    angles = functional.smooth_l1_loss(_cosines(of_student), _cosines(of_teacher), reduction="none")
    per_anchor = distance_weight * distances.mean(dim=1) + angle_weight * angles.mean(dim=(1, 2))
    return reduced(per_anchor, reduction)


def _mean_normalised(squared: Tensor) -> Tensor:
    """Returns the distances over the mean of those above 0; all 0 where there is none."""
    distances = safe_sqrt(squared)
    count = (distances > 0).sum().clamp(min=1)
    mean = distances.sum() / count
    return distances / mean.where(mean > 0, mean.new_ones(()))


def _cosines(squared: Tensor) -> Tensor:
    """Returns the cosine of the angle j–i–k as [i, j, k], (B, B, B), by the law of cosines; 0 where a side is 0.

    So the difference vectors, (B, B, D), and the products of all of them are never built.
    """
    distances = safe_sqrt(squared)
    sides = distances[:, :, None] * distances[:, None, :]  # (B, B, B): |ij| |ik|
    twice_dot = squared[:, :, None] + squared[:, None, :] - squared[None, :, :]
    nonzero = sides > 0
    return (0.5 * twice_dot / sides.where(nonzero, sides.new_ones(()))).where(nonzero, sides.new_zeros(()))
