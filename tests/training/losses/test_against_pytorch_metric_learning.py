"""Contr, Contr⁺, Triplet and MS against pytorch-metric-learning, where it has the same loss.

How ours maps onto theirs: an anchor is a row of `embeddings`, a positive or negative a row of `ref_emb`, and
`indices_tuple` says which belongs to which. Their distances are told not to normalise and add nothing to a difference,
so ours get eps 0. They reduce over pairs or triplets and ours over anchors, so the sum is asked for on both sides;
except of MS, whose unit is the anchor here and there.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from pytorch_metric_learning import distances, losses, reducers
from torch import Tensor
from torch.nn import functional

from aml_edge.training.losses.contrastive import contrastive, contrastive_plus
from aml_edge.training.losses.multi_similarity import multi_similarity
from aml_edge.training.losses.triplet import triplet

ANCHORS, POSITIVES, NEGATIVES, DIMENSION = 4, 2, 5, 6
EXACT = 1e-9


@pytest.fixture
def tuples() -> tuple[Tensor, Tensor, Tensor]:
    """Anchors (B, D), positives (B, P, D) and negatives (B, N, D), unit rows; some negatives are near."""
    generator = torch.Generator().manual_seed(0)
    count = ANCHORS * (1 + POSITIVES + NEGATIVES)
    rows = functional.normalize(torch.randn(count, DIMENSION, generator=generator, dtype=torch.float64))
    anchor, positive, negatives = torch.split(rows, [ANCHORS, ANCHORS * POSITIVES, ANCHORS * NEGATIVES])
    negatives = negatives.reshape(ANCHORS, NEGATIVES, DIMENSION).clone()
    negatives[:, :2] = functional.normalize(anchor[:, None] + 0.6 * negatives[:, :2], dim=2)
    apart = (anchor[:, None] - negatives).norm(dim=2)
    assert apart.min() < 0.7 < 1.3 < apart.max()  # on both sides of every margin below
    return anchor.requires_grad_(), positive.reshape(ANCHORS, POSITIVES, DIMENSION), negatives


def same(ours: Tensor, theirs: Tensor, anchor: Tensor) -> None:
    """Checks value and gradient."""
    gradients = [torch.autograd.grad(loss, anchor)[0] for loss in (ours, theirs)]
    assert ours.item() == pytest.approx(theirs.item(), abs=EXACT)
    assert ours.item() != 0
    torch.testing.assert_close(*gradients, atol=EXACT, rtol=0)


def paired(positive: Tensor, negatives: Tensor) -> dict[str, object]:
    """Returns `ref_emb` and `indices_tuple` that pair each anchor with its own positives and negatives."""
    counts = positive.shape[1], negatives.shape[1]
    of_positives, of_negatives = (torch.arange(ANCHORS).repeat_interleave(count) for count in counts)
    positives_at = torch.arange(len(of_positives))
    negatives_at = len(of_positives) + torch.arange(len(of_negatives))
    return {
        "ref_emb": torch.cat([positive.flatten(0, 1), negatives.flatten(0, 1)]),
        "indices_tuple": (of_positives, positives_at, of_negatives, negatives_at),
    }


def tripled(positive: Tensor, negatives: Tensor) -> dict[str, object]:
    """Returns the same with all triplets of an anchor, a positive of it and a negative of it."""
    grid = torch.cartesian_prod(torch.arange(ANCHORS), torch.arange(POSITIVES), torch.arange(NEGATIVES))
    anchors, of_positive, of_negative = grid.unbind(dim=1)
    first_negative = ANCHORS * POSITIVES
    return {
        "ref_emb": torch.cat([positive.flatten(0, 1), negatives.flatten(0, 1)]),
        "indices_tuple": (
            anchors,
            anchors * POSITIVES + of_positive,
            first_negative + anchors * NEGATIVES + of_negative,
        ),
    }


def their_contrastive(anchor: Tensor, positive: Tensor, negatives: Tensor, margin: float) -> Tensor:
    """Returns ½ Σ of the squares of their pair losses, which are ‖a − p‖ and [m − ‖a − n‖]₊ with positive margin 0."""
    loss = losses.ContrastiveLoss(
        pos_margin=0,
        neg_margin=margin,
        distance=distances.LpDistance(normalize_embeddings=False),
        reducer=reducers.DoNothingReducer(),
    )
    parts = loss(anchor, **paired(positive, negatives))
    total: Tensor = sum(0.5 * parts[name]["losses"].square().sum() for name in ("pos_loss", "neg_loss"))
    return total


@pytest.mark.parametrize("margin", [0.7, 0.85, 1.3])
def test_contrastive_is_half_the_square_of_theirs(tuples: tuple[Tensor, Tensor, Tensor], margin: float) -> None:
    anchor, positive, negatives = tuples
    ours = contrastive(anchor, positive, negatives, margin=margin, reduction="sum", eps=0)
    same(ours, their_contrastive(anchor, positive, negatives, margin), anchor)


@pytest.mark.parametrize("margin", [0.7, 1.3])
def test_contrastive_plus_has_the_teacher_s_anchor_among_the_positives(
    tuples: tuple[Tensor, Tensor, Tensor], margin: float
) -> None:
    anchor, positive, negatives = tuples
    teacher_anchor = functional.normalize(anchor.detach() + positive[:, 0])
    ours = contrastive_plus(
        anchor, positive, negatives, teacher_anchor=teacher_anchor, margin=margin, reduction="sum", eps=0
    )
    theirs = their_contrastive(anchor, torch.cat([positive, teacher_anchor[:, None]], dim=1), negatives, margin)
    same(ours, theirs, anchor)


@pytest.mark.parametrize("margin", [0.2, 0.7])
def test_contrastive_of_similarities_is_theirs_less_one_a_positive(
    tuples: tuple[Tensor, Tensor, Tensor], margin: float
) -> None:
    """Theirs counts a positive as [1 − s]₊, ours as −s."""
    anchor, positive, negatives = tuples
    loss = losses.ContrastiveLoss(
        pos_margin=1,
        neg_margin=margin,
        distance=distances.DotProductSimilarity(normalize_embeddings=False),
        reducer=reducers.SumReducer(),
    )
    theirs = loss(anchor, **paired(positive, negatives)) - ANCHORS * POSITIVES
    same(contrastive(anchor, positive, negatives, margin=margin, form="similarity", reduction="sum"), theirs, anchor)


@pytest.mark.parametrize("margin", [0.1, 0.5])
def test_triplet_is_theirs_of_squared_distances(tuples: tuple[Tensor, Tensor, Tensor], margin: float) -> None:
    anchor, positive, negatives = tuples
    loss = losses.TripletMarginLoss(
        margin=margin,
        distance=distances.LpDistance(normalize_embeddings=False, power=2),
        reducer=reducers.SumReducer(),
    )
    theirs = loss(anchor, **tripled(positive, negatives))
    same(triplet(anchor, positive, negatives, margin=margin, reduction="sum"), theirs, anchor)


@pytest.mark.parametrize(("threshold", "alpha", "beta"), [(0.5, 2, 40), (0.8, 4, 10)])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_multi_similarity_is_theirs(
    tuples: tuple[Tensor, Tensor, Tensor], threshold: float, alpha: float, beta: float, reduction: str
) -> None:
    anchor, positive, negatives = tuples
    by_name: dict[str, Callable[[], object]] = {"mean": reducers.MeanReducer, "sum": reducers.SumReducer}
    loss = losses.MultiSimilarityLoss(
        alpha=alpha,
        beta=beta,
        base=threshold,
        distance=distances.DotProductSimilarity(normalize_embeddings=False),
        reducer=by_name[reduction](),
    )
    theirs = loss(anchor, **paired(positive, negatives))
    ours = multi_similarity(
        anchor,
        positive,
        negatives,
        threshold=threshold,
        alpha=alpha,
        beta=beta,
        reduction="mean" if reduction == "mean" else "sum",
    )
    same(ours, theirs, anchor)
