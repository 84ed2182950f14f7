"""Convolutions as a training step on a CPU does them soonest; they give what those of PyTorch and timm give.

TensorFlow's padding is uneven where a stride meets an even side: one more at the end. timm copies the feature map into
a padded one. Here the convolution pads both ends alike, and what the places too early would give is left out of its
output, which is smaller than its input by the stride in each direction.

The gradient of a k × k depthwise filter correlates the channel's input with the gradient of its output: it is a
depthwise convolution whose filter is as large as that output. PyTorch has a fast way for k = 3 only. Measured on two
cores, five images, PyTorch's way and this one: 1392 channels of 6 × 7 with filters of 5 × 5, 11.3 and 3.0 ms; 288 of
21 × 28, 4.7 and 2.9 ms; with filters of 3 × 3, 0.2 to 0.9 and 1.2 to 6.6 ms.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from aml_edge.networks.torchvision_guard import import_timm

Pair = tuple[int, int]
CORRELATED_KERNEL = (5, 5)
LARGEST_MAP = 784
"""Places of an output map up to which the correlation is used: 28 × 28, somewhat more than was measured."""


def is_known(module: nn.Module) -> bool:
    """Returns whether `convolution` knows a module; a class that derives from a known one may treat a weight first."""
    return type(module) in (nn.Conv2d, _padded_as_tensorflow())


def convolution(module: Any, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Returns what a convolution gives of a feature map with another weight and bias.

    Args:
        module: a known one, which says stride, padding, dilation and groups.
        features: (B, C, H, W).
        weight, bias: in place of its own.
    """
    if type(module) is nn.Conv2d:
        if module.padding_mode == "zeros" and not isinstance(module.padding, str):
            return _convolved(module, features, weight, bias, _pair(module.padding))
        convolved: Tensor = module._conv_forward(features, weight, bias)
        return convolved
    rows, columns = (_even_padding(module, axis, features.shape[2 + axis]) for axis in (0, 1))
    convolved = _convolved(module, features, weight, bias, (rows.padding, columns.padding))
    return convolved[:, :, rows.first : rows.first + rows.places, columns.first : columns.first + columns.places]


def depthwise_convolution(features: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair) -> Tensor:
    """Returns what `torch.nn.functional.conv2d` returns with as many groups as channels; gradients by correlation.

    Args:
        features: (B, C, H, W).
        weight: (C, 1, k, k).
        bias: (C,) or None.
        stride, padding: of rows and columns; zeros are padded.
    """
    convolved: Tensor = _Depthwise.apply(features, weight, bias, stride, padding)  # type: ignore[no-untyped-call]
    return convolved


class _EvenPadding(NamedTuple):
    """Zeros at both ends of one direction; `places` of the output are taken, from `first` on."""

    padding: int
    first: int
    places: int


def _even_padding(module: nn.Conv2d, axis: int, size: int) -> _EvenPadding:
    stride = module.stride[axis]
    count = -(-size // stride)
    both = max(0, (count - 1) * stride + module.dilation[axis] * (module.kernel_size[axis] - 1) + 1 - size)
    before, uneven = both // 2, both % 2
    return _EvenPadding(before + uneven * stride, uneven, count)


def _convolved(module: nn.Conv2d, features: Tensor, weight: Tensor, bias: Tensor | None, padding: Pair) -> Tensor:
    stride, dilation = _pair(module.stride), _pair(module.dilation)
    if _is_faster_correlated(module, features):
        return depthwise_convolution(features, weight, bias, stride, padding)
    return functional.conv2d(features, weight, bias, stride, padding, dilation, module.groups)


def _is_faster_correlated(module: nn.Conv2d, features: Tensor) -> bool:
    places = features.shape[2] * features.shape[3] / (module.stride[0] * module.stride[1])
    return (
        module.groups == module.in_channels == module.out_channels
        and module.kernel_size == CORRELATED_KERNEL
        and module.dilation == (1, 1)
        and places <= LARGEST_MAP
        and features.device.type == "cpu"
        and torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
    )


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.stride, ctx.padding = stride, padding
        return functional.conv2d(features, weight, bias, stride, padding, 1, features.shape[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        features, weight = ctx.saved_tensors
        of_features = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_features = torch.ops.aten.convolution_backward(
                gradient, features, weight, None, ctx.stride, ctx.padding, (1, 1), False, (0, 0), features.shape[1],
                (True, False, False),
            )[0]  # fmt: skip
        if ctx.needs_input_grad[1]:
            of_weight = _weight_gradient(features, gradient, weight.shape[2:], ctx.stride, ctx.padding)
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum(dim=(0, 2, 3))
        return of_features, of_weight, of_bias, None, None


def _weight_gradient(features: Tensor, gradient: Tensor, size: torch.Size, stride: Pair, padding: Pair) -> Tensor:
    """Returns (C, 1, k, k): each image's channels correlated with their gradients, summed over the images."""
    (rows, columns), (batch, channels, *out) = padding, gradient.shape
    padded = functional.pad(features.contiguous(), (columns, columns, rows, rows))
    correlated = functional.conv2d(
        padded.view(1, batch * channels, *padded.shape[2:]),
        gradient.reshape(batch * channels, 1, *out),
        dilation=stride,
        groups=batch * channels,
    )
    shifts = correlated[:, :, : size[0], : size[1]].reshape(batch, channels, *size)  # rows that no output met are left
    return shifts.sum(dim=0)[:, None]


@functools.cache
def _padded_as_tensorflow() -> type[nn.Module]:
    kind: type[nn.Module] = import_timm().layers.Conv2dSame
    return kind


def _pair(values: tuple[int, ...]) -> Pair:
    rows, columns = values
    return rows, columns
