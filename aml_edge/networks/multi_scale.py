"""`MultiScale`: one embedding of an image from its embeddings at several scales.

Each is raised to the network's GeM power, the mean is taken, its root, and L2: GeM over scales, as over places. A
network whose embedding may be negative, since a linear layer of its own follows pooling, takes the plain mean.

Source: Radenović, Tolias, Chum, "Fine-tuning CNN image retrieval with no human annotation", TPAMI 2019, and the
published evaluation of the CNN Image Retrieval project: when the mean is plain, and that an image is resized after
normalisation, bilinear without smoothing, to whole pixels rounded down. That evaluation ran where PyTorch took the
factor from the two sizes (before 1.6), which giving the size does still.
"""

from __future__ import annotations

from math import floor

import torch
from torch import Tensor, nn
from torch.nn import functional

from aml_edge.networks.pooling import l2_normalise
from aml_edge.networks.student import Student
from aml_edge.networks.teacher import Teacher
from aml_edge.scales import Scales, require_scales


class MultiScale(nn.Module):
    """Embeds images at each scale and makes one row of the rows; at scale 1 alone it is the network itself.

    Args:
        network: a student or a teacher, shared and not copied.
        scales: shares of the images' size.

    Raises:
        UsageError: a scale cannot be one.
    """

    def __init__(self, network: Student | Teacher, scales: Scales) -> None:
        super().__init__()
        self.network = network
        self.scales = require_scales(scales)

    def forward(self, images: Tensor) -> Tensor:
        """Returns (B, D) embeddings of (B, 3, H, W) normalised images, rows L2-normalised."""
        rows: list[Tensor] = [self.network(resized(images, scale)) for scale in self.scales]
        if len(rows) == 1:
            return rows[0]
        power = scale_power(self.network)
        return l2_normalise(torch.stack(rows).pow(power).mean(0).pow(1.0 / power))


def scale_power(network: Student | Teacher) -> Tensor | float:
    """Returns the power of the mean over scales: that of GeM, or 1 where a linear layer follows it."""
    if isinstance(network, Teacher) and network.whiten is not None:
        return 1.0
    return network.pool.p


def resized(images: Tensor, scale: float) -> Tensor:
    """Returns (B, 3, h, w) of (B, 3, H, W): each side times the scale, rounded down, one pixel at least."""
    if scale == 1:
        return images
    height, width = (max(1, floor(side * scale)) for side in images.shape[-2:])
    return functional.interpolate(images, size=(height, width), mode="bilinear", align_corners=False)
