"""Which weights learn at what rate."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

from aml_edge.errors import UsageError
from aml_edge.networks.torchvision_guard import import_timm
from aml_edge.training.quantization_aware import QuantizationAwareStudent
from aml_edge.training.settings import Schedule, TrainingSettings
from aml_edge.training.trainable import Trainable


def build_optimiser(network: Trainable, settings: TrainingSettings) -> torch.optim.Adam:
    """Returns Adam over trunk, head and GeM's power, each at its own rate; the power without weight decay.

    Source: the groups and the power's tenfold rate are those of the CNN Image Retrieval recipe; the adaptor's own
    rate is ours. Adam goes over all weights in one pass; on a CPU the usual several passes took three times as long.
    """
    rate, decay = settings.learning_rate, settings.weight_decay
    trunk = [weight for weight in network.backbone.parameters() if weight.requires_grad]
    pooling = list(network.pool.parameters())
    if isinstance(network, QuantizationAwareStudent):
        head, pooling = [network.adaptor_weight], []
        trunk = [weight for weight in trunk if weight is not network.adaptor_weight]
    else:
        others = {id(weight) for weight in (*network.backbone.parameters(), *pooling)}
        head = [weight for weight in network.parameters() if id(weight) not in others]
    groups: list[dict[str, object]] = [
        {"params": trunk, "lr": rate, "weight_decay": decay},
        {"params": head, "lr": rate * settings.adaptor_rate_factor, "weight_decay": decay},
        {"params": pooling, "lr": rate * settings.pooling_rate_factor, "weight_decay": 0.0},
    ]
    return torch.optim.Adam([group for group in groups if group["params"]], fused=True)


def rate_share(settings: TrainingSettings, epoch: int, step: int, steps_per_epoch: int) -> float:
    """Returns the share of the learning rate at a step, by the schedule of the settings.

    Cosine: a line up to 1 over the warm-up, then a cosine down to 0. Exponential: × exp(−decay) after each epoch.

    Args:
        settings: schedule and its values.
        epoch: of the step, from 1 on.
        step: of all epochs, from 0 on.
        steps_per_epoch: so many has each epoch.
    """
    if settings.schedule is Schedule.EXPONENTIAL:
        return math.exp(-settings.decay * (epoch - 1))
    total_steps = settings.epochs * steps_per_epoch
    rising = round(settings.warm_up * total_steps)
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
