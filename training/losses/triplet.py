"""Triplet: each negative further from the anchor than the positive, by a margin.

Source: Budnik and Avrithis, "Asymmetric metric learning for knowledge transfer", CVPR 2021, the triplet loss; after
Wang et al., "Learning fine-grained image similarity with deep ranking", CVPR 2014. It fixes an order only, so it does
not tie the student to the teacher's coordinates: the paper's asymmetric runs with it fail.
"""

from __future__ import annotations

from torch import Tensor

from aml_edge.training.losses.embedding_rows import (
    Reduction,
    in_full_precision,
    positives_of,
    reduced,
    require_negatives,
    squared_distances,
)


@in_full_precision
def triplet(
    anchor: Tensor, positive: Tensor, negatives: Tensor, *, margin: float, reduction: Reduction = "mean"
) -> Tensor:
    """Returns Σ_p Σ_n [‖a − p‖² − ‖a − n‖² + m]₊ over the anchors a; of unit rows [2 s(a, n) − 2 s(a, p) + m]₊.

    Args:
        anchor: (B, D) student embeddings, rows L2-normalised.
        positive: (B, D) or (B, P, D), likewise; without positives the loss is 0.
        negatives: (B, N, D), likewise; without negatives the loss is 0.
        margin: m, of squared distances; published 0.1.
        reduction: over the B anchors.

    Raises:
        UsageError: the shapes do not belong together.
    """
    positives = positives_of(anchor, positive)
    require_negatives(anchor, negatives)
    near = squared_distances(anchor, positives, eps=0)[:, :, None]  # (B, P, 1)
    far = squared_distances(anchor, negatives, eps=0)[:, None, :]  # (B, 1, N)
    return reduced((near - far + margin).clamp(min=0).sum(dim=(1, 2)), reduction)
