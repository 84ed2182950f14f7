"""Each loss gets the right tensors, and settings that do not belong together are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from aml_edge.errors import UsageError
from aml_edge.image_loading import ImageItem
from aml_edge.space import EmbeddingSpace
from aml_edge.training.losses import LOSSES, Bank, Takes
from aml_edge.training.losses.contrastive import contrastive, contrastive_plus
from aml_edge.training.losses.csd import csd
from aml_edge.training.losses.d3still import d3still
from aml_edge.training.losses.dark_rank import dark_rank
from aml_edge.training.losses.multi_similarity import multi_similarity
from aml_edge.training.losses.raml import raml
from aml_edge.training.losses.rank_order import rank_order
from aml_edge.training.losses.regression import regression
from aml_edge.training.losses.relational import relational
from aml_edge.training.losses.ssp import product_centroids, ssp
from aml_edge.training.losses.triplet import triplet
from aml_edge.training.objective import Objective, leaves_the_space, require_possible
from aml_edge.training.settings import Mining, Mode, OptionValue, TrainingSettings
from aml_edge.training.training_set import TeacherEmbeddings, TrainingSet
from aml_edge.training.tuples import Tuples

IMAGES, DIMENSION = 12, 6
SINGLE_PRECISION = 1e-6
TUPLES = Tuples(
    anchors=np.array([7, 0, 4]),
    positives=np.array([[9], [7], [4]]),  # an anchor may be a positive, and a positive the anchor itself
    negatives=np.array([[1, 0], [3, 11], [9, 1]]),
)
FIVE = Tuples(np.array([7, 0, 4, 2, 11]), np.empty((5, 0), np.int64), np.empty((5, 0), np.int64))
Direct = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
OF_TUPLES: dict[str, tuple[dict[str, OptionValue], Direct]] = {
    "contrastive": (
        {"margin": 0.8, "form": "similarity"},
        lambda a, p, n, t: contrastive(a, p, n, margin=0.8, form="similarity", reduction="sum"),
    ),
    "triplet": ({"margin": 0.3}, lambda a, p, n, t: triplet(a, p, n, margin=0.3, reduction="sum")),
    "multi_similarity": (
        {"threshold": 0.4, "beta": 9},
        lambda a, p, n, t: multi_similarity(a, p, n, threshold=0.4, beta=9, reduction="sum"),
    ),
    "contrastive_plus": (
        {"margin": 1.2},
        lambda a, p, n, t: contrastive_plus(a, p, n, teacher_anchor=t, margin=1.2, reduction="sum"),
    ),
}
OF_IMAGES: dict[str, tuple[dict[str, OptionValue], Callable[..., Tensor]]] = {
    "regression": ({"eps": 0.01}, lambda s, t: regression(s, t, eps=0.01, reduction="sum")),
    "relational": ({"angle_weight": 0.5}, lambda s, t: relational(s, t, angle_weight=0.5, reduction="sum")),
    "dark_rank": (
        {"list_length": 3, "alpha": 2},
        lambda s, t: dark_rank(s, t, list_length=3, alpha=2, reduction="sum"),
    ),
    "raml": ({"student_weight": 3}, lambda s, t: raml(s, t, student_weight=3, reduction="sum")),
    "csd": ({"neighbours": 2}, lambda s, t, **bank: csd(s, t, neighbours=2, reduction="sum", **bank)),
    "d3still": ({"neighbours": 3}, lambda s, t, **bank: d3still(s, t, neighbours=3, reduction="sum", **bank)),
    "rank_order": ({"neighbours": 2}, lambda s, t, **bank: rank_order(s, t, neighbours=2, reduction="sum", **bank)),
    "ssp": ({"subspaces": 3}, lambda s, t, **bank: ssp(s, t, subspaces=3, reduction="sum", **bank)),
}
OPTIONS = {name: options for name, (options, _) in (OF_TUPLES | OF_IMAGES).items()}
SYMMETRIC = TrainingSettings(mode=Mode.SYMMETRIC, warm_start=False, mining=Mining.HARD)


def rows(seed: int) -> Tensor:
    """Returns unit rows, one for each image."""
    values = torch.rand(IMAGES, DIMENSION, generator=torch.Generator().manual_seed(seed))
    normalised: Tensor = values / values.norm(dim=1, keepdim=True)
    return normalised


STUDENT, TEACHER = rows(0), rows(1)


@pytest.fixture
def teaching_set() -> TrainingSet:
    items = tuple(ImageItem(Path(f"{row}")) for row in range(IMAGES))
    space = EmbeddingSpace("toy", "0" * 64, DIMENSION)
    return TrainingSet(items, teacher=TeacherEmbeddings(TEACHER.numpy(), space))


def settings_of(name: str, options: dict[str, OptionValue]) -> TrainingSettings:
    mining = Mining.HARD if LOSSES[name].takes is Takes.TUPLES else Mining.NONE
    bank_size = 4 if LOSSES[name].bank is Bank.CENTROIDS else 0
    return TrainingSettings(loss=name, loss_options=options, mining=mining, bank_size=bank_size)


def loss_and_gradient(objective: Objective, tuples: Tuples) -> tuple[Tensor, Tensor]:
    """Returns the loss, and its gradient (N, D) with respect to the student's embedding of each image."""
    student = STUDENT.clone().requires_grad_()
    images = objective.images_of(tuples)
    loss = objective.loss_sum(tuples, images, student[torch.from_numpy(images.rows)])
    (gradient,) = torch.autograd.grad(loss, student)
    return loss.detach(), gradient


