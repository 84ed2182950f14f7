"""Which weights learn, at what rate, and when."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from aml_edge.errors import UsageError
from aml_edge.networks.backbones import build_backbone
from aml_edge.networks.student import Student
from aml_edge.networks.teacher import Teacher, TeacherSpec
from aml_edge.training.optimisation import build_optimiser, freeze_stages, rate_share
from aml_edge.training.settings import Schedule, TrainingSettings


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


def test_a_teachers_own_layers_learn_as_an_adaptor_does() -> None:
    teacher = Teacher(TeacherSpec("mobilenetv2_035", local_whitening=True, whitening_dimension=8))
    optimiser = build_optimiser(teacher, TrainingSettings(learning_rate=1e-3, adaptor_rate_factor=0.5))
    trunk, head, pooling = optimiser.param_groups
    assert (trunk["lr"], head["lr"], pooling["lr"]) == pytest.approx((1e-3, 5e-4, 1e-2))
    names = {id(weight): name for name, weight in teacher.named_parameters()}
    assert [names[id(weight)] for weight in head["params"]] == [
        "local_whiten.weight",
        "local_whiten.bias",
        "whiten.weight",
        "whiten.bias",
    ]
    assert len(trunk["params"]) + 4 + 1 == len(names)


def test_a_plain_teacher_has_no_head() -> None:
    optimiser = build_optimiser(Teacher(TeacherSpec("mobilenetv2_035")), TrainingSettings(learning_rate=1e-3))
    assert [group["lr"] for group in optimiser.param_groups] == pytest.approx([1e-3, 1e-2])


def cosine_shares(total_epochs: int, steps_per_epoch: int, warm_up: float) -> list[float]:
    settings = TrainingSettings(epochs=total_epochs, warm_up=warm_up)
    return [
        rate_share(settings, 1 + step // steps_per_epoch, step, steps_per_epoch)
        for step in range(total_epochs * steps_per_epoch)
    ]


def test_the_rate_rises_along_a_line_and_falls_along_a_cosine() -> None:
    falling = [0.5 * (1 + math.cos(math.radians(angle))) for angle in (0, 30, 60, 90, 120, 150)]
    for epochs, steps_per_epoch in ((10, 1), (2, 5), (1, 10)):
        assert cosine_shares(epochs, steps_per_epoch, 0.4) == pytest.approx([0.25, 0.5, 0.75, 1.0, *falling])


@pytest.mark.parametrize(("total", "warm_up"), [(1, 0.0), (1, 0.99), (2, 0.5), (3, 0.99), (1000, 0.1)])
def test_the_rate_is_never_zero_nor_above_one(total: int, warm_up: float) -> None:
    rates = cosine_shares(1, total, warm_up)
    assert max(rates) == pytest.approx(1.0)
    assert min(rates) > 0


def test_the_published_rate_falls_after_each_epoch_and_stays_within_it() -> None:
    settings = TrainingSettings(epochs=3, schedule=Schedule.EXPONENTIAL, decay=0.5, warm_up=0.4)
    shares = [rate_share(settings, 1 + step // 4, step, 4) for step in range(12)]
    assert shares == pytest.approx([1.0] * 4 + [0.6065306597126334] * 4 + [0.36787944117144233] * 4)  # 1, e^-0.5, e^-1


def test_without_decay_the_published_rate_stays() -> None:
    settings = TrainingSettings(epochs=3, schedule=Schedule.EXPONENTIAL, decay=0.0)
    assert [rate_share(settings, epoch, 7, 4) for epoch in (1, 2, 1000)] == [1.0] * 3


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
