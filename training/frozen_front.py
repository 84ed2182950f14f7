"""Splits a trunk into the stages that stay as they are and the stages that learn.

What the frozen stages give of an image never changes, so it is computed once (`aml_edge.training.inputs`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from aml_edge.networks.backbones import FeatureMap

_PROBE_SIDE_PX = 64


@dataclass(frozen=True)
class SplitBackbone:
    """A backbone in two parts that share its weights: ``backbone(images) == back(front(images))``."""

    front: nn.Module
    back: nn.Module


def split_backbone(backbone: FeatureMap, frozen_stages: int) -> SplitBackbone | None:
    """Returns the backbone cut after its frozen stages, or None where nothing is frozen or it cannot be cut there.

    Networks of timm's EfficientNet kind (MobileNetV2 too) and ResNets are cut; whether the parts make up the whole is
    tried on an image, so another network of the same attributes is not cut wrongly.

    Args:
        backbone: in evaluation mode.
        frozen_stages: as `aml_edge.training.optimisation.freeze_stages` counts them.
    """
    stages = next((found for found in (make(backbone.trunk) for make in _STAGES) if found), [])
    if not 0 < frozen_stages < len(stages):
        return None
    split = SplitBackbone(nn.Sequential(*stages[:frozen_stages]), nn.Sequential(*stages[frozen_stages:]))
    probe = torch.linspace(-1, 1, 3 * _PROBE_SIDE_PX**2).reshape(1, 3, _PROBE_SIDE_PX, _PROBE_SIDE_PX)
    with torch.inference_mode():
        whole, parts = backbone(probe), split.back(split.front(probe))
    return split if torch.equal(whole, parts) else None


def _efficientnet_stages(trunk: nn.Module) -> list[nn.Module]:
    stem, head = _children(trunk, "conv_stem", "bn1"), _children(trunk, "conv_head", "bn2")
    blocks = getattr(trunk, "blocks", None)
    if stem is None or head is None or not isinstance(blocks, nn.Sequential):
        return []
    *first, last = blocks.children()
    return [nn.Sequential(*stem), *first, nn.Sequential(last, *head)]


def _resnet_stages(trunk: nn.Module) -> list[nn.Module]:
    stem = _children(trunk, "conv1", "bn1", "act1", "maxpool")
    layers = _children(trunk, "layer1", "layer2", "layer3", "layer4")
    return [] if stem is None or layers is None else [nn.Sequential(*stem), *layers]


_STAGES: tuple[Callable[[nn.Module], list[nn.Module]], ...] = (_efficientnet_stages, _resnet_stages)
"""Each returns a trunk's stages from the image on, or none of a trunk of another kind."""


def _children(trunk: nn.Module, *names: str) -> list[nn.Module] | None:
    children = dict(trunk.named_children())
    return [children[name] for name in names] if set(names) <= set(children) else None