def test_every_loss_is_tried_here() -> None:
    assert {name for name, spec in LOSSES.items() if spec.takes is Takes.TUPLES} == set(OF_TUPLES)
    assert {name for name, spec in LOSSES.items() if spec.takes is Takes.IMAGES} == set(OF_IMAGES)


@pytest.mark.parametrize("name", OF_TUPLES)
def test_in_asymmetric_mode_the_teacher_embeds_all_but_the_anchor(teaching_set: TrainingSet, name: str) -> None:
    options, direct = OF_TUPLES[name]
    loss, gradient = loss_and_gradient(Objective(settings_of(name, options), teaching_set), TUPLES)
    student = STUDENT.clone().requires_grad_()
    expected = torch.zeros(())
    for anchor, positives, negatives in zip(TUPLES.anchors, TUPLES.positives, TUPLES.negatives, strict=True):
        one = student[[anchor]], TEACHER[positives][None], TEACHER[negatives][None], TEACHER[[anchor]]
        expected = expected + direct(*one)
    torch.testing.assert_close(loss, expected.detach(), rtol=SINGLE_PRECISION, atol=0)
    torch.testing.assert_close(
        gradient, torch.autograd.grad(expected, student)[0], rtol=SINGLE_PRECISION, atol=SINGLE_PRECISION
    )
    assert set(gradient.abs().sum(dim=1).nonzero()[:, 0].tolist()) <= {7, 0, 4}


@pytest.mark.parametrize("name", ["contrastive", "triplet", "multi_similarity"])
def test_in_symmetric_mode_the_network_embeds_all(name: str) -> None:
    options, direct = OF_TUPLES[name]
    settings = replace(SYMMETRIC, loss=name, loss_options=options)
    alone = TrainingSet(tuple(ImageItem(Path(f"{row}")) for row in range(IMAGES)))
    loss, gradient = loss_and_gradient(Objective(settings, alone), TUPLES)
    student = STUDENT.clone().requires_grad_()
    expected = torch.zeros(())
    for anchor, positives, negatives in zip(TUPLES.anchors, TUPLES.positives, TUPLES.negatives, strict=True):
        expected = expected + direct(
            student[[anchor]], student[positives][None], student[negatives][None], torch.empty(0)
        )
    torch.testing.assert_close(loss, expected.detach(), rtol=SINGLE_PRECISION, atol=0)
    torch.testing.assert_close(
        gradient, torch.autograd.grad(expected, student)[0], rtol=SINGLE_PRECISION, atol=SINGLE_PRECISION
    )
    assert set(gradient.abs().sum(dim=1).nonzero()[:, 0].tolist()) - {7, 0, 4}


