"""DR: the student ranks the images of a batch as the teacher does.

Source: Chen, Wang, Zhang, "DarkRank: accelerating deep metric learning via cross sample similarities transfer", AAAI
2018, the hard variant, equations 4 and 6; as used by Budnik and Avrithis, CVPR 2021. A ranking fixes no coordinates:
the paper's asymmetric runs with it fail.
"""

from __future__ import annotations

from torch import Tensor

from aml_edge.errors import UsageError
from aml_edge.training.losses.embedding_rows import (
    Reduction,
    in_full_precision,
    pairwise_squared_distances,
    reduced,
    require_pair,
    safe_sqrt,
)


@in_full_precision
def dark_rank(
    student: Tensor,
    teacher: Tensor,
    *,
    alpha: float = 3.0,
    beta: float = 3.0,
    list_length: int = 4,
    reduction: Reduction = "mean",
) -> Tensor:
    """Returns −log of the likelihood that the student gives to the teacher's ranking, over the B anchors.

    An image scores −alpha ‖a − x‖^beta; a list's likelihood is the product, from its head on, of a score's softmax
    among what is left of the list.

    Args:
        student: (B, D) embeddings of different images.
        teacher: (B, D') of the same images; the dimensions may differ.
        alpha, beta: see above.
        list_length: how many of the teacher's nearest images are ranked; at most B − 1.
        reduction: over the B anchors.

    Raises:
        UsageError: the shapes do not belong together, or the batch is too small for the list.
    """
    require_pair(student, teacher)
    if not 1 <= list_length < len(student):
        raise UsageError(
            f"`list_length` is {list_length} in a batch of {len(student)}; it must be between 1 and one less than the "
            "batch."
        )
    of_teacher = pairwise_squared_distances(teacher)
    of_teacher.fill_diagonal_(float("inf"))  # no image is in its own list
    ranked = of_teacher.argsort(dim=1, stable=True)[:, :list_length]  # (B, L)
    scores = -alpha * safe_sqrt(pairwise_squared_distances(student)).pow(beta)
    listed = scores.gather(1, ranked)
    left = listed.flip(1).logcumsumexp(dim=1).flip(1)  # of each place and all after it
    return reduced((left - listed).sum(dim=1), reduction)
