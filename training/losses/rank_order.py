"""ROP: the student ranks an image's neighbours as the teacher does, against the teacher's own similarities.

Source: Wu et al., "A general rank preserving framework for asymmetric image retrieval", ICLR 2023, rank order
preservation, with the sigmoid in place of the step. Not read from the paper's formulas but from the reimplementation by
the authors of D3still, which names them equations 8 to 10 and tuned the values anew: the sigmoid's temperature, the
sharpness and that a place's weight grows with the place are as found there.

Thresholds and neighbours are the teacher's, so it ties the student to the teacher's coordinates, in the directions that
an image's list spans; but it asks for an order only, and is not 0 at the teacher's own embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from aml_edge.training.losses.csd import listed_similarities
from aml_edge.training.losses.embedding_rows import Reduction, in_full_precision, reduced

STEP_TEMPERATURE = 1e-6
"""Of the teacher's sigmoid, which is a step but for ties."""


@in_full_precision
def rank_order(
    student: Tensor,
    teacher: Tensor,
    *,
    bank: Tensor | None = None,
    neighbours: int | None = None,
    temperature: float = 0.1,
    sharpness: float = 0.2,
    reduction: Reduction = "mean",
) -> Tensor:
    """Returns Σ_i w_i Σ_j (step(t_j − t_i) − sigmoid((s_j − t_i) / T))² / L over each image's list of L.

    Here s and t are the student's and the teacher's similarities, in the teacher's order; w_i is i times the softmax of
    t times the sharpness.

    Args:
        student: (B, D) embeddings, rows L2-normalised.
        teacher: (B, D) of the same images, likewise.
        bank: (M, D) teacher embeddings to find the neighbours in; the batch's own where there is none.
        neighbours: L − 1; (B, L, L) values are held. See `csd.listed_similarities`.
        temperature: T.
        sharpness: see above; at 0 the softmax is 1 / L.
        reduction: over the B images.

    Raises:
        UsageError: the shapes do not belong together, or the bank is too small.
    """
    of_student, of_teacher = listed_similarities(student, teacher, bank, neighbours)
    length = of_teacher.shape[1]
    places = torch.arange(1, length + 1, dtype=of_teacher.dtype, device=of_teacher.device)
    weights = places * torch.softmax(sharpness * of_teacher, dim=1)  # (B, L)
    thresholds = of_teacher[:, :, None]
    above = torch.sigmoid((of_teacher[:, None, :] - thresholds) / STEP_TEMPERATURE)  # (B, L, L)
    found_above = torch.sigmoid((of_student[:, None, :] - thresholds) / temperature)
    per_place = (above - found_above).square().sum(dim=2)
    return reduced((weights * per_place).sum(dim=1) / length, reduction)
