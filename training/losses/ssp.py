"""SSP: block by block of coordinates, the student stands to the teacher's centroids as the teacher does.

Source: Wu, Wang, Zhou, Li, "Structure similarity preservation learning for asymmetric image retrieval", IEEE
Transactions on Multimedia 2024, the structure similarity and its Kullback-Leibler divergence; both, the temperature and
the product quantizer's settings as read from the authors' published code. There an empty cluster takes over half of
another one; here it stays where it is.

It ties the student to the teacher's coordinates, except for how long each block is: blocks are L2-normalised first.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from aml_edge.errors import UsageError
from aml_edge.training.losses.csd import require_shared_space
from aml_edge.training.losses.embedding_rows import Reduction, in_full_precision, reduced, safe_sqrt

SUBSPACES = 32
"""As in the authors' scripts."""


@in_full_precision
def ssp(
    student: Tensor,
    teacher: Tensor,
    *,
    bank: Tensor,
    subspaces: int = SUBSPACES,
    temperature: float = 0.1,
    reduction: Reduction = "mean",
) -> Tensor:
    """Returns Σ p log(p / q) over a block's centroids, the mean over blocks.

    Here p is the softmax of the cosines of the teacher's block to the centroids, and q that of the student's.

    Args:
        student: (B, D) embeddings, rows L2-normalised.
        teacher: (B, D) of the same images, likewise.
        bank: (K, D) centroids of teacher embeddings, in each block those of `product_centroids`.
        subspaces: number of blocks of D / subspaces coordinates each; the bank's.
        temperature: of both softmaxes.
        reduction: over the B images.

    Raises:
        UsageError: the shapes do not belong together.
    """
    require_shared_space(student, teacher)
    if bank.ndim != 2 or not len(bank) or bank.shape[1] != teacher.shape[1]:
        raise UsageError(
            f"`bank` is {tuple(bank.shape)} and `teacher` {tuple(teacher.shape)}; the bank must hold centroids of the "
            "same teacher, (K, D): make them with product_centroids."
        )
    centroids = _unit_blocks(bank, subspaces)  # (S, K, D/S)
    of_student, of_teacher = (
        functional.log_softmax(_unit_blocks(rows, subspaces) @ centroids.mT / temperature, dim=2)  # (S, B, K)
        for rows in (student, teacher)
    )
    divergences = functional.kl_div(of_student, of_teacher, reduction="none", log_target=True)
    return reduced(divergences.sum(dim=2).mean(dim=0), reduction)


@torch.no_grad()
@in_full_precision
def product_centroids(
    embeddings: Tensor,
    *,
    generator: torch.Generator,
    centroids: int = 256,
    subspaces: int = SUBSPACES,
    iterations: int = 10,
    restarts: int = 2,
) -> Tensor:
    """Returns the centroids of a product quantizer, (K, D): in each block of columns those of the rows' same block.

    Each block is clustered on its own, by k-means from rows drawn at random, and the best of several starts is kept.

    Args:
        embeddings: (N, D) of the teacher, N at least centroids; they may be a sample, k-means holds N K distances.
        generator: draws the first centroids; the same seed gives the same centroids again, on a CPU bit for bit.
        centroids, subspaces, iterations, restarts: as in the authors' code.

    Raises:
        UsageError: there are fewer embeddings than centroids, or no such blocks.
    """
    if embeddings.ndim != 2 or not 1 <= centroids <= len(embeddings):
        raise UsageError(
            f"`centroids` is {centroids} of embeddings {tuple(embeddings.shape)}; there must be at least as many "
            "embeddings, (N, D): set fewer centroids, or give more embeddings."
        )
    of_blocks = []
    for block in _blocks(embeddings, subspaces):
        starts = [_k_means(block, centroids, iterations, generator) for _ in range(restarts)]
        of_blocks.append(min(starts, key=lambda start: float(_up_to_norms(block, start).amin(dim=1).sum())))
    return torch.cat(of_blocks, dim=1)


def _k_means(rows: Tensor, count: int, iterations: int, generator: torch.Generator) -> Tensor:
    drawn = torch.randperm(len(rows), generator=generator, device=generator.device)[:count]
    centroids = rows[drawn.to(rows.device)]
    for _ in range(iterations):
        nearest = _up_to_norms(rows, centroids).argmin(dim=1)
        sizes = nearest.bincount(minlength=count)[:, None]
        sums = torch.zeros_like(centroids).index_add(0, nearest, rows)
        centroids = torch.where(sizes > 0, sums / sizes.clamp(min=1), centroids)
    return centroids


def _up_to_norms(rows: Tensor, centroids: Tensor) -> Tensor:
    """Returns ‖x − c‖² − ‖x‖², (N, K), which has the same nearest centroids and the same best start."""
    return torch.addmm(centroids.square().sum(dim=1), rows, centroids.T, alpha=-2)


def _blocks(rows: Tensor, subspaces: int) -> Tensor:
    """Returns the rows as blocks, (S, N, D/S)."""
    if subspaces < 1 or rows.shape[1] % subspaces:
        raise UsageError(
            f"`subspaces` is {subspaces} of {rows.shape[1]} dimensions; it must divide them: set another number."
        )
    return rows.reshape(len(rows), subspaces, rows.shape[1] // subspaces).transpose(0, 1)


def _unit_blocks(rows: Tensor, subspaces: int) -> Tensor:
    """Returns L2-normalised blocks, (S, N, D/S); a block of zeros stays one."""
    blocks = _blocks(rows, subspaces)
    norms = safe_sqrt(blocks.square().sum(dim=2, keepdim=True))
    return blocks / norms.where(norms > 0, 1)
