"""Networks wired without aml-edge, in the layouts of the published files, with random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from aml_edge.networks.torchvision_guard import import_timm


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Small operators on few cores: a second thread only waits."""
    torch.set_num_threads(1)


POWER = 2.7


class PublishedNetwork(nn.Module):
    """`features` as a sequence, GeM of power 2.7, L2: wired from torchvision's and timm's parts alone."""

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        super().__init__()
        self.features = nn.Sequential(*layers)
        self.pool = nn.Module()
        self.pool.p = nn.Parameter(torch.tensor([POWER]))

    def forward(self, images: Tensor) -> Tensor:
        features = self.features(images)
        rows = (features.clamp(min=1e-6) ** POWER).mean(dim=(2, 3)) ** (1 / POWER)
        normalised: Tensor = rows / (rows.norm(dim=1, keepdim=True) + 1e-6)
        return normalised


def resnet(depth: int) -> PublishedNetwork:
    import_timm()
    import torchvision

    network = getattr(torchvision.models, f"resnet{depth}")()
    return PublishedNetwork(list(network.children())[:-2])


def vgg16() -> PublishedNetwork:
    import_timm()
    import torchvision

    # The classifier is not in the files; made on no device, it costs no time.
    with torch.device("meta"):
        network = torchvision.models.vgg16()
    layers = network.features[:-1].to_empty(device="cpu")
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.normal_(cast(Tensor, layer.bias), 0.0, 0.05)
    return PublishedNetwork(layers)


def mobilenet_v2(dimension: int) -> PublishedNetwork:
    import_timm()
    import torchvision

    return PublishedNetwork(
        [torchvision.models.mobilenet_v2().features, nn.Conv2d(1280, dimension, 1, bias=False), nn.ReLU()]
    )


def efficientnet_b3(dimension: int) -> PublishedNetwork:
    """timm's children as they were in 2020: batch norm and activation apart."""
    network = import_timm().create_model("tf_efficientnet_b3", num_classes=0)

    def plain(fused: Any) -> nn.BatchNorm2d:
        return nn.BatchNorm2d(fused.num_features, eps=fused.eps)

    return PublishedNetwork(
        [
            network.conv_stem,
            plain(network.bn1),
            nn.SiLU(),
            network.blocks,
            network.conv_head,
            plain(network.bn2),
            nn.SiLU(),
            nn.Conv2d(1536, dimension, 1, bias=False),
            nn.ReLU(),
        ]
    )


@dataclass(frozen=True)
class PublishedFile:
    """A file in a published layout, the network that it holds, and what that says of two images."""

    path: Path
    state: dict[str, Tensor]
    images: Tensor
    embeddings: Tensor

    def save(self, path: Path, *, zipped: bool = True, meta: dict[str, Any] | None = None, **changes: Any) -> Path:
        """Writes the network's file again, with other keys (None leaves one out) or in the older format."""
        state = {key: value for key, value in (self.state | changes).items() if value is not None}
        content = {"meta": {"architecture": "any", "pooling": "gem"} | (meta or {}), "state_dict": state}
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        return path


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], PublishedFile]:
    """Returns a function of a network's name that gives its file, made once."""
    makers: dict[str, Callable[[], PublishedNetwork]] = {
        "resnet50": lambda: resnet(50),
        "resnet101": lambda: resnet(101),
        "vgg16": vgg16,
        "mobilenet_v2": lambda: mobilenet_v2(32),
        "efficientnet_b3": lambda: efficientnet_b3(32),
    }
    made: dict[str, PublishedFile] = {}

    def publish(name: str) -> PublishedFile:
        if name not in made:
            torch.manual_seed(0)
            network = makers[name]().eval()
            for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
                assert norm.running_mean is not None and norm.running_var is not None
                norm.running_mean.normal_(0.0, 0.1)
                norm.running_var.uniform_(0.5, 1.5)
            images = torch.randn(2, 3, 64, 48)
            with torch.inference_mode():
                embeddings = network(images).clone()
            file = PublishedFile(
                tmp_path_factory.mktemp("published") / "a file.bin", dict(network.state_dict()), images, embeddings
            )
            file.save(file.path)
            made[name] = file
        return made[name]

    return publish