@pytest.mark.parametrize("name", OF_IMAGES)
@pytest.mark.parametrize("bank_size", [0, 4, 100])
def test_a_loss_of_images_compares_both_embeddings_of_each(
    teaching_set: TrainingSet, name: str, bank_size: int
) -> None:
    options, direct = OF_IMAGES[name]
    settings = settings_of(name, options)
    if bank_size and LOSSES[name].bank is Bank.EMBEDDINGS:
        settings = replace(settings, bank_size=bank_size)
    objective = Objective(settings, teaching_set)
    bank = {} if objective.bank is None else {"bank": objective.bank}
    assert bool(bank) is bool(settings.bank_size)
    loss, gradient = loss_and_gradient(objective, FIVE)
    student = STUDENT.clone().requires_grad_()
    expected = direct(student[FIVE.anchors.tolist()], TEACHER[FIVE.anchors.tolist()], **bank)
    torch.testing.assert_close(loss, expected.detach(), rtol=SINGLE_PRECISION, atol=0)
    torch.testing.assert_close(
        gradient, torch.autograd.grad(expected, student)[0], rtol=SINGLE_PRECISION, atol=SINGLE_PRECISION
    )


@pytest.mark.parametrize("bank_size", [0, 12])
@pytest.mark.parametrize("name", OPTIONS)
def test_a_loss_that_can_be_divided_is_the_sum_of_its_parts(
    teaching_set: TrainingSet, name: str, bank_size: int
) -> None:
    """And only such a one: of relations in the batch each part is another loss, or there is none of so few images."""
    settings = settings_of(name, OPTIONS[name])
    if bank_size and LOSSES[name].bank is Bank.EMBEDDINGS:
        settings = replace(settings, bank_size=bank_size)
    objective = Objective(settings, teaching_set)
    tuples = TUPLES if name in OF_TUPLES else FIVE
    whole = loss_and_gradient(objective, tuples)[0].item()
    try:
        parts = sum(loss_and_gradient(objective, part)[0].item() for part in tuples.batches(2))
    except UsageError:
        parts = float("nan")
    assert objective.whole_batch is (parts != pytest.approx(whole, rel=1e-5))


def test_a_bank_is_drawn_from_the_teachers_embeddings(teaching_set: TrainingSet) -> None:
    settings = replace(settings_of("csd", {"neighbours": 2}), bank_size=5)
    one, same = (Objective(settings, teaching_set).bank for _ in range(2))
    other = Objective(replace(settings, seed=1), teaching_set).bank
    every = Objective(replace(settings, bank_size=100), teaching_set).bank
    assert one is not None and same is not None and other is not None and every is not None
    places = [(TEACHER == row).all(dim=1).nonzero().item() for row in one]
    assert len(set(places)) == 5
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert sorted(every.tolist()) == sorted(TEACHER.tolist())


def test_a_bank_of_centroids_is_that_of_the_product_quantizer(teaching_set: TrainingSet) -> None:
    objective = Objective(replace(settings_of("ssp", {"subspaces": 3}), seed=7), teaching_set)
    generator = torch.Generator().manual_seed(7)
    expected = product_centroids(TEACHER, generator=generator, centroids=4, subspaces=3)
    assert objective.bank is not None and torch.equal(objective.bank, expected)


def test_validation_can_be_given_the_bank_of_the_training(teaching_set: TrainingSet) -> None:
    settings = replace(settings_of("csd", {"neighbours": 2}), bank_size=5)
    theirs = rows(2)[:4]
    objective = Objective(settings, teaching_set, bank=theirs)
    loss, _ = loss_and_gradient(objective, FIVE)
    anchors = FIVE.anchors.tolist()
    expected = csd(STUDENT[anchors], TEACHER[anchors], bank=theirs, neighbours=2, reduction="sum")
    torch.testing.assert_close(loss, expected, rtol=SINGLE_PRECISION, atol=0)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_bank_is_for_the_losses_that_take_one(name: str) -> None:
    settings, bank = replace(settings_of(name, OPTIONS[name]), bank_size=9), LOSSES[name].bank
    assert (bank is not Bank.NONE) is (name in ("csd", "d3still", "rank_order", "ssp"))
    if bank is Bank.NONE:
        with pytest.raises(UsageError) as caught:
            require_possible(settings)
        assert str(caught.value) == f"`bank_size` is 9, but the loss {name} takes no bank; set it to 0."
    else:
        require_possible(settings)
    if bank is Bank.CENTROIDS:
        with pytest.raises(UsageError) as caught:
            require_possible(replace(settings, bank_size=0))
        assert str(caught.value) == (
            "`bank_size` is 0, but the loss ssp needs centroids of teacher embeddings; set it to 256, say."
        )


