"""Dead channels: weights so small that, in their own steps, the channel's bias does not fit in 32 bits.

A file stores a bias in steps of the input's scale times the weight's. ImageNet's networks have channels whose weights
decayed to nothing while their bias did not; there the steps vanish, the stored bias is cut off, and the channel, which
should be constant, is wrong by a hundred steps of its result.
"""

from __future__ import annotations

import torch
from torch import Tensor

from aml_edge.quantization.graph import SiteGraph, SiteKind
from aml_edge.quantization.quantization import Quantization
from aml_edge.quantization.tensors import WEIGHT_LIMIT

LARGEST_STORED_BIAS = 2**30
"""Half of what 32 bits hold: the sum over the weights still has to fit beside it."""


def with_biases_that_fit(graph: SiteGraph, quantization: Quantization) -> SiteGraph:
    """Returns a network in which every stored bias fits: in a dead channel one weight is made large enough.

    What that weight adds is less than 127 × 256 / 2³⁰ of the channel's bias.

    Args:
        graph: left as it is.
        quantization: which blocks compute in integers.
    """
    changed: dict[str, Tensor] = {}
    for site in quantization.integer_sites(graph):
        if site.kind is not SiteKind.CONVOLUTION:
            continue
        weight, bias = graph.state(site.weight).detach(), graph.state(site.bias).detach()
        least = bias.abs() * WEIGHT_LIMIT / (quantization.of(site.inputs[0]).scale * LARGEST_STORED_BIAS)  # (O,)
        too_small = weight.abs().flatten(1).amax(1) < least
        if too_small.any():
            fitted = weight.clone(memory_format=torch.contiguous_format)
            fitted.flatten(1)[too_small, 0] = least[too_small]
            changed[site.weight] = fitted
    return graph.with_state(changed)
