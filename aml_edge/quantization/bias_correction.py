"""Bias correction: what rounding a weight adds to a layer's mean result is taken off its bias.

The few weights of a depthwise filter do not average their rounding errors, and what they filter is positive after a
ReLU; so each channel is shifted, and every layer after it sees the shift.

Source: Nagel et al., "Data-free quantization through weight equalization and bias correction", ICCV 2019, section 4.2;
the expected input is measured on calibration images, not derived from batch normalisation.
"""

from __future__ import annotations

from torch import Tensor

from aml_edge.quantization.graph import SiteGraph, SiteKind
from aml_edge.quantization.observation import Observations
from aml_edge.quantization.quantization import Quantization
from aml_edge.quantization.tensors import fake_quantized_weight


def bias_corrected(graph: SiteGraph, quantization: Quantization, observations: Observations) -> SiteGraph:
    """Returns a network whose integer convolutions have the mean results that they had in floating point.

    Args:
        graph: left as it is; its weights are not changed.
        quantization: which blocks compute in integers.
        observations: of the network in floating point.
    """
    changed: dict[str, Tensor] = {}
    for site in quantization.integer_sites(graph):
        if site.kind is SiteKind.CONVOLUTION:
            weight = graph.state(site.weight).detach()
            errors = (fake_quantized_weight(weight) - weight).sum((2, 3))  # (O, C / groups)
            means = observations[site.inputs[0]].mean
            groups = len(means) // errors.shape[1]
            by_group = means.reshape(groups, 1, -1)  # (groups, 1, C / groups)
            shifts = (errors.reshape(groups, -1, errors.shape[1]) * by_group).sum(2).flatten()  # (O,)
            changed[site.bias] = graph.state(site.bias).detach() - shifts
    return graph.with_state(changed)
