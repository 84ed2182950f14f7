"""SSP and its centroids against their definitions written out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from aml_edge.errors import UsageError
from aml_edge.training.losses.ssp import product_centroids, ssp

UnitRows = Callable[[int, int, int], Tensor]
EXACT = 1e-9


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def written_out(student: Tensor, teacher: Tensor, bank: Tensor, subspaces: int, temperature: float) -> float:
    """The definition, block by block; the mean over images and blocks."""
    width = bank.shape[1] // subspaces
    total = 0.0
    for image, own in zip(student, teacher, strict=True):
        for start in range(0, bank.shape[1], width):
            block = slice(start, start + width)
            probabilities = []
            for row in (own, image):
                cosines = [float(functional.cosine_similarity(row[block], one[block], dim=0)) for one in bank]
                weights = [math.exp(cosine / temperature) for cosine in cosines]
                probabilities.append([weight / sum(weights) for weight in weights])
            total += sum(p * math.log(p / q) for p, q in zip(*probabilities, strict=True))
    return total / len(student) / subspaces


@pytest.mark.parametrize(("subspaces", "temperature"), [(1, 0.1), (3, 0.1), (6, 0.1), (3, 0.5)])
def test_equals_the_definition_written_out(unit_rows: UnitRows, subspaces: int, temperature: float) -> None:
    student, teacher, bank = unit_rows(5, 12, 0), unit_rows(5, 12, 1), 3 * unit_rows(7, 12, 2)
    loss = ssp(student, teacher, bank=bank, subspaces=subspaces, temperature=temperature)
    assert loss.item() == pytest.approx(written_out(student, teacher, bank, subspaces, temperature), abs=EXACT)


def test_nothing_is_left_to_learn_on_the_teacher_s_own_embeddings(unit_rows: UnitRows) -> None:
    student = unit_rows(5, 12, 0).requires_grad_()
    loss = ssp(student, student.detach(), bank=unit_rows(7, 12, 2), subspaces=3)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert gradient.abs().max().item() == pytest.approx(0, abs=1e-12)


def test_the_length_of_a_block_is_free_and_its_axes_are_not(unit_rows: UnitRows) -> None:
    """Unlike similarities of whole embeddings: longer blocks cost nothing, a turn of everything does."""
    student, teacher, bank = unit_rows(5, 12, 0), unit_rows(5, 12, 1), unit_rows(7, 12, 2)
    expected = ssp(student, teacher, bank=bank, subspaces=3).item()
    lengths = torch.tensor([0.2, 1.0, 5.0], dtype=torch.float64).repeat_interleave(4)
    assert ssp(student * lengths, teacher, bank=bank, subspaces=3).item() == pytest.approx(expected, abs=1e-12)
    turn, _ = torch.linalg.qr(unit_rows(12, 12, 3))
    assert abs(ssp(student @ turn, teacher @ turn, bank=bank @ turn, subspaces=3).item() - expected) > 1e-3


def test_a_block_of_zeros_has_a_finite_gradient(unit_rows: UnitRows) -> None:
    student = unit_rows(3, 12, 0)
    student[:, :4] = 0
    student.requires_grad_()
    loss = ssp(student, unit_rows(3, 12, 1), bank=unit_rows(7, 12, 2), subspaces=3)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.isfinite()
    assert gradient.abs().max() < 100


def test_one_image_does_and_one_centroid_tells_nothing(unit_rows: UnitRows) -> None:
    assert ssp(unit_rows(1, 8, 0), unit_rows(1, 8, 1), bank=unit_rows(4, 8, 2), subspaces=2).item() > 0
    assert ssp(unit_rows(3, 8, 0), unit_rows(3, 8, 1), bank=unit_rows(1, 8, 2), subspaces=2).item() == 0


def one_k_means(rows: Tensor, centroids: Tensor, iterations: int) -> Tensor:
    """Lloyd's iterations, row by row."""
    for _ in range(iterations):
        members: list[list[Tensor]] = [[] for _ in centroids]
        for row in rows:
            distances = [float((row - centroid).square().sum()) for centroid in centroids]
            members[distances.index(min(distances))].append(row)
        centroids = torch.stack(
            [torch.stack(one).mean(dim=0) if one else centroids[label] for label, one in enumerate(members)]
        )
    return centroids


def test_centroids_are_those_of_k_means_in_each_block(unit_rows: UnitRows) -> None:
    embeddings = unit_rows(40, 6, 0)
    found = product_centroids(embeddings, generator=seeded(3), centroids=5, subspaces=2, iterations=4, restarts=1)
    generator = seeded(3)
    for block in (slice(0, 3), slice(3, 6)):
        rows = embeddings[:, block]
        first = rows[torch.randperm(40, generator=generator)[:5]]
        torch.testing.assert_close(found[:, block], one_k_means(rows, first, 4), atol=1e-12, rtol=0)


