"""`Teacher`: backbone → GeM → L2, with the learned layers that some published ones add.

Source: Radenović, Tolias, Chum, "Fine-tuning CNN image retrieval with no human annotation", TPAMI 2019; the layers
before and after pooling are those of the CNN Image Retrieval project's networks.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from aml_edge.networks.backbones import build_backbone, seeded
from aml_edge.networks.pooling import GeM, l2_normalise


@dataclass(frozen=True)
class TeacherSpec:
    """What a teacher is made of.

    Args:
        backbone: a name of `aml_edge.networks.backbones.BACKBONES`, or of timm.
        local_whitening: whether a linear layer works on each place of the feature map, before GeM.
        whitening_dimension: outputs of a linear layer after GeM and L2, followed by another L2; None where there is
            none. It was trained with the network and is part of it, unlike `aml_edge.networks.whitening`.
    """

    backbone: str
    local_whitening: bool = False
    whitening_dimension: int | None = None


class Teacher(nn.Module):
    """A large database encoder; it is loaded, or trained alone in symmetric mode.

    Args:
        spec: what it is made of.
        seed: of the random weights.

    Raises:
        UsageError: there is no such backbone, or it gives no feature map.
    """

    def __init__(self, spec: TeacherSpec, *, seed: int = 0) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = build_backbone(spec.backbone, seed=seed)
        channels = self.backbone.channels
        self.dimension = spec.whitening_dimension or channels
        with seeded(seed):
            self.local_whiten = nn.Linear(channels, channels) if spec.local_whitening else None
            self.whiten = nn.Linear(channels, self.dimension) if spec.whitening_dimension else None
        self.pool = GeM()

    def head(self, feature_map: Tensor) -> Tensor:
        """Returns (B, D) embeddings of the backbone's feature map (B, C, h, w), rows L2-normalised."""
        if self.local_whiten is not None:
            feature_map = self.local_whiten(feature_map.movedim(1, -1)).movedim(-1, 1)
        rows = l2_normalise(self.pool(feature_map))
        return rows if self.whiten is None else l2_normalise(self.whiten(rows))

    def forward(self, images: Tensor) -> Tensor:
        """Returns (B, D) embeddings of (B, 3, H, W) normalised images, rows L2-normalised."""
        return self.head(self.backbone(images))
