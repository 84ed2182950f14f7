"""`DeployableStudent`: what an exported file computes, from raw pixels to the final embedding.

Normalisation, the student, the teacher's whitening where the space has one, L2. The head is written so that half
precision can carry it, in every file: a GPU delegate or a neural engine may compute a float32 file in half too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aml_edge.networks.batch_norm_folding import fold_batch_norms
from aml_edge.networks.normalisation import Normalise
from aml_edge.networks.student import Student
from aml_edge.networks.whitening import Whitening
from aml_edge.preprocessing import Preprocessing

SMALLEST_DIVISOR = 2.0**-14
"""The smallest normal half-precision number: hardware may flush what is smaller to zero."""
L2_EPS = 1e-6


class DeployableStudent(nn.Module):
    """A student and its pre- and postprocessing in one network: (1, H, W, 3) uint8 RGB → (1, D) float32, rows L2.

    Args:
        student: shared, not copied, and put into evaluation mode.
        preprocessing: mean and standard deviation to normalise with.
        whitening: the teacher's, folded in after the student's own L2.
    """

    def __init__(self, student: Student, preprocessing: Preprocessing, whitening: Whitening | None = None) -> None:
        super().__init__()
        self.normalise = Normalise(preprocessing.mean, preprocessing.std)
        self.student = student
        self.trunk_dtype = torch.float32
        self.pool = SafeGeM(float(student.pool.p.detach()), student.pool.eps)
        self.whitening = None if whitening is None else SafeWhitening(whitening)
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        """Returns (1, D) float32 embeddings of (1, H, W, 3) uint8 pixels."""
        return self.head(self.features(image))

    def features(self, image: Tensor) -> Tensor:
        """Returns the head's input: (1, D, h, w) float32, after the adaptor and its ReLU."""
        features: Tensor = self.student.features(self.normalise(image).to(self.trunk_dtype))
        return features.float()

    def head(self, features: Tensor) -> Tensor:
        """Returns (1, D) embeddings of the head's input, rows L2-normalised."""
        rows: Tensor = safe_l2_normalise(self.pool(features))
        return rows if self.whitening is None else self.whitening(rows)

    def folded(self, image_side_px: int) -> DeployableStudent:
        """Returns a copy whose batch normalisations are folded into the convolutions before them."""
        return fold_batch_norms(self, torch.zeros(1, image_side_px, image_side_px, 3, dtype=torch.uint8))

    def with_half_trunk(self, image_side_px: int) -> DeployableStudent:
        """Returns a folded copy that computes in half precision from after the normalisation to before the head."""
        half = self.folded(image_side_px)
        half.student.half()
        half.trunk_dtype = torch.float16
        return half


class SafeGeM(nn.Module):
    """GeM that half precision can carry: each channel divided by its largest value before the power.

    The power then sees values in [0, 1] of which one is 1, so neither it nor the mean overflows or vanishes, and the
    root is multiplied back. Equal to the plain form in exact arithmetic, since GeM is homogeneous of degree one.

    Args:
        p: the exponent, a constant of the exported file.
        eps: floor of the features, as in the student.
    """

    def __init__(self, p: float, eps: float) -> None:
        super().__init__()
        self.p, self.eps = p, eps

    def forward(self, features: Tensor) -> Tensor:
        """Returns (1, D) of (1, D, h, w)."""
        features = features.clamp(min=self.eps)
        largest = features.amax((2, 3), keepdim=True).clamp(min=SMALLEST_DIVISOR)
        means = (features / largest).pow(self.p).mean((2, 3), keepdim=True)
        return (means.pow(1.0 / self.p) * largest).flatten(1)


def safe_l2_normalise(rows: Tensor, eps: float = L2_EPS) -> Tensor:
    """Returns (1, D) rows / (‖rows‖ + eps), their largest value divided out first, so that squares stay in range."""
    largest = rows.abs().amax(1, keepdim=True).clamp(min=SMALLEST_DIVISOR)
    scaled = rows / largest
    norm = (scaled * scaled).sum(1, keepdim=True).sqrt()
    # Not `eps / largest`: PyTorch exports that as a reciprocal, to whose argument Core ML adds 1e-4.
    return scaled / (norm + largest.new_full((1, 1), eps) / largest)


class SafeWhitening(nn.Module):
    """The teacher's whitening and L2 of (1, D) rows, its projection scaled to a largest entry of one.

    L2 undoes the scale; a whitening's entries reach 1/√(smallest eigenvalue), which half precision need not hold.
    """

    def __init__(self, whitening: Whitening) -> None:
        super().__init__()
        self.scale = float(whitening.projection.abs().max())
        self.register_buffer("mean", whitening.mean.clone())
        self.register_buffer("projection", whitening.projection / self.scale)

    def forward(self, rows: Tensor) -> Tensor:
        """Returns (1, D_out) of (1, D)."""
        mean, projection = self.get_buffer("mean"), self.get_buffer("projection")
        return safe_l2_normalise((rows - mean) @ projection.T, L2_EPS / self.scale)