def test_groups_far_apart_are_found(unit_rows: UnitRows) -> None:
    """The groups' places in the two blocks differ, so that their centroids are in another order there."""
    places = torch.tensor([[0.0, 0, 20, 20], [10, 10, 0, 0], [20, 20, 10, 10]], dtype=torch.float64)
    embeddings = torch.cat([place + 0.01 * unit_rows(20, 4, seed) for seed, place in enumerate(places)])
    found = product_centroids(embeddings, generator=seeded(), centroids=3, subspaces=2, restarts=10)
    means = embeddings.reshape(3, 20, 4).mean(dim=1)
    torch.testing.assert_close(found.sort(dim=0).values, means.sort(dim=0).values, atol=1e-12, rtol=0)


def test_one_centroid_is_the_mean_and_as_many_as_rows_are_the_rows(unit_rows: UnitRows) -> None:
    embeddings = unit_rows(9, 4, 0)
    mean = product_centroids(embeddings, generator=seeded(), centroids=1, subspaces=2)
    torch.testing.assert_close(mean, embeddings.mean(dim=0, keepdim=True))
    rows = product_centroids(embeddings, generator=seeded(), centroids=9, subspaces=1)
    torch.testing.assert_close(rows.sort(dim=0).values, embeddings.sort(dim=0).values)


def error(embeddings: Tensor, centroids: Tensor) -> float:
    return float(torch.cdist(embeddings, centroids).amin(dim=1).square().sum())


def test_more_iterations_and_more_starts_do_not_make_it_worse(unit_rows: UnitRows) -> None:
    embeddings = unit_rows(60, 3, 0)

    def made(iterations: int, restarts: int) -> float:
        centroids = product_centroids(
            embeddings, generator=seeded(), centroids=6, subspaces=1, iterations=iterations, restarts=restarts
        )
        return error(embeddings, centroids)

    errors = [made(iterations, 1) for iterations in (0, 1, 2, 5, 20)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > errors[-1]
    starts = [made(20, restarts) for restarts in (1, 2, 5, 20)]
    assert starts == sorted(starts, reverse=True)
    assert starts[0] > starts[-1]


def test_the_same_seed_gives_the_same_centroids_and_another_others(unit_rows: UnitRows) -> None:
    embeddings = unit_rows(60, 8, 0).requires_grad_()
    first, again, other = (
        product_centroids(embeddings, generator=seeded(seed), centroids=6, subspaces=4) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not first.requires_grad


def test_equal_embeddings_leave_centroids_where_they_are(unit_rows: UnitRows) -> None:
    embeddings = unit_rows(1, 4, 0).expand(10, 4)
    found = product_centroids(embeddings, generator=seeded(), centroids=3, subspaces=2)
    torch.testing.assert_close(found, embeddings[:3])


def test_half_precision_is_widened(unit_rows: UnitRows) -> None:
    embeddings = unit_rows(30, 8, 0).half()
    found = product_centroids(embeddings, generator=seeded(), centroids=4, subspaces=2)
    assert torch.equal(found, product_centroids(embeddings.float(), generator=seeded(), centroids=4, subspaces=2))


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        ((9, 8), {"centroids": 10}, r"`centroids` is 10 of embeddings \(9, 8\); there must be at least as many embed"),
        ((9, 8), {"centroids": 0}, r"`centroids` is 0 of embeddings \(9, 8\); .*: set fewer centroids, or give more"),
        ((9,), {"centroids": 3}, r"`centroids` is 3 of embeddings \(9,\)"),
        (
            (9, 8),
            {"centroids": 3, "subspaces": 3},
            r"`subspaces` is 3 of 8 dimensions; it must divide them: set another number",
        ),
        (
            (9, 8),
            {"centroids": 3, "subspaces": 0},
            r"`subspaces` is 0 of 8 dimensions; it must divide them: set another number",
        ),
    ],
)
def test_impossible_centroids_are_refused(shape: tuple[int, ...], settings: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        product_centroids(torch.zeros(shape), generator=seeded(), **settings)


@pytest.mark.parametrize("shape", [(7, 6), (8,), (0, 8)])
def test_a_bank_of_another_teacher_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        ssp(torch.zeros(2, 8), torch.zeros(2, 8), bank=torch.zeros(shape), subspaces=2)
    assert str(caught.value) == (
        f"`bank` is {shape} and `teacher` (2, 8); the bank must hold centroids of the same teacher, (K, D): "
        "make them with product_centroids."
    )


def test_blocks_that_do_not_divide_the_dimension_are_refused() -> None:
    with pytest.raises(UsageError, match="`subspaces` is 32 of 8 dimensions; it must divide them: set another number"):
        ssp(torch.zeros(2, 8), torch.zeros(2, 8), bank=torch.zeros(4, 8))
