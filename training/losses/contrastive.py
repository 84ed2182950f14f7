"""Contr and Contr⁺: the anchor near its positives, and away from negatives that are nearer than a margin.

Source: Budnik and Avrithis, "Asymmetric metric learning for knowledge transfer", CVPR 2021, the contrastive losses. The
paper writes them with similarities; its published runs use distances. Given teacher embeddings as positives and
negatives both tie the student to the teacher's coordinates; given the student's own they do not.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from aml_edge.errors import UsageError
from aml_edge.training.losses.embedding_rows import (
    Reduction,
    in_full_precision,
    positives_of,
    reduced,
    require_negatives,
    similarities,
    squared_distances,
)
from aml_edge.training.losses.regression import DIFFERENCE_EPS

Form = Literal["distance", "similarity"]


@in_full_precision
def contrastive(
    anchor: Tensor,
    positive: Tensor,
    negatives: Tensor,
    *,
    margin: float,
    form: Form = "distance",
    reduction: Reduction = "mean",
    eps: float = DIFFERENCE_EPS,
) -> Tensor:
    """Returns Σ_p ½‖a − p‖² + Σ_n ½[m − ‖a − n‖]₊² over the anchors a, or Σ_n [s(a, n) − m]₊ − Σ_p s(a, p).

    Args:
        anchor: (B, D) student embeddings, rows L2-normalised.
        positive: (B, D) or (B, P, D), likewise; P may be 0.
        negatives: (B, N, D), likewise; N may be 0.
        margin: m; a distance (published 0.7) or a similarity.
        form: as published, with distances, or as written in the paper, with similarities.
        reduction: over the B anchors.
        eps: added to each element of a difference, as published; of the distance form only.

    Raises:
        UsageError: the shapes do not belong together, or there is no such form.
    """
    positives = positives_of(anchor, positive)
    require_negatives(anchor, negatives)
    if form == "similarity":
        pushed = (similarities(anchor, negatives) - margin).clamp(min=0)  # (B, N)
        pulled = -similarities(anchor, positives)  # (B, P)
    elif form == "distance":
        pushed = 0.5 * (margin - squared_distances(anchor, negatives, eps).sqrt()).clamp(min=0).square()
        pulled = 0.5 * squared_distances(anchor, positives, eps)
    else:
        raise UsageError(f"`form` is {form!r}; it must be 'distance' or 'similarity'.")
    return reduced(pushed.sum(dim=1) + pulled.sum(dim=1), reduction)


@in_full_precision
def contrastive_plus(
    anchor: Tensor,
    positive: Tensor,
    negatives: Tensor,
    *,
    teacher_anchor: Tensor,
    margin: float,
    form: Form = "distance",
    reduction: Reduction = "mean",
    eps: float = DIFFERENCE_EPS,
) -> Tensor:
    """Returns `contrastive` with one more positive: the teacher's embedding of the anchor itself, (B, D).

    Args and errors are those of `contrastive`.
    """
    positives = torch.cat([positives_of(anchor, positive), positives_of(anchor, teacher_anchor)], dim=1)
    return contrastive(anchor, positives, negatives, margin=margin, form=form, reduction=reduction, eps=eps)
