"""`OPERATORS`: what each operator of an ML program computes, in PyTorch and in single precision.

To add one: a function of `MilArguments`, a line in the table, a test against a closed form. Where coremltools'
description leaves something open (the padding types "same"), it is refused, not guessed.

Source: coremltools' reference of MIL operators,
https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from aml_edge.runtimes.mil_arguments import MilArgumentError, MilArguments
from aml_edge.runtimes.mil_constant_operators import CONSTANT_OPERATORS
from aml_edge.runtimes.mil_integer_operators import INTEGER_OPERATORS
from aml_edge.runtimes.mil_spatial_operators import SPATIAL_OPERATORS

Operator = Callable[[MilArguments], Tensor | Sequence[Tensor]]


def _unary(function: Callable[[Tensor], Tensor]) -> Operator:
    return lambda arguments: function(arguments.tensor("x"))


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return lambda arguments: function(arguments.tensor("x"), arguments.tensor("y"))


def _scaled(function: Callable[[Tensor, float, float], Tensor]) -> Operator:
    return lambda arguments: function(arguments.tensor("x"), arguments.number("alpha"), arguments.number("beta"))


def _raised(function: Callable[[Tensor], Tensor], epsilon: float) -> Operator:
    """An operator that adds a small number before it computes."""
    return lambda arguments: function(arguments.tensor("x") + arguments.number("epsilon", epsilon))


def _reduction(function: Callable[[Tensor, list[int], bool], Tensor]) -> Operator:
    def reduce(arguments: MilArguments) -> Tensor:
        values = arguments.tensor("x")
        return function(values, arguments.integers("axes", range(values.ndim)), arguments.flag("keep_dims"))

    return reduce


def _gelu(arguments: MilArguments) -> Tensor:
    values, mode = arguments.tensor("x"), arguments.text("mode", "EXACT")
    if mode == "EXACT":
        return functional.gelu(values)
    if mode == "TANH_APPROXIMATION":
        return functional.gelu(values, approximate="tanh")
    if mode == "SIGMOID_APPROXIMATION":
        return values * torch.sigmoid(1.702 * values)
    raise MilArgumentError(f"its mode {mode!r} is not known")


def _leaky_relu(arguments: MilArguments) -> Tensor:
    return functional.leaky_relu(arguments.tensor("x"), arguments.number("alpha"))


def _prelu(arguments: MilArguments) -> Tensor:
    return functional.prelu(arguments.tensor("x"), arguments.tensor("alpha"))


def _thresholded_relu(arguments: MilArguments) -> Tensor:
    values = arguments.tensor("x")
    return torch.where(values >= arguments.number("alpha"), values, 0.0)


def _softmax(arguments: MilArguments) -> Tensor:
    return torch.softmax(arguments.tensor("x"), arguments.integer("axis", -1))


def _linear(arguments: MilArguments) -> Tensor:
    return functional.linear(arguments.tensor("x"), arguments.tensor("weight"), arguments.optional("bias"))


def _matmul(arguments: MilArguments) -> Tensor:
    left, right = arguments.tensor("x"), arguments.tensor("y")
    left = left.transpose(-1, -2) if arguments.flag("transpose_x") else left
    return left @ (right.transpose(-1, -2) if arguments.flag("transpose_y") else right)


def _cast(arguments: MilArguments) -> Tensor:
    dtype = {"fp32": torch.float32, "fp16": torch.float32, "int32": torch.int32, "bool": torch.bool}
    name = arguments.text("dtype", "")
    if name not in dtype:
        raise MilArgumentError(f"its dtype {name!r} is not known")
    return arguments.tensor("x").to(dtype[name])


def _reshape(arguments: MilArguments) -> Tensor:
    values, shape = arguments.tensor("x"), arguments.integers("shape")
    if len(shape) == values.ndim:
        shape = [size or kept for size, kept in zip(shape, values.shape, strict=True)]
    return values.reshape(shape)


def _expand_dims(arguments: MilArguments) -> Tensor:
    values, axes = arguments.tensor("x"), arguments.integers("axes")
    rank = values.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        values = values.unsqueeze(axis)
    return values


def _squeeze(arguments: MilArguments) -> Tensor:
    values = arguments.tensor("x")
    ones = [axis for axis, size in enumerate(values.shape) if size == 1]
    return values.squeeze(tuple(arguments.integers("axes", ones)))


def _concat(arguments: MilArguments) -> Tensor:
    values, axis = arguments.tensors("values"), arguments.integer("axis")
    if not arguments.flag("interleave"):
        return torch.cat(values, axis)
    axis %= values[0].ndim
    return torch.stack(values, axis + 1).flatten(axis, axis + 1)


def _split(arguments: MilArguments) -> Sequence[Tensor]:
    values, axis = arguments.tensor("x"), arguments.integer("axis")
    if arguments.has("split_sizes"):
        return torch.split(values, arguments.integers("split_sizes"), axis)
    return torch.tensor_split(values, arguments.integer("num_splits"), axis)


def _slice_by_index(arguments: MilArguments) -> Tensor:
    values = arguments.tensor("x")
    rank = values.ndim
    begins, ends = arguments.integers("begin"), arguments.integers("end")
    strides = arguments.integers("stride", [1] * rank)
    from_start, to_end = arguments.flags("begin_mask", rank), arguments.flags("end_mask", rank)
    single = arguments.flags("squeeze_mask", rank)
    if min(strides) < 1:
        raise MilArgumentError(f"its strides {strides} are not all positive")
    places: list[slice | int] = []
    for axis in range(rank):
        begin, end = None if from_start[axis] else begins[axis], None if to_end[axis] else ends[axis]
        places.append(begins[axis] if single[axis] else slice(begin, end, strides[axis]))
    return values[tuple(places)]


def _layer_norm(arguments: MilArguments) -> Tensor:
    values = arguments.tensor("x")
    axes = sorted(axis % values.ndim for axis in arguments.integers("axes", range(values.ndim)))
    mean = values.mean(axes, keepdim=True)
    variance = (values - mean).square().mean(axes, keepdim=True)
    normalised = (values - mean) / (variance + arguments.number("epsilon", 1e-5)).sqrt()
    shape = [size if axis in axes else 1 for axis, size in enumerate(values.shape)]
    gamma, beta = arguments.optional("gamma"), arguments.optional("beta")
    scaled = normalised if gamma is None else normalised * gamma.reshape(shape)
    return scaled if beta is None else scaled + beta.reshape(shape)


OPERATORS: dict[str, Operator] = {
    # one tensor, value by value
    "abs": _unary(torch.abs),
    "ceil": _unary(torch.ceil),
    "erf": _unary(torch.erf),
    "exp": _unary(torch.exp),
    "floor": _unary(torch.floor),
    "gelu": _gelu,
    "identity": _unary(lambda values: values),
    "leaky_relu": _leaky_relu,
    "prelu": _prelu,
    "relu": _unary(torch.relu),
    "relu6": _unary(functional.relu6),
    "sigmoid": _unary(torch.sigmoid),
    "silu": _unary(functional.silu),
    "softmax": _softmax,
    "softplus": _unary(functional.softplus),
    "sqrt": _unary(torch.sqrt),
    "square": _unary(torch.square),
    "tanh": _unary(torch.tanh),
    "thresholded_relu": _thresholded_relu,
    "clip": _scaled(lambda values, low, high: values.clamp(low, high)),
    "linear_activation": _scaled(lambda values, factor, shift: values * factor + shift),
    "sigmoid_hard": _scaled(lambda values, factor, shift: (values * factor + shift).clamp(0, 1)),
    "inverse": _raised(torch.reciprocal, 1e-4),
    "log": _raised(torch.log, 1e-45),
    "rsqrt": _raised(torch.rsqrt, 1e-12),
    "cast": _cast,
    # two tensors
    "add": _binary(torch.add),
    "maximum": _binary(torch.maximum),
    "minimum": _binary(torch.minimum),
    "mul": _binary(torch.mul),
    "pow": _binary(torch.pow),
    "real_div": _binary(torch.div),
    "sub": _binary(torch.sub),
    "linear": _linear,
    "matmul": _matmul,
    # along axes
    "reduce_l1_norm": _reduction(lambda values, axes, keep: values.abs().sum(axes, keepdim=keep)),
    "reduce_l2_norm": _reduction(lambda values, axes, keep: values.square().sum(axes, keepdim=keep).sqrt()),
    "reduce_max": _reduction(lambda values, axes, keep: values.amax(axes, keepdim=keep)),
    "reduce_mean": _reduction(lambda values, axes, keep: values.mean(axes, keepdim=keep)),
    "reduce_min": _reduction(lambda values, axes, keep: values.amin(axes, keepdim=keep)),
    "reduce_sum": _reduction(lambda values, axes, keep: values.sum(axes, keepdim=keep)),
    "reduce_sum_square": _reduction(lambda values, axes, keep: values.square().sum(axes, keepdim=keep)),
    "layer_norm": _layer_norm,
    # shapes
    "concat": _concat,
    "expand_dims": _expand_dims,
    "reshape": _reshape,
    "slice_by_index": _slice_by_index,
    "split": _split,
    "squeeze": _squeeze,
    "tile": lambda arguments: arguments.tensor("x").repeat(arguments.integers("reps")),
    "transpose": lambda arguments: arguments.tensor("x").permute(arguments.integers("perm")),
    **SPATIAL_OPERATORS,
    **INTEGER_OPERATORS,
    **CONSTANT_OPERATORS,
}
