"""What half precision does to an exported file, whatever its format.

ONNX Runtime's CPU computes a half-precision head in single precision, so a file that overflows on a phone passes
there. Here the exported graph runs operator by operator, every result rounded to IEEE half precision; and the range
of the head's input is recorded on real images.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from aml_edge.embedder import Embeddings
from aml_edge.networks.deployable import DeployableStudent
from aml_edge.pixels import Pixels
from aml_edge.preprocessing import Preprocessing
from aml_edge.runtimes.fixed_input import embed_one_by_one, require_fitted
from aml_edge.runtimes.half_rounding import LARGEST_HALF, rounded_to_half
from aml_edge.space import EmbeddingSpace


class HalfPrecisionEmbedder:
    """An Embedder that rounds every step of the exported graph, and every weight, to half precision.

    Sums inside an operator (a convolution, a mean) run in single precision and are rounded once, as tensor units do
    it; hardware that adds in half is worse. Results too small for a normal number become zero, as on most GPUs.

    Args:
        network: what the file computes; batch normalisations are folded first, as every converter does.
        space: of its embeddings.
        preprocessing: square, as in the file's manifest.
    """

    def __init__(self, network: DeployableStudent, space: EmbeddingSpace, preprocessing: Preprocessing) -> None:
        self.name = "half precision, simulated"
        self.space = space
        self.preprocessing = preprocessing
        side = preprocessing.image_side_px
        image = torch.zeros(1, side, side, 3, dtype=torch.uint8)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # torch.export deprecates its own calls
            program = torch.export.export(network.folded(side), (image,)).run_decompositions({})
        graph = program.module()
        with torch.no_grad():
            for weight in (*graph.parameters(), *graph.buffers()):
                weight.copy_(rounded_to_half(weight))
        self._interpreter: _RoundingInterpreter | None = _RoundingInterpreter(graph)

    def embed(self, images: Sequence[Pixels]) -> Embeddings:
        """Returns (N, D) embeddings as half precision gives them: NaN or infinite where it overflows."""
        return embed_one_by_one(self._run, images, self.preprocessing, self.space.dimension)

    def close(self) -> None:
        """Frees the graph."""
        self._interpreter = None

    def _run(self, pixels: Pixels) -> Embeddings:
        assert self._interpreter is not None
        with torch.inference_mode():
            embeddings: Tensor = self._interpreter.run(torch.tensor(pixels))
        return embeddings.numpy()


@dataclass(frozen=True)
class HeadRange:
    """The range of the head's input (after the adaptor and its ReLU) over some images.

    Args:
        largest: of all features.
        smallest_positive: of all features above zero; infinite where there is none.
        exponent: GeM's p, which a plain head raises the features to.
        images: how many were looked at.
    """

    largest: float
    smallest_positive: float
    exponent: float
    images: int

    @property
    def fits_half(self) -> bool:
        """Whether half precision holds the features themselves; what the exported head needs."""
        return self.largest <= LARGEST_HALF

    @property
    def fits_half_when_raised(self) -> bool:
        """Whether half precision holds the largest feature raised to p; what a head without rescaling would need."""
        return self.largest <= math.pow(LARGEST_HALF, 1 / self.exponent)


def record_head_range(network: DeployableStudent, images: Sequence[Pixels], preprocessing: Preprocessing) -> HeadRange:
    """Returns the range of the head's input over fitted real images, in single precision."""
    largest, smallest = 0.0, float("inf")
    for image in images:
        require_fitted(image, preprocessing)
        with torch.inference_mode():
            features = network.features(torch.tensor(image)[None])
        largest = max(largest, float(features.max()))
        positive = features[features > 0]
        smallest = min(smallest, float(positive.min())) if positive.numel() else smallest
    return HeadRange(largest, smallest, network.pool.p, len(images))


class _RoundingInterpreter(fx.Interpreter):
    """Runs a graph with every floating-point result and constant rounded to half."""

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        return result if n.op == "get_attr" else pytree.tree_map_only(Tensor, _rounded, result)

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        return super().call_function(target, pytree.tree_map_only(float, _rounded_constant, args), kwargs)


def _rounded(value: Tensor) -> Tensor:
    return rounded_to_half(value) if value.is_floating_point() else value


def _rounded_constant(value: float) -> float:
    return float(torch.tensor(value).half())
