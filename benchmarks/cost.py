"""What a network costs, on paper: parameters, multiply-accumulates and floating-point operations.

fvcore counts one multiply-accumulate (MAC) of a convolution or matrix product as one, and two for each value that a
batch normalisation with learned scale and shift puts out, one without them. The literature's "GFLOPs" are two for each
MAC, as here: two columns, said apart.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from aml_edge.errors import UsageError

FLOPS_PER_MAC = 2
GIGA = 1e9


@dataclass(frozen=True)
class CostReport:
    """What one image costs.

    Args:
        parameters: learned values; buffers such as batch-norm statistics are not among them.
        gmacs: 10⁹ multiply-accumulates.
        gflops: twice that.
        operator_gmacs: `gmacs` by operator, largest first.
        not_counted: operators that cost nothing here → how often they run; fvcore names no ReLU.
        height_px, width_px: of the image.
        counted: what is counted, in a sentence.
    """

    parameters: int
    gmacs: float
    gflops: float
    operator_gmacs: Mapping[str, float]
    not_counted: Mapping[str, int]
    height_px: int
    width_px: int
    counted: str


def measure_cost(network: nn.Module, image_side_px: int | tuple[int, int]) -> CostReport:
    """Returns what one image costs in a network in evaluation mode, which is left as it was.

    Args:
        network: (1, 3, H, W) float32 normalised images → anything.
        image_side_px: side of a square image, or (height, width).

    Raises:
        UsageError: the image has no pixels.
    """
    height, width = (image_side_px, image_side_px) if isinstance(image_side_px, int) else image_side_px
    if min(height, width) < 1:
        raise UsageError(f"`image_side_px` is {image_side_px}; an image has at least one pixel.")
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    with _evaluating(network), _quiet(), torch.no_grad():
        from fvcore.nn import FlopCountAnalysis

        analysis = FlopCountAnalysis(network, torch.zeros(1, 3, height, width, device=device))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        by_operator = {name: count for name, count in analysis.by_operator().most_common() if count}
        not_counted = {name.removeprefix("aten::"): runs for name, runs in analysis.unsupported_ops().most_common()}
    macs = sum(by_operator.values())
    return CostReport(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        gmacs=macs / GIGA,
        gflops=FLOPS_PER_MAC * macs / GIGA,
        operator_gmacs={name: count / GIGA for name, count in by_operator.items()},
        not_counted=not_counted,
        height_px=height,
        width_px=width,
        counted=_sentence(list(by_operator)),
    )


def _sentence(operators: list[str]) -> str:
    return (
        f"Multiply-accumulates of {' and '.join(operators) or 'nothing'}, as fvcore counts them; GFLOPs are twice the "
        "GMACs. Activations, pooling, additions and padding are not counted."
    )


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Puts a network into evaluation mode for a while, each module back into its own afterwards."""
    training = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, was_training in training.items():
            module.training = was_training


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what tracing warns of away from the user: it is traced to be counted, never to be run."""
    logger = logging.getLogger("fvcore.nn.jit_analysis")
    disabled = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = disabled
