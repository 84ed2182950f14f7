"""How the operators of an ML program compute: in integers, with weights of few bits, or in floating point."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

CONVOLUTION = "conv"
WIDENED = "constexpr_"
"""Operators of this prefix make a weight of what is stored in few bits."""
INTEGER_WEIGHT = "constexpr_affine_dequantize"
FUSED = {"relu", "relu6", "clip", "cast"}
"""A kernel for integers does these by the bounds of its result; a cast of what it rounds is nothing to it."""


@dataclass(frozen=True)
class MilCensus:
    """How the operators of a program compute; the fields are those of `OperatorCensus`."""

    integer_operators: Counter[str]
    integer_convolutions: int
    weight_only_convolutions: int
    float_convolutions: int
    largest_float_convolution: int


def mil_census(operations: Sequence[Any]) -> MilCensus:
    """Returns how the operators of a program compute; what does not name what it takes counts as floating point.

    An operator computes in integers where all that it takes was dequantized, its weight from 8 bits, and all that
    comes of it, a ReLU aside, is quantized.

    Args:
        operations: messages `Operation` of MIL.proto.
    """
    makers = {output.name: operation for operation in operations for output in operation.outputs}
    takers: defaultdict[str, list[Any]] = defaultdict(list)
    for operation in operations:
        for name in _taken(operation):
            takers[name].append(operation)
    integers: Counter[str] = Counter()
    weight_only = 0
    float_weights: list[int] = []
    for operation in operations:
        if _is_integer(operation, makers, takers):
            integers[operation.type] += 1
        elif operation.type == CONVOLUTION:
            weights = [makers.get(name) for name in _names(operation, "weight")]
            if any(one is not None and one.type.startswith(WIDENED) for one in weights):
                weight_only += 1
            else:
                float_weights.append(max((_size(one) for one in weights if one is not None), default=0))
    return MilCensus(integers, integers[CONVOLUTION], weight_only, len(float_weights), max(float_weights, default=0))


def _is_integer(operation: Any, makers: dict[str, Any], takers: dict[str, list[Any]]) -> bool:
    types = [_made_by(name, makers) for name in _taken(operation)]
    activations = [kind for kind in types if kind != "const" and not kind.startswith(WIDENED)]
    weights = [kind for kind in types if kind.startswith(WIDENED)]
    if operation.type == CONVOLUTION and not weights:
        return False
    return (
        bool(activations)
        and all(kind == "dequantize" for kind in activations)
        and all(kind == INTEGER_WEIGHT for kind in weights)
        and all(_is_quantized(output.name, takers) for output in operation.outputs)
    )


def _made_by(name: str, makers: dict[str, Any]) -> str:
    """Returns the type of what makes a result, before a cast; empty where nothing does."""
    maker = makers.get(name)
    if maker is not None and maker.type == "cast":
        maker = next((makers.get(taken) for taken in _names(maker, "x")), None)
    return "" if maker is None else str(maker.type)


def _is_quantized(name: str, takers: dict[str, list[Any]]) -> bool:
    """Returns whether all that takes a result quantizes it, or is a ReLU whose result is quantized."""
    users = takers.get(name, [])
    if len(users) == 1 and users[0].type in FUSED:
        users = [taker for output in users[0].outputs for taker in takers.get(output.name, [])]
    return bool(users) and all(user.type == "quantize" for user in users)


def _taken(operation: Any) -> Iterator[str]:
    """Yields the names of what an operation takes; constants written into it have none."""
    for argument in operation.inputs:
        yield from _names(operation, argument)


def _names(operation: Any, argument: str) -> Iterator[str]:
    if argument in operation.inputs:
        yield from (one.name for one in operation.inputs[argument].arguments if not one.HasField("value"))


def _size(operation: Any) -> int:
    """Returns the number of values of an operation's result; a size that is not fixed counts as none."""
    return sum(
        math.prod(dimension.constant.size for dimension in output.type.tensorType.dimensions)
        for output in operation.outputs
    )