def test_images_are_embedded_once_and_found_again(teaching_set: TrainingSet) -> None:
    asymmetric = Objective(settings_of("contrastive", {"margin": 0.7}), teaching_set).images_of(TUPLES)
    assert asymmetric.rows.tolist() == [0, 4, 7]
    assert asymmetric.places.tolist() == [[2], [0], [1]]
    settings = replace(SYMMETRIC, loss="contrastive", loss_options={"margin": 0.7})
    symmetric = Objective(settings, teaching_set).images_of(TUPLES)
    assert symmetric.rows.tolist() == [0, 1, 3, 4, 7, 9, 11]
    assert symmetric.rows[symmetric.places].tolist() == [[7, 9, 1, 0], [0, 7, 3, 11], [4, 4, 9, 1]]


def test_no_tuples_need_no_images(teaching_set: TrainingSet) -> None:
    images = Objective(settings_of("regression", {}), teaching_set).images_of(FIVE.part(0, 0))
    assert (images.rows.tolist(), images.places.shape) == ([], (0, 1))


@pytest.mark.parametrize("mining", Mining)
@pytest.mark.parametrize("name", OPTIONS)
def test_mining_is_for_losses_of_tuples(name: str, mining: Mining) -> None:
    settings = replace(settings_of(name, OPTIONS[name]), mining=mining)
    if (name in OF_TUPLES) is (mining is not Mining.NONE):
        require_possible(settings)
        return
    with pytest.raises(UsageError) as caught:
        require_possible(settings)
    assert str(caught.value) == (
        f"`mining` is 'none', but the loss {name} is a function of anchors with positives and negatives; "
        "it must be 'hard' or 'random'."
        if name in OF_TUPLES
        else f"`mining` is '{mining}', but the loss {name} is a function of student and teacher embeddings of the same "
        "images; it must be 'none'."
    )


@pytest.mark.parametrize("name", ["contrastive_plus", *OF_IMAGES])
def test_losses_that_need_a_teacher_are_not_for_symmetric_mode(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        require_possible(replace(settings_of(name, OPTIONS[name]), mode=Mode.SYMMETRIC, warm_start=False))
    assert str(caught.value) == (
        f"`mode` is 'symmetric', but the loss {name} needs a teacher; it must be 'asymmetric'."
    )


def test_an_impossible_loss_is_refused(teaching_set: TrainingSet) -> None:
    for settings, message in (
        (TrainingSettings(loss="hinge"), "`loss` is 'hinge'; it must be one of contrastive, "),
        (settings_of("triplet", {}), "the loss triplet needs `loss_options.margin`; give it a value."),
        (settings_of("triplet", {"margin": 1, "sharp": 2}), "`loss_options.sharp` is 2, but the loss triplet has no "),
    ):
        for refused in (require_possible, lambda of: Objective(of, teaching_set)):
            with pytest.raises(UsageError) as caught:
                refused(settings)
            assert str(caught.value).startswith(message)


def test_asymmetric_mode_needs_teacher_embeddings(teaching_set: TrainingSet) -> None:
    with pytest.raises(UsageError) as caught:
        Objective(TrainingSettings(), TrainingSet(teaching_set.items))
    assert str(caught.value) == "`mode` is 'asymmetric', which needs the teacher's index of the training images."


def test_only_coordinates_keep_a_student_in_the_space() -> None:
    """As the paper found: in asymmetric testing Reg, Contr and Contr⁺ work; Triplet, MS, RKD and DR fail."""
    leave = {name for name in OPTIONS if leaves_the_space(settings_of(name, OPTIONS[name]))}
    assert leave == {"triplet", "multi_similarity", "relational", "dark_rank"}
    assert leaves_the_space(replace(SYMMETRIC, loss="contrastive", loss_options={"margin": 0.7}))
