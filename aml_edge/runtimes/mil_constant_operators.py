"""Operators of an ML program that unpack compressed weights; they are run once, when a program is loaded."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from aml_edge.runtimes.mil_arguments import MilArgumentError, MilArguments


def _affine_dequantize(arguments: MilArguments) -> Tensor:
    values, axis = arguments.tensor("quantized_data"), arguments.integer("axis")
    scale, zero_point = _along(arguments, "scale", values, axis), _along(arguments, "zero_point", values, axis)
    return scale * (values.float() - zero_point)


def _lut_to_dense(arguments: MilArguments) -> Tensor:
    table, shape = arguments.tensor("lut"), arguments.integers("shape")
    width = int(math.log2(table.numel())) if table.numel() else 0
    if not 1 <= width <= 8 or 2**width != table.numel():
        raise MilArgumentError(f"its argument 'lut' has {table.numel()} values, not a power of two up to 256")
    bits = _bits(arguments, "indices", math.prod(shape) * width).reshape(-1, width)
    places = bits @ (1 << np.arange(width, dtype=np.uint8))
    return table[torch.from_numpy(places).long()].reshape(shape)


def _sparse_to_dense(arguments: MilArguments) -> Tensor:
    values, shape = arguments.tensor("nonzero_data"), arguments.integers("shape")
    mask = torch.from_numpy(_bits(arguments, "mask", math.prod(shape)).astype(bool))
    if int(mask.sum()) != values.numel():
        raise MilArgumentError(f"its argument 'mask' keeps {int(mask.sum())} values, but {values.numel()} are given")
    return torch.zeros(mask.shape, dtype=values.dtype).masked_scatter(mask, values).reshape(shape)


def _bits(arguments: MilArguments, name: str, count: int) -> np.typing.NDArray[np.uint8]:
    """Returns the first bits of a vector of bytes, the least significant of each first."""
    content = arguments.tensor(name)
    if content.dtype != torch.uint8 or not 0 <= count <= 8 * content.numel() < count + 8:
        raise MilArgumentError(f"its argument '{name}' holds {8 * content.numel()} bits, where {count} are needed")
    return np.unpackbits(content.numpy(), count=count, bitorder="little")


def _along(arguments: MilArguments, name: str, values: Tensor, axis: int) -> Tensor:
    """Returns a vector laid along an axis of some values, or a single number as it is."""
    given = arguments.tensor(name).float()
    if not given.ndim:
        return given
    if not -values.ndim <= axis < values.ndim or given.shape != (values.shape[axis],):
        raise MilArgumentError(f"its argument '{name}' has shape {tuple(given.shape)}, which axis {axis} has not")
    return given.reshape([-1 if place == axis % values.ndim else 1 for place in range(values.ndim)])


CONSTANT_OPERATORS: dict[str, Callable[[MilArguments], Tensor]] = {
    "constexpr_affine_dequantize": _affine_dequantize,
    "constexpr_cast": lambda arguments: arguments.tensor("source_val").float(),
    "constexpr_lut_to_dense": _lut_to_dense,
    "constexpr_sparse_to_dense": _sparse_to_dense,
}
