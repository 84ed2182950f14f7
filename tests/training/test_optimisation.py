"""Which weights learn, at what rate, and when."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from aml_edge.errors import UsageError
from aml_edge.networks.backbones import build_backbone
from aml_edge.networks.student import Student
from aml_edge.training.optimisation import build_optimiser, freeze_stages, rate_at
from aml_edge.training.settings import TrainingSettings


def test_each_weight_is_in_one_group_with_its_rate(new_student: Callable[[], Student]) -> None:
    student = new_student()
    settings = TrainingSettings(
        learning_rate=1e-3, adaptor_rate_factor=0.5, pooling_rate_factor=10.0, weight_decay=1e-4
    )
    optimiser = build_optimiser(student, settings)
    settings_of = {id(weight): group for group in optimiser.param_groups for weight in group["params"]}
    assert sum(len(group["params"]) for group in optimiser.param_groups) == len(settings_of)
    assert settings_of.keys() == {id(weight) for weight in student.parameters()}
    for name, weight in student.named_parameters():
        group = settings_of[id(weight)]
        rate, decay = {"backbone": (1e-3, 1e-4), "adaptor": (5e-4, 1e-4), "pool": (1e-2, 0.0)}[name.split(".")[0]]
        assert (group["lr"], group["weight_decay"]) == (pytest.approx(rate), decay), name
    assert isinstance(optimiser, torch.optim.Adam)


def test_what_takes_no_gradient_is_not_optimised(new_student: Callable[[], Student]) -> None:
    student = new_student()
    student.backbone.requires_grad_(False)
    optimiser = build_optimiser(student, TrainingSettings())
    learned = [weight for group in optimiser.param_groups for weight in group["params"]]
    assert [id(weight) for weight in learned] == [id(student.adaptor.weight), id(student.pool.p)]


def test_the_rate_rises_along_a_line_and_falls_along_a_cosine() -> None:
    rates = [rate_at(step, 10, 0.4) for step in range(10)]
    falling = [0.5 * (1 + math.cos(math.radians(angle))) for angle in (0, 30, 60, 90, 120, 150)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, *falling])


@pytest.mark.parametrize(("total", "warm_up"), [(1, 0.0), (1, 0.99), (2, 0.5), (3, 0.99), (1000, 0.1)])
def test_the_rate_is_never_zero_nor_above_one(total: int, warm_up: float) -> None:
    rates = [rate_at(step, total, warm_up) for step in range(total)]
    assert max(rates) == pytest.approx(1.0)
    assert min(rates) > 0


def frozen_names(name: str, stages: int) -> list[str]:
    """Returns the weights of a trunk that no longer learn."""
    backbone = build_backbone(name)
    freeze_stages(backbone, stages)
    return [name for name, weight in backbone.trunk.named_parameters() if not weight.requires_grad]


@pytest.mark.parametrize(
    ("stages", "prefixes"),
    [
        (0, ()),
        (1, ("conv_stem.", "bn1.")),
        (3, ("conv_stem.", "bn1.", "blocks.0.", "blocks.1.")),
        (7, ("conv_stem.", "bn1.", "blocks.0", "blocks.1", "blocks.2", "blocks.3", "blocks.4", "blocks.5")),
        (8, ("conv_stem.", "bn1.", "blocks.", "conv_head.", "bn2.")),
    ],
)
def test_freezes_an_efficientnet_from_the_image_on(stages: int, prefixes: tuple[str, ...]) -> None:
    trunk = build_backbone("tf_efficientnet_lite0").trunk
    expected = [name for name, _ in trunk.named_parameters() if name.startswith(prefixes)] if prefixes else []
    assert frozen_names("tf_efficientnet_lite0", stages) == expected


def test_freezes_a_resnet_from_the_image_on() -> None:
    names = frozen_names("resnet18", 2)
    assert {name.split(".")[0] for name in names} == {"conv1", "bn1", "layer1"}


def test_refuses_more_stages_than_there_are() -> None:
    with pytest.raises(UsageError) as caught:
        freeze_stages(build_backbone("tf_efficientnet_lite0"), 9)
    assert str(caught.value) == "`frozen_stages` is 9; this backbone has 8, so at most that many."
