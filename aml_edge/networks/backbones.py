"""Backbones: timm networks cut after their last activation, which give a feature map and nothing else."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from aml_edge.errors import UsageError
from aml_edge.networks.torchvision_guard import import_timm
from aml_edge.preprocessing import IMAGENET_MEAN, IMAGENET_STD

Channels = tuple[float, float, float]
HALF = (0.5, 0.5, 0.5)
_PROBE_SIDE_PX = 64


@dataclass(frozen=True)
class BackboneSpec:
    """A backbone and the normalisation that its ImageNet weights were trained with.

    Args:
        timm_name: timm's name of the architecture.
        mean, std: one value a channel, on pixels scaled to [0, 1].
        options: further arguments for timm's constructor.
        imagenet: timm's name of the published ImageNet weights; empty takes what timm takes.
    """

    timm_name: str
    mean: Channels = IMAGENET_MEAN
    std: Channels = IMAGENET_STD
    options: Mapping[str, object] = field(default_factory=dict)
    imagenet: str = ""


BACKBONES: dict[str, BackboneSpec] = {
    # Those of AutoAugment are what timm called tf_efficientnet_b3 in 2020, when the paper's students were trained.
    "efficientnet_b3": BackboneSpec("tf_efficientnet_b3", imagenet="tf_efficientnet_b3.aa_in1k"),
    "mobilenet_v2": BackboneSpec("mobilenetv2_100"),
    "efficientnet_lite0": BackboneSpec("tf_efficientnet_lite0", HALF, HALF),
    "efficientnet_lite2": BackboneSpec("tf_efficientnet_lite2", HALF, HALF),
    "resnet101": BackboneSpec("resnet101"),
    # The classifier is cut off, but timm makes it first: a narrow one costs no time.
    "vgg16": BackboneSpec("vgg16", options={"mlp_ratio": 1 / 4096}),
}
"""The named backbones. A name here wins over the same name in timm: the EfficientNets are TensorFlow's."""


class FeatureMap(nn.Module):
    """A fully convolutional trunk: (B, 3, H, W) normalised images → (B, C, h, w), after the last activation.

    Args:
        trunk: a timm network, of which `forward_features` is run.
        channels: C.
    """

    trunk: Any

    def __init__(self, trunk: nn.Module, channels: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.channels = channels

    def forward(self, images: Tensor) -> Tensor:
        """Returns (B, C, h, w) of (B, 3, H, W)."""
        features: Tensor = self.trunk.forward_features(images)
        return features


def backbone_spec(name: str) -> BackboneSpec:
    """Returns the spec of a named backbone or of any architecture of timm.

    Raises:
        UsageError: nothing has that name; the message says what comes near.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    timm = import_timm()
    known = timm.list_models()
    if name not in known:
        near = difflib.get_close_matches(name, sorted({*BACKBONES, *known}), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"named ones are {', '.join(BACKBONES)}."
        raise UsageError(f"`backbone` is {name!r}; it must be a named backbone or an architecture of timm: {hint}")
    published = timm.models.get_pretrained_cfg(name)
    if published is None:
        return BackboneSpec(name)
    return BackboneSpec(name, tuple(published.mean), tuple(published.std))


def build_backbone(name: str, *, seed: int = 0) -> FeatureMap:
    """Returns a backbone with random weights, the same for the same seed.

    Args:
        name: of `BACKBONES`, or any architecture of timm that gives a feature map for images of any size.
        seed: of the weights; the global random state is left as it was.

    Raises:
        UsageError: there is no such backbone, or it gives no feature map.
    """
    spec = backbone_spec(name)
    timm = import_timm()
    with seeded(seed):
        trunk = timm.create_model(spec.timm_name, pretrained=False, num_classes=0, **spec.options)
    if (trunk.pretrained_cfg or {}).get("fixed_input_size", False):
        raise UsageError(f"`backbone` is {name!r}, which takes images of one size only; choose a convolutional one.")
    _end_at_last_activation(trunk)
    features, used = _probe(trunk)
    if features.ndim != 4 or features.shape[1] != trunk.num_features:
        raise UsageError(
            f"`backbone` is {name!r}, which gives {tuple(features.shape)} and no feature map (B, C, h, w); "
            "choose a convolutional one."
        )
    for child_name, child in list(trunk.named_children()):
        if used.isdisjoint(child.modules()):
            setattr(trunk, child_name, nn.Identity())
    return FeatureMap(trunk, trunk.num_features)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Makes torch's CPU randomness start from `seed` inside, and go on outside as if nothing had been."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _end_at_last_activation(trunk: Any) -> None:
    """Cuts the last max-pool of a VGG, which its feature extractor ends in."""
    layers = getattr(trunk, "features", None)
    if isinstance(layers, nn.Sequential) and isinstance(layers[-1], nn.MaxPool2d):
        trunk.features = layers[:-1]


def _probe(trunk: Any) -> tuple[Tensor, set[nn.Module]]:
    """Returns the feature map of a small image and the modules that took part in making it."""
    used: set[nn.Module] = set()
    hooks = [module.register_forward_pre_hook(lambda module, _inputs: used.add(module)) for module in trunk.modules()]
    training = trunk.training
    try:
        with torch.no_grad():
            features: Tensor = trunk.eval().forward_features(torch.zeros(1, 3, _PROBE_SIDE_PX, _PROBE_SIDE_PX))
    finally:
        trunk.train(training)
        for hook in hooks:
            hook.remove()
    return features, used
