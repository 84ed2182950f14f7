"""Drift: how far each activation of a network in integers is from what it is in floating point, in run order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from aml_edge.exporters.quantization.sensitivity import batches_of
from aml_edge.pixels import Pixels
from aml_edge.progress import Progress, SilentProgress
from aml_edge.quantization.fake_quantized import FakeQuantizedNetwork
from aml_edge.quantization.graph import HEAD, SiteGraph
from aml_edge.quantization.post_training import QuantizedStudent

EMBEDDING = "embedding"
"""What the last site is called here: the network's result, after the head."""
BATCH = 4
"""Images whose every activation is kept at once."""


@dataclass(frozen=True)
class SiteDrift:
    """One activation in integers beside floating point.

    Args:
        name: of the site that makes it.
        block: that the site belongs to.
        float_rms, integer_rms: root of the mean square, over images and values.
        relative_error: root of the squared error over the squared values in floating point, summed over images.
        input_error: the largest relative error of what the site takes; 0 of the image.
    """

    name: str
    block: str
    float_rms: float
    integer_rms: float
    relative_error: float
    input_error: float

    @property
    def rise(self) -> float:
        """By how much the relative error is above that of what the site takes."""
        return self.relative_error - self.input_error


def measure_drift(
    graph: SiteGraph, student: QuantizedStudent, images: Sequence[Pixels], progress: Progress | None = None
) -> tuple[SiteDrift, ...]:
    """Returns the drift of each site before the head, in run order, and of the embedding last.

    Args:
        graph: the network in floating point.
        student: the same network, prepared for integers.
        images: N of (H, W, 3) uint8.
        progress: where the work is announced.
    """
    in_float, in_integers = FakeQuantizedNetwork(graph, None), FakeQuantizedNetwork(student.graph, student.quantization)
    sums: dict[str, _Sums] = {}
    with torch.inference_mode(), (progress or SilentProgress()).task("drift along the network", len(images)) as task:
        for batch in batches_of(images, BATCH):
            kept: dict[str, Tensor] = {}
            kept[EMBEDDING] = in_float(batch, kept.__setitem__)
            added: dict[str, _Sums] = {}

            def compare(
                name: str, values: Tensor, kept: Mapping[str, Tensor] = kept, added: dict[str, _Sums] = added
            ) -> None:
                added[name] = _Sums.of(kept[name], values)

            compare(EMBEDDING, in_integers(batch, compare))
            sums = {name: one if name not in sums else sums[name].plus(one) for name, one in added.items()}
            task.advance(len(batch))
    return _drifts(graph, sums)


def steepest(drifts: Sequence[SiteDrift], count: int) -> tuple[SiteDrift, ...]:
    """Returns the sites that add most to the relative error, the steepest first."""
    return tuple(sorted(drifts, key=lambda one: -one.rise)[:count])


@dataclass(frozen=True)
class _Sums:
    """Sums of squares of one activation, in double precision, and how many values it has."""

    in_float: float
    in_integers: float
    error: float
    values: int

    @classmethod
    def of(cls, in_float: Tensor, in_integers: Tensor) -> _Sums:
        error = in_integers - in_float
        return cls(_sum_of_squares(in_float), _sum_of_squares(in_integers), _sum_of_squares(error), in_float.numel())

    def plus(self, other: _Sums) -> _Sums:
        return _Sums(
            self.in_float + other.in_float,
            self.in_integers + other.in_integers,
            self.error + other.error,
            self.values + other.values,
        )

    @property
    def relative_error(self) -> float:
        return sqrt(self.error / self.in_float) if self.in_float > 0 else float(self.error > 0)


def _sum_of_squares(values: Tensor) -> float:
    return float(values.square().sum(dtype=torch.float64))


def _drifts(graph: SiteGraph, sums: Mapping[str, _Sums]) -> tuple[SiteDrift, ...]:
    sites = [(site.name, site.block, site.inputs) for site in graph.sites if site.block != HEAD]
    sites.append((EMBEDDING, HEAD, (sites[-1][0],)))
    return tuple(
        SiteDrift(
            name,
            block,
            sqrt(sums[name].in_float / sums[name].values),
            sqrt(sums[name].in_integers / sums[name].values),
            sums[name].relative_error,
            max((sums[one].relative_error for one in inputs), default=0.0),
        )
        for name, block, inputs in sites
    )
