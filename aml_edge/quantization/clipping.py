"""`clipped_ranges`: ranges of activations that leave out what is too rare, or too small, to be worth steps.

The few largest values of an activation can be several times what all others are: one scale that holds them leaves the
others a handful of the 256 steps. ReLU6 leaves few of them; with SiLU, whose results have no bound, they are what
quantization after training loses most by. So the outermost values are cut off.

What SiLU takes ranges far below what it can tell apart: at −10 and at −60 it gives nothing. Below where its result is
less than a quarter of a step, a range would hold nothing else. Not of half a step: all that lies below would be stored
by the middle between two integers, and most values of such a network do.

Source: Wu et al., "Integer quantization for deep learning inference: principles and empirical evaluation", 2020, arXiv
2004.09602 (percentile calibration); that both ends are cut, and what SiLU takes, is ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aml_edge.pixels import Pixels
from aml_edge.progress import Progress, SilentProgress
from aml_edge.quantization.fake_quantized import FakeQuantizedNetwork
from aml_edge.quantization.graph import INPUT, SiteGraph, SiteKind
from aml_edge.quantization.observation import BATCH, ActivationRange, Observations

TAIL = 5e-5
"""Share of an activation's values that may lie beyond either end. On EfficientNet-B0 5e-5 to 2e-4 did alike, 2e-5 and
nothing worse; on Lite0 nothing to 5e-5 did alike (benchmarks/README.md)."""
BINS = 4096
"""Of a histogram from the smallest value to the largest: an end is known to a bin's width."""
MOST_VALUES = 1 << 16
"""Of an activation in an image: of larger ones every third, fifth … is counted, which took 7.6 s in place of 10.8 for
128 images and EfficientNet-B0. They have hundreds of values beyond an end even so."""
STEPS = 255


def clipped_ranges(
    graph: SiteGraph, observations: Observations, images: Sequence[Pixels], progress: Progress | None = None
) -> dict[str, ActivationRange]:
    """Returns by name the ranges of all activations but the image, whose pixels are never cut off.

    Args:
        graph: of the network, in floating point.
        observations: of the same network and images.
        images: (H, W, 3) uint8 each, of the graph's side.
        progress: where the pass is announced.
    """
    histograms = {name: _Histogram.of(seen.whole_range) for name, seen in observations.items() if name != INPUT}

    def watch(name: str, values: Tensor) -> None:
        if name in histograms:
            histograms[name].add(values)

    network = FakeQuantizedNetwork(graph, None)
    with torch.inference_mode(), (progress or SilentProgress()).task("choosing ranges", len(images)) as task:
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH]
            network(torch.from_numpy(np.stack(batch)), watch)
            task.advance(len(batch))
    ranges = {name: histogram.clipped() for name, histogram in histograms.items()}
    for taken, made in _silus(graph):
        low = max(ranges[taken].low, silu_floor(ranges[made]))
        ranges[taken] = ActivationRange(min(low, ranges[taken].high), ranges[taken].high)
    return ranges


def silu_floor(result: ActivationRange) -> float:
    """Returns the value below which SiLU gives less than a quarter of a step of its result's range, always below −1.28.

    Args:
        result: of the SiLU; a step is its width, zero included, over 255.
    """
    nothing = (max(result.high, 0.0) - min(result.low, 0.0)) / STEPS / 4
    below, above = -100.0, -1.2784645  # SiLU falls from nothing at the one to its lowest value at the other
    for _ in range(60):
        middle = (below + above) / 2
        if -middle / (1 + math.exp(-middle)) < nothing:
            below = middle
        else:
            above = middle
    return below


def _silus(graph: SiteGraph) -> Iterator[tuple[str, str]]:
    """Yields the names of what each SiLU takes and makes: a product of an activation with its own sigmoid."""
    sigmoids = {site.name: site.inputs[0] for site in graph.sites if site.kind is SiteKind.SIGMOID and site.inputs}
    for site in graph.sites:
        if site.kind is SiteKind.MULTIPLY:
            for gate in site.inputs:
                if gate in sigmoids and sigmoids[gate] in site.inputs:
                    yield sigmoids[gate], site.name


@dataclass(eq=False)
class _Histogram:
    """How often the values of an activation fall into equal parts of its range."""

    whole: ActivationRange
    counts: npt.NDArray[np.float64]

    @classmethod
    def of(cls, whole: ActivationRange) -> _Histogram:
        return cls(whole, np.zeros(BINS))

    def add(self, values: Tensor) -> None:
        if self.whole.low < self.whole.high:
            by_image = values.flatten(1)
            counted = by_image[:, :: max(1, by_image.shape[1] // MOST_VALUES) | 1]  # odd: no row is met in one column
            self.counts += torch.histc(counted.flatten(), BINS, self.whole.low, self.whole.high).double().numpy()

    def clipped(self) -> ActivationRange:
        """Returns the narrowest range of whole bins that leaves out at most `TAIL` at either end."""
        total = self.counts.sum()
        if not total:
            return self.whole
        edges = np.linspace(self.whole.low, self.whole.high, BINS + 1)
        below = np.cumsum(self.counts)
        first = int(np.searchsorted(below, TAIL * total, side="right"))
        last = BINS - 1 - int(np.searchsorted(np.cumsum(self.counts[::-1]), TAIL * total, side="right"))
        return ActivationRange(float(edges[first]), float(edges[last + 1]))
