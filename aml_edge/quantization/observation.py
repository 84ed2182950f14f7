"""What calibration images show of a network's activations, in floating point: ranges, and means of their channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aml_edge.errors import QuantizationError
from aml_edge.pixels import Pixels
from aml_edge.progress import Progress, SilentProgress
from aml_edge.quantization.fake_quantized import FakeQuantizedNetwork
from aml_edge.quantization.graph import SiteGraph, SiteKind
from aml_edge.quantization.quantization import Quantization
from aml_edge.quantization.tensors import TensorQuantization

BATCH = 16
"""Images that go through a network at once; more do not make it faster on a CPU."""


@dataclass(frozen=True)
class ActivationRange:
    """From where to where the values of an activation are stored."""

    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Observation:
    """What some images show of one activation.

    Args:
        low, high: (C,) smallest and largest value of each channel.
        mean: (C,) mean over images and places.
    """

    low: Tensor
    high: Tensor
    mean: Tensor

    @property
    def largest(self) -> Tensor:
        """(C,) largest absolute value of each channel."""
        return torch.maximum(-self.low, self.high)

    @property
    def whole_range(self) -> ActivationRange:
        """From the smallest value of all channels to the largest."""
        return ActivationRange(float(self.low.min()), float(self.high.max()))

    def divided_by(self, factors: Tensor) -> Observation:
        """Returns what is seen of the activation after its channels were divided by (C,) factors above zero."""
        return Observation(self.low / factors, self.high / factors, self.mean / factors)


Observations = Mapping[str, Observation]
"""By the name of the activation."""


def observe(graph: SiteGraph, images: Sequence[Pixels], progress: Progress | None = None) -> dict[str, Observation]:
    """Returns what images show of each activation of a network that is computed in floating point.

    Args:
        graph: of the network.
        images: (H, W, 3) uint8 each, of the graph's side.
        progress: where the pass is announced.

    Raises:
        QuantizationError: an activation is not finite; it is named.
    """
    seen = _Seen()
    network = FakeQuantizedNetwork(graph, None)
    with torch.inference_mode(), (progress or SilentProgress()).task("observing activations", len(images)) as task:
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH]
            network(torch.from_numpy(np.stack(batch)), seen.watch)
            task.advance(len(batch))
    return seen.observations()


def quantization_of(
    graph: SiteGraph,
    observations: Observations,
    *,
    ranges: Mapping[str, ActivationRange] | None = None,
    activation_bits: int = 8,
) -> Quantization:
    """Returns how a network's activations are stored by their ranges; the head stays in floating point.

    A sigmoid's result is always stored by the range of 0 to 1, as TFLite's kernels ask.

    Args:
        graph: of the network.
        observations: of the same network.
        ranges: by the name of the activation; those that are not there are stored by all that was observed.
        activation_bits: 8 or 16.
    """
    sigmoids = {site.name for site in graph.sites if site.kind is SiteKind.SIGMOID}
    chosen = {name: one.whole_range for name, one in observations.items()} | dict(ranges or {})
    return Quantization(
        {
            name: TensorQuantization.of_sigmoid(activation_bits)
            if name in sigmoids
            else TensorQuantization.of_range(one.low, one.high, activation_bits)
            for name, one in chosen.items()
        }
    )


class _Seen:
    """Adds up what is told of activations; means of maps in double precision."""

    def __init__(self) -> None:
        self._ranges: dict[str, tuple[Tensor, Tensor]] = {}
        self._sums: dict[str, tuple[Tensor, int]] = {}

    def watch(self, name: str, values: Tensor) -> None:
        by_channel = values.flatten(2) if values.ndim > 2 else values.reshape(len(values), -1, 1)  # (B, C, h·w)
        low, high = by_channel.amin((0, 2)), by_channel.amax((0, 2))
        if not (low.isfinite().all() and high.isfinite().all()):
            raise QuantizationError(
                f"the activation '{name}' is not finite on a calibration image, so no integers can hold it; look at "
                "the student's weights."
            )
        total = by_channel.mean(2).double().sum(0)
        if name in self._ranges:
            low, high = torch.minimum(low, self._ranges[name][0]), torch.maximum(high, self._ranges[name][1])
            total = total + self._sums[name][0]
        self._ranges[name] = low, high
        self._sums[name] = total, self._sums.get(name, (total, 0))[1] + len(values)

    def observations(self) -> dict[str, Observation]:
        return {
            name: Observation(low.clone(), high.clone(), (self._sums[name][0] / self._sums[name][1]).float())
            for name, (low, high) in self._ranges.items()
        }
