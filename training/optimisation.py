"""Which weights learn at what rate."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

from aml_edge.errors import UsageError
from aml_edge.networks.student import Student
from aml_edge.networks.torchvision_guard import import_timm
from aml_edge.training.settings import TrainingSettings


def build_optimiser(student: Student, settings: TrainingSettings) -> torch.optim.Adam:
    """Returns Adam over the trunk, the adaptor and GeM's power, each at its own rate; the power without weight decay.

    Source: the groups and the power's tenfold rate are those of the CNN Image Retrieval recipe; the adaptor's own
    rate is ours.
    """
    rate, decay = settings.learning_rate, settings.weight_decay
    trunk = [weight for weight in student.backbone.parameters() if weight.requires_grad]
    adaptor = list(student.adaptor.parameters())
    groups: list[dict[str, object]] = [
        {"params": trunk, "lr": rate, "weight_decay": decay},
        {"params": adaptor, "lr": rate * settings.adaptor_rate_factor, "weight_decay": decay},
        {"params": list(student.pool.parameters()), "lr": rate * settings.pooling_rate_factor, "weight_decay": 0.0},
    ]
    return torch.optim.Adam([group for group in groups if group["params"]])


def rate_at(step: int, total_steps: int, warm_up: float) -> float:
    """Returns the share of the learning rate at a step: a line up to 1 over the warm-up, then a cosine down to 0.

    Args:
        step: from 0 on.
        total_steps: of the whole training.
        warm_up: share of the steps over which the rate rises.
    """
    rising = round(warm_up * total_steps)
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / (total_steps - rising)))


def freeze_stages(backbone: nn.Module, stages: int) -> None:
    """Excludes the first stages of a trunk from training, in place; the stem counts as the first.

    What a stage is, timm says of each architecture: after the stem seven of blocks in an EfficientNet, the last with
    the convolution that ends it, and four layers in a ResNet.

    Raises:
        UsageError: the trunk has fewer stages.
    """
    trunk = backbone.trunk
    assert isinstance(trunk, nn.Module)
    names = _stages_of(trunk)
    if stages > len(names):
        raise UsageError(f"`frozen_stages` is {stages}; this backbone has {len(names)}, so at most that many.")
    weights = dict(trunk.named_parameters())
    for stage in range(stages):
        for name in names[stage]:
            weights[name].requires_grad_(False)


def _stages_of(trunk: nn.Module) -> Mapping[int, list[str]]:
    """Returns the names of the weights of each stage, from the image on."""
    matcher = trunk.group_matcher(coarse=True)  # type: ignore[operator]  # timm's method, unknown to nn.Module
    grouped: dict[int, list[str]] = import_timm().models.group_parameters(trunk, matcher)
    return dict(enumerate(grouped[key] for key in sorted(grouped)))
