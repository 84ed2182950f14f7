"""The keys of published files and what they are called here.

Their networks kept the trunk as an unnamed sequence `features` of the original's children, so a key begins with a
place: in torchvision's ResNet, in timm's EfficientNet of 2020, in the feature extractors of VGG and MobileNetV2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from aml_edge.errors import CheckpointError
from aml_edge.networks.backbones import build_backbone

_TRUNK = "backbone.trunk."
_HEAD = {"pool.": "pool.", "whiten.": "whiten.", "lwhiten.": "local_whiten."}
_RESNETS = {6: "resnet50", 23: "resnet101", 36: "resnet152"}
"""By the number of blocks in the third stage."""


@dataclass(frozen=True)
class Layout:
    """How a file names the weights of a network.

    Args:
        backbone: our name of the backbone.
        prefixes: what a key begins with in the file → here.
        adaptor: the prefix of the adaptor in the file; None in a teacher's.
    """

    backbone: str
    prefixes: Mapping[str, str]
    adaptor: str | None = None

    def renamed(self, weights: Mapping[str, Tensor], *, source: str) -> dict[str, Tensor]:
        """Returns the weights by our keys; a key that the layout does not know keeps its name, to be found left over.

        Raises:
            CheckpointError: two keys would become one.
        """
        prefixes = _HEAD | dict(self.prefixes) | ({} if self.adaptor is None else {self.adaptor: "adaptor."})
        result: dict[str, Tensor] = {}
        for key, value in weights.items():
            prefix = max((prefix for prefix in prefixes if key.startswith(prefix)), key=len, default=None)
            name = key if prefix is None else prefixes[prefix] + key.removeprefix(prefix)
            if name in result:
                raise CheckpointError(f"{source} holds {name} twice, once as {key}; get the file again.")
            result[name] = value
        return result


def recognise(weights: Mapping[str, Tensor], *, source: str) -> Layout:
    """Returns the layout of a published file's weights.

    Raises:
        CheckpointError: no published network has such keys.
    """
    if "features.3.0.0.conv_dw.weight" in weights and "features.7.weight" in weights:
        return _efficientnet_b3()
    if "features.0.18.0.weight" in weights and "features.1.weight" in weights:
        return _mobilenet_v2(weights, source)
    if "features.4.0.conv1.weight" in weights:
        return _resnet(weights, source)
    if "features.28.weight" in weights:
        return Layout("vgg16", {"features.": f"{_TRUNK}features."})
    raise CheckpointError(
        f"{source} holds weights of an unknown network (first keys: {', '.join(list(weights)[:3]) or 'none'}); "
        "ResNet and VGG16 teachers, EfficientNet-B3 and MobileNetV2 students are read."
    )


def _efficientnet_b3() -> Layout:
    places = {0: "conv_stem", 1: "bn1", 3: "blocks", 4: "conv_head", 5: "bn2"}
    return Layout("efficientnet_b3", _by_place(places), adaptor="features.7.")


def _resnet(weights: Mapping[str, Tensor], source: str) -> Layout:
    blocks = {key.split(".")[2] for key in weights if key.startswith("features.6.")}
    if len(blocks) not in _RESNETS:
        raise CheckpointError(f"{source} holds a ResNet of unknown depth: {len(blocks)} blocks in its third stage.")
    places = {0: "conv1", 1: "bn1", 4: "layer1", 5: "layer2", 6: "layer3", 7: "layer4"}
    return Layout(_RESNETS[len(blocks)], _by_place(places))


def _mobilenet_v2(weights: Mapping[str, Tensor], source: str) -> Layout:
    """Pairs layers by order: torchvision nests them otherwise than timm, and did so in several ways."""
    theirs = sorted(_layers(key for key in weights if key.startswith("features.0.")), key=_by_numbers)
    ours = list(_layers(f"backbone.{key}" for key in build_backbone("mobilenet_v2").state_dict()))
    if len(theirs) != len(ours):
        raise CheckpointError(f"{source} holds a MobileNetV2 of {len(theirs)} layers; it must have {len(ours)}.")
    prefixes = {f"{their}.": f"{our}." for their, our in zip(theirs, ours, strict=True)}
    return Layout("mobilenet_v2", prefixes, adaptor="features.1.")


def _by_place(places: Mapping[int, str]) -> dict[str, str]:
    return {f"features.{place}.": f"{_TRUNK}{name}." for place, name in places.items()}


def _layers(keys: Iterable[str]) -> dict[str, None]:
    """Returns the layers that keys belong to, in order, as an ordered set."""
    return {key.rpartition(".")[0]: None for key in keys}


def _by_numbers(layer: str) -> list[tuple[int, str]]:
    return [(int(part), "") if re.fullmatch(r"[0-9]{1,9}", part) else (-1, part) for part in layer.split(".")]
