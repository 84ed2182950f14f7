"""Operators of an ML program over images, (B, C, H, W) or with another number of spatial axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from aml_edge.runtimes.mil_arguments import MOST_VALUES, MilArgumentError, MilArguments

_CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_MAX_POOLS = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_AVERAGE_POOLS = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


def _convolution(arguments: MilArguments) -> Tensor:
    axes = _spatial_axes(arguments)
    padding = _padding(arguments, axes)
    symmetric = padding[::2] == padding[1::2]
    values = arguments.tensor("x") if symmetric else _padded(arguments.tensor("x"), padding)
    return _CONVOLUTIONS[axes](
        values,
        arguments.tensor("weight"),
        arguments.optional("bias"),
        stride=arguments.integers("strides", [1] * axes),
        padding=padding[::2] if symmetric else 0,
        dilation=arguments.integers("dilations", [1] * axes),
        groups=arguments.integer("groups", 1),
    )


def _max_pool(arguments: MilArguments) -> Tensor:
    axes = _spatial_axes(arguments)
    padding = _padding(arguments, axes)
    kernel, strides = arguments.integers("kernel_sizes"), arguments.integers("strides", [1] * axes)
    values = arguments.tensor("x")
    if arguments.flag("ceil_mode"):
        return _MAX_POOLS[axes](values, kernel, strides, _symmetric(padding), ceil_mode=True)
    return _MAX_POOLS[axes](_padded(values, padding, -math.inf), kernel, strides)


def _average_pool(arguments: MilArguments) -> Tensor:
    axes = _spatial_axes(arguments)
    padding = _padding(arguments, axes)
    kernel, strides = arguments.integers("kernel_sizes"), arguments.integers("strides", [1] * axes)
    values, exclude = arguments.tensor("x"), arguments.flag("exclude_padding_from_average")
    pool = _AVERAGE_POOLS[axes]
    if arguments.flag("ceil_mode"):
        return pool(values, kernel, strides, _symmetric(padding), True, not exclude)
    means = pool(_padded(values, padding), kernel, strides)
    return means / pool(_padded(torch.ones_like(values), padding), kernel, strides) if exclude else means


def _pad(arguments: MilArguments) -> Tensor:
    values, padding, mode = arguments.tensor("x"), arguments.integers("pad"), arguments.text("mode", "constant")
    if mode == "constant":
        return _padded(values, padding, arguments.number("constant_val", 0.0))
    if mode not in ("reflect", "replicate"):
        raise MilArgumentError(f"its mode {mode!r} is not known")
    if any(padding[: -2 * (values.ndim - 2)]):
        raise MilArgumentError(f"its mode {mode!r} is known for spatial axes only")
    return functional.pad(values, _innermost_first(padding[-2 * (values.ndim - 2) :]), mode)


def _batch_norm(arguments: MilArguments) -> Tensor:
    return functional.batch_norm(
        arguments.tensor("x"),
        arguments.tensor("mean"),
        arguments.tensor("variance"),
        arguments.optional("gamma"),
        arguments.optional("beta"),
        eps=arguments.number("epsilon", 1e-5),
    )


def _instance_norm(arguments: MilArguments) -> Tensor:
    return functional.instance_norm(
        arguments.tensor("x"),
        weight=arguments.optional("gamma"),
        bias=arguments.optional("beta"),
        eps=arguments.number("epsilon", 1e-5),
    )


def _spatial_axes(arguments: MilArguments) -> int:
    axes = arguments.tensor("x").ndim - 2
    if axes not in _CONVOLUTIONS:
        raise MilArgumentError(f"its argument 'x' has {axes} spatial axes")
    return axes


def _padding(arguments: MilArguments, axes: int) -> list[int]:
    """Returns how much is added before and after each spatial axis."""
    kind = arguments.text("pad_type", "valid")
    if kind == "valid":
        return [0] * (2 * axes)
    if kind == "custom":
        return arguments.integers("pad", [0] * (2 * axes))
    raise MilArgumentError(f"its padding {kind!r} is not known")


def _symmetric(padding: Sequence[int]) -> list[int]:
    if padding[::2] != padding[1::2]:
        raise MilArgumentError(f"its padding {list(padding)} is not symmetric, which 'ceil_mode' needs")
    return list(padding[::2])


def _padded(values: Tensor, padding: Sequence[int], value: float = 0.0) -> Tensor:
    """Returns values with (before, after) of each of the last axes added."""
    if len(padding) % 2 or (padding and min(padding) < 0):
        raise MilArgumentError(f"its padding {list(padding)} is not two counts an axis")
    added = [0] * (2 * values.ndim - len(padding)) + list(padding)
    sizes = [size + added[2 * axis] + added[2 * axis + 1] for axis, size in enumerate(values.shape)]
    if math.prod(sizes) > MOST_VALUES:
        raise MilArgumentError(f"its padding {list(padding)} makes more values than this machine should hold")
    return functional.pad(values, _innermost_first(padding), value=value) if any(padding) else values


def _innermost_first(padding: Sequence[int]) -> list[int]:
    """Returns (before, after) pairs in the order that PyTorch wants."""
    pairs = [padding[place : place + 2] for place in range(0, len(padding), 2)]
    return [count for pair in reversed(pairs) for count in pair]


SPATIAL_OPERATORS: dict[str, Callable[[MilArguments], Tensor]] = {
    "avg_pool": _average_pool,
    "batch_norm": _batch_norm,
    "conv": _convolution,
    "instance_norm": _instance_norm,
    "max_pool": _max_pool,
    "pad": _pad,
}
