"""The table of losses, and how their options are set."""

from __future__ import annotations

import pytest
import torch

from aml_edge.errors import UsageError
from aml_edge.training.losses import LOSSES, Bank, Takes, loss_spec, loss_with_options
from aml_edge.training.losses.contrastive import contrastive
from aml_edge.training.losses.dark_rank import dark_rank
from aml_edge.training.settings import OptionValue

NEEDED = {"contrastive": {"margin": 0.7}, "contrastive_plus": {"margin": 0.7}, "triplet": {"margin": 0.1}}


def test_every_name_leads_to_the_loss_of_that_name() -> None:
    for name, spec in LOSSES.items():
        assert loss_spec(name) is spec
        assert spec.function.__name__ == name


def test_what_the_paper_calls_a_loss_is_there() -> None:
    assert set(LOSSES) >= {
        "contrastive",
        "contrastive_plus",
        "triplet",
        "multi_similarity",
        "regression",
        "relational",
        "dark_rank",
    }


def test_a_loss_of_relations_is_of_images() -> None:
    assert all(spec.takes is Takes.IMAGES for spec in LOSSES.values() if spec.whole_batch)
    assert all(spec.takes is Takes.TUPLES for spec in LOSSES.values() if spec.teacher_anchor)
    assert all(spec.takes is Takes.IMAGES for spec in LOSSES.values() if spec.bank is not Bank.NONE)
    assert all(spec.whole_batch for spec in LOSSES.values() if spec.whole_batch_beside_bank)


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    for refused in (loss_spec, lambda name: loss_with_options(name, {})):
        with pytest.raises(UsageError) as caught:
            refused("hinge")
        assert str(caught.value) == f"`loss` is 'hinge'; it must be one of {', '.join(LOSSES)}."


@pytest.mark.parametrize("name", LOSSES)
def test_defaults_are_the_losses_own(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.rand(12, 32, generator=generator) for _ in range(2))
    needed: dict[str, float] = NEEDED.get(name, {})
    loss, function = loss_with_options(name, needed), LOSSES[name].function
    if LOSSES[name].takes is Takes.IMAGES:
        bank = {"bank": teacher[:3]} if LOSSES[name].bank is Bank.CENTROIDS else {}
        assert torch.equal(loss(student, teacher, **bank), function(student, teacher, **bank))
        return
    tuples = student[:2], teacher[:2], teacher[2:6].reshape(2, 2, 32)
    anchor = {"teacher_anchor": student[2:4]} if LOSSES[name].teacher_anchor else {}
    assert torch.equal(loss(*tuples, **anchor), function(*tuples, **anchor, **needed))


def test_options_are_set() -> None:
    generator = torch.Generator().manual_seed(0)
    a, p, n = (torch.rand(*shape, generator=generator) for shape in ((2, 3), (2, 3), (2, 4, 3)))
    loss = loss_with_options("contrastive", {"margin": 1, "form": "similarity"})
    assert torch.equal(loss(a, p, n), contrastive(a, p, n, margin=1, form="similarity"))
    ranked = loss_with_options("dark_rank", {"list_length": 2, "beta": 1.5})
    rows = torch.rand(4, 3, generator=generator)
    assert torch.equal(ranked(rows, rows.flip(1)), dark_rank(rows, rows.flip(1), list_length=2, beta=1.5))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("triplet", {}, "the loss triplet needs `loss_options.margin`; give it a value."),
        ("regression", {"margin": 1}, "`loss_options.margin` is 1, but the loss regression has no such option: eps."),
        (
            "contrastive",
            {"margin": 1, "reduction": "sum"},
            "`loss_options.reduction` is 'sum', but the loss contrastive has no such option: margin, form, eps.",
        ),
        (
            "contrastive_plus",
            {"teacher_anchor": 1},
            "`loss_options.teacher_anchor` is 1, but the loss contrastive_plus has no such option: margin, form, eps.",
        ),
        (
            "triplet",
            {"anchor": 1},
            "`loss_options.anchor` is 1, but the loss triplet has no such option: margin.",
        ),
        (
            "csd",
            {"bank": 5},
            "`loss_options.bank` is 5, but the loss csd has no such option: neighbours, student_temperature, "
            "teacher_temperature.",
        ),
        ("csd", {"neighbours": 2.5}, "`loss_options.neighbours` is 2.5; the loss csd needs a whole number."),
        ("triplet", {"margin": "wide"}, "`loss_options.margin` is 'wide'; the loss triplet needs a finite number."),
        ("triplet", {"margin": float("nan")}, "`loss_options.margin` is nan; the loss triplet needs a finite number."),
        ("triplet", {"margin": float("inf")}, "`loss_options.margin` is inf; the loss triplet needs a finite number."),
        (
            "dark_rank",
            {"list_length": 4.0},
            "`loss_options.list_length` is 4.0; the loss dark_rank needs a whole number.",
        ),
        (
            "dark_rank",
            {"list_length": "4"},
            "`loss_options.list_length` is '4'; the loss dark_rank needs a whole number.",
        ),
        (
            "contrastive",
            {"margin": 1, "form": "angle"},
            "`loss_options.form` is 'angle'; the loss contrastive needs one of 'distance', 'similarity'.",
        ),
        (
            "contrastive",
            {"margin": 1, "form": 2},
            "`loss_options.form` is 2; the loss contrastive needs one of 'distance', 'similarity'.",
        ),
    ],
)
def test_options_that_cannot_be_are_refused(name: str, options: dict[str, OptionValue], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        loss_with_options(name, options)
    assert str(caught.value) == message
