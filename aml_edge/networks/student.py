"""`Student`: backbone → 1×1 convolution to the teacher's dimension → ReLU → GeM → L2.

Source: Budnik and Avrithis, "Asymmetric metric learning for knowledge transfer", CVPR 2021, section 4.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aml_edge.errors import UsageError
from aml_edge.networks.backbones import build_backbone, seeded
from aml_edge.networks.pooling import GeM, l2_normalise


@dataclass(frozen=True)
class StudentSpec:
    """What a student is made of.

    Args:
        backbone: a name of `aml_edge.networks.backbones.BACKBONES`, or of timm.
        dimension: length D of its embedding: the teacher's.
    """

    backbone: str
    dimension: int

    def __post_init__(self) -> None:
        if self.dimension < 1:
            raise UsageError(f"`dimension` is {self.dimension}; an embedding has at least one value.")


class Student(nn.Module):
    """A small query encoder, trained and evaluated as it is.

    Args:
        spec: what it is made of.
        seed: of the random weights; the same seed gives the same weights.

    Raises:
        UsageError: there is no such backbone, or it gives no feature map.
    """

    def __init__(self, spec: StudentSpec, *, seed: int = 0) -> None:
        super().__init__()
        self.spec = spec
        self.dimension = spec.dimension
        self.backbone = build_backbone(spec.backbone, seed=seed)
        with seeded(seed):
            self.adaptor = nn.Conv2d(self.backbone.channels, spec.dimension, kernel_size=1, bias=False)
        self.pool = GeM()

    def features(self, images: Tensor) -> Tensor:
        """Returns (B, D, h, w) after the adaptor and its ReLU, of (B, 3, H, W) normalised images."""
        return torch.relu(self.adaptor(self.backbone(images)))

    def head(self, feature_map: Tensor) -> Tensor:
        """Returns (B, D) embeddings of the backbone's feature map (B, C, h, w), rows L2-normalised."""
        return l2_normalise(self.pool(torch.relu(self.adaptor(feature_map))))

    def forward(self, images: Tensor) -> Tensor:
        """Returns (B, D) embeddings of (B, 3, H, W) normalised images, rows L2-normalised."""
        return self.head(self.backbone(images))
