"""Folds batch normalisation into the convolution before it, in single precision.

A converter that folds half-precision weights rounds twice; and a runtime that folds never sees the values between
the two layers, which an evaluator of the unfolded graph would round. So what computes in half is folded first.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def fold_batch_norms(network: AnyModule, image: Tensor) -> AnyModule:
    """Returns a copy whose batch normalisations after a convolution are identities, the convolutions changed instead.

    Args:
        network: in evaluation mode, single precision.
        image: an input to find with it which convolution feeds which normalisation.
    """
    folded = copy.deepcopy(network)
    with torch.no_grad():
        for convolution, normalisation in batch_norms_after_convolutions(folded, image):
            _fold(convolution, normalisation)
    return folded


def batch_norms_after_convolutions(network: nn.Module, image: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Returns each batch normalisation whose input is a convolution's output, after that convolution, one run each.

    Args:
        network: in evaluation mode.
        image: an input to find them with.
    """
    made_by: dict[int, tuple[nn.Conv2d, Tensor]] = {}
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def after_convolution(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        made_by[id(output)] = (module, output)

    def before_normalisation(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, nn.BatchNorm2d)
        if id(inputs[0]) in made_by:
            pairs.append((made_by[id(inputs[0])][0], module))

    hooks = [
        module.register_forward_hook(after_convolution) for module in network.modules() if isinstance(module, nn.Conv2d)
    ] + [
        module.register_forward_pre_hook(before_normalisation)
        for module in network.modules()
        if isinstance(module, nn.BatchNorm2d)
    ]
    try:
        with torch.no_grad():
            network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return pairs


def _fold(convolution: nn.Conv2d, normalisation: nn.BatchNorm2d) -> None:
    mean, variance = normalisation.running_mean, normalisation.running_var
    assert mean is not None and variance is not None
    scale = (variance + normalisation.eps).rsqrt()
    if normalisation.affine:
        scale = scale * normalisation.weight
    shift = -mean * scale
    if normalisation.affine:
        shift = shift + normalisation.bias
        normalisation.weight.fill_(1.0)
        normalisation.bias.fill_(0.0)
    if convolution.bias is not None:
        shift = shift + convolution.bias * scale
    convolution.weight.mul_(scale[:, None, None, None])
    convolution.bias = nn.Parameter(shift)
    mean.fill_(0.0)
    variance.fill_(1.0)
    normalisation.eps = 0.0
