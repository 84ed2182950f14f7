"""Operators of an ML program between real values and integers: real value = scale × (integer − zero point)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from aml_edge.runtimes.mil_arguments import MilArgumentError, MilArguments

_DTYPES = {"int8": torch.int8, "uint8": torch.uint8}


def _quantize(arguments: MilArguments) -> Tensor:
    values, name = arguments.tensor("input"), arguments.text("output_dtype", "")
    if name not in _DTYPES:
        raise MilArgumentError(f"its dtype {name!r} is not known")
    bounds = torch.iinfo(_DTYPES[name])
    steps = torch.round(values / _scale(arguments, values)) + _zero_point(arguments, values)
    return steps.clamp(bounds.min, bounds.max).to(_DTYPES[name])


def _dequantize(arguments: MilArguments) -> Tensor:
    values = arguments.tensor("input")
    if values.dtype not in _DTYPES.values():
        raise MilArgumentError("its argument 'input' holds no integers of 8 bits")
    return _scale(arguments, values) * (values.float() - _zero_point(arguments, values))


def _scale(arguments: MilArguments, values: Tensor) -> Tensor:
    scale = arguments.constant("scale").float()
    if not bool((scale > 0).all() and scale.isfinite().all()):
        raise MilArgumentError("its argument 'scale' is not finite and above zero everywhere")
    return _along(arguments, "scale", scale, values)


def _zero_point(arguments: MilArguments, values: Tensor) -> Tensor | int:
    if not arguments.has("zero_point"):
        return 0
    return _along(arguments, "zero_point", arguments.constant("zero_point").float(), values)


def _along(arguments: MilArguments, name: str, given: Tensor, values: Tensor) -> Tensor:
    """Returns a vector laid along the argument 'axis' of some values, or a single number as it is."""
    given = given.to(values.device)
    if not given.ndim:
        return given
    axis = arguments.integer("axis")
    if not -values.ndim <= axis < values.ndim or given.shape != (values.shape[axis],):
        raise MilArgumentError(f"its argument '{name}' has shape {tuple(given.shape)}, which axis {axis} has not")
    return given.reshape([-1 if place == axis % values.ndim else 1 for place in range(values.ndim)])


INTEGER_OPERATORS: dict[str, Callable[[MilArguments], Tensor]] = {"dequantize": _dequantize, "quantize": _quantize}
