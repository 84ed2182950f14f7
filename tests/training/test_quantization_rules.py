"""What a quantization-aware training can be asked, and what student it can start from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aml_edge.errors import UsageError
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.preprocessing import Fit
from aml_edge.training.quantization_rules import require_quantizable, square_start
from aml_edge.training.recipe import QAT_RECIPE, Recipe, overridden, read_recipe
from aml_edge.training.settings import BatchNorm, Mining, TrainingSettings
from aml_edge.training.starting_network import starting_network

QAT = read_recipe(QAT_RECIPE)


@pytest.mark.parametrize(
    "changes",
    [
        (),
        ("fit=squash", "image_side_px=96", "images_at_once=64"),
        ("loss=contrastive_plus", "loss_options.margin=0.7", "mining=hard", "bank_size=0"),
        ("loss=relational", "batch_size=64"),
        ("batch_size=500",),
    ],
)
def test_losses_of_embeddings_can_be_trained_with(changes: tuple[str, ...]) -> None:
    require_quantizable(overridden(QAT, changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fit": Fit.NATIVE}, "`fit` is native and must be letterbox (a file takes one square)"),
        ({"frozen_stages": 2}, "`frozen_stages` is 2 and must be 0 (rounding is learned from the first layer on)"),
        ({"warm_start": True}, "`warm_start` is true and must be false (the adaptor is trained already)"),
        (
            {"pooling_rate_factor": 10.0},
            "`pooling_rate_factor` is 10.0 and must be 0 (GeM's power is a constant of the file)",
        ),
        ({"batch_norm": BatchNorm.TRAINED}, "`batch_norm` is trained and must be frozen (it is folded)"),
        ({"images_at_once": 65}, "`images_at_once` is 65 and must be 64 or less (its graph takes no more)"),
        (
            {"loss": "relational", "batch_size": 65},
            "`batch_size` is 65 and must be 64 or less (this loss keeps its batch together)",
        ),
    ],
)
def test_what_integers_have_not_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        require_quantizable(replace(QAT, settings=replace(QAT.settings, **changes)))
    assert str(caught.value) == (
        f"recipe 'qat' cannot train for integers: {said}. Take recipe qat, or change these with --set."
    )


def test_all_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        require_quantizable(read_recipe("small-teacher"))
    for name in ("network", "mode", "fit", "pooling_rate_factor"):
        assert f"`{name}` is " in str(caught.value)
    assert str(caught.value).startswith("recipe 'small-teacher' cannot train for integers: `network` is teacher and ")


def recipe_with(**changes: Any) -> Recipe:
    return replace(QAT, settings=replace(QAT.settings, **changes))


def test_the_start_gets_a_square_of_its_own_side_or_the_recipe_s(trained_start: StudentCheckpoint) -> None:
    own = square_start(trained_start, QAT)
    assert (own.preprocessing.fit, own.preprocessing.image_side_px) == (Fit.LETTERBOX, 64)
    assert (own.student, own.space, own.name) == (trained_start.student, trained_start.space, trained_start.name)
    other = square_start(trained_start, recipe_with(image_side_px=96, fit=Fit.SQUASH, backbone="mobilenetv2_035"))
    assert other.preprocessing == replace(trained_start.preprocessing, image_side_px=96, fit=Fit.SQUASH)


def test_a_student_with_random_weights_is_refused(start: StudentCheckpoint) -> None:
    with pytest.raises(UsageError) as caught:
        square_start(start, QAT)
    assert str(caught.value) == (
        "`from` is student 'small', whose weights are random; integers are learned from a trained student: train it "
        "first, without --qat."
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"backbone": "imagenet:efficientnet_lite0"},
            "`backbone` is 'imagenet:efficientnet_lite0', but student 'small' is of 'mobilenetv2_035'; "
            "set it to 'any'.",
        ),
        ({"dimension": 17}, "`dimension` is 17, but student 'small' has 16; set it to 0."),
    ],
)
def test_a_student_of_another_kind_than_the_recipe_s_is_refused(
    trained_start: StudentCheckpoint, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError) as caught:
        square_start(trained_start, recipe_with(**changes))
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"backbone": "any", "image_side_px": 64}, "`backbone` is 'any', which takes that of a trained student;"),
        ({"backbone": "mobilenetv2_035", "image_side_px": 0}, "`image_side_px` is 0, which takes that of a trained"),
    ],
)
def test_without_a_student_its_backbone_and_side_are_asked_for(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        starting_network(TrainingSettings(dimension=8, mining=Mining.NONE, **changes), None)
    assert str(caught.value).startswith(said)
    name = said[1:].partition("`")[0]
    assert str(caught.value).endswith(f"name the student: --qat --from RUN, or set `{name}`.")
