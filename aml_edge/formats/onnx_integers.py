"""What of an ONNX graph computes in integers: operators between DequantizeLinear and QuantizeLinear, which a runtime
fuses with them, and those that are integer by themselves.

Source: ONNX Runtime's documentation of QDQ, "Quantize ONNX models", and the operators' own specifications.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import FunctionProto, GraphProto, NodeProto

WIDENING, NARROWING = "DequantizeLinear", "QuantizeLinear"
CONVERTING = {WIDENING, NARROWING, "DynamicQuantizeLinear"}
INTEGER = ("QLinear", "ConvInteger", "MatMulInteger")
"""How operators that take and give integers are called."""
CONVOLUTIONS = {"Conv", "QLinearConv", "ConvInteger"}
FEW_BITS = ("INT8", "UINT8", "INT4", "UINT4")
FUSED = {"Relu", "Clip"}
"""They may stand between an operator and what narrows its result."""


@dataclass(frozen=True)
class IntegerCounts:
    """Counts of one graph, or of several.

    Args:
        operators: operator type → how many compute in integers.
        integer, dynamic, weight_only: convolutions, as in `OperatorCensus`.
        float_weights: number of weights of each convolution in floating point; 0 where the file does not hold them.
    """

    operators: Mapping[str, int]
    integer: int
    dynamic: int
    weight_only: int
    float_weights: tuple[int, ...]


class ConvolutionKind(Enum):
    """How a convolution computes, as in `OperatorCensus`."""

    INTEGER = "integer"
    DYNAMIC = "dynamic"
    WEIGHT_ONLY = "weight-only"
    FLOAT = "float"


def count_integers(bodies: Iterable[GraphProto | FunctionProto]) -> IntegerCounts:
    """Returns the counts of some graphs and functions, without those inside of them."""
    operators: Counter[str] = Counter()
    kinds: Counter[ConvolutionKind] = Counter()
    float_weights = []
    for body in bodies:
        graph = _Graph.of(body)
        for node in body.node:
            if node.op_type in CONVERTING:
                continue
            operators.update([node.op_type] if graph.is_integer(node) else [])
            if node.op_type in CONVOLUTIONS:
                kind = graph.convolution_kind(node)
                kinds[kind] += 1
                float_weights += [graph.weights_of(node)] if kind is ConvolutionKind.FLOAT else []
    integer, dynamic, weight_only = (kinds[kind] for kind in list(ConvolutionKind)[:3])
    return IntegerCounts(dict(operators), integer, dynamic, weight_only, tuple(float_weights))


@dataclass(frozen=True, eq=False)
class _Graph:
    """Who makes and who takes each value.

    Args:
        made_by: value → the node that makes it.
        taken_by: value → the nodes that take it.
        stored: value that the file holds → how many numbers it is.
        in_few_bits: those of them that are integers of at most 8 bits.
    """

    made_by: Mapping[str, NodeProto]
    taken_by: Mapping[str, list[NodeProto]]
    stored: Mapping[str, int]
    in_few_bits: frozenset[str]

    @classmethod
    def of(cls, body: GraphProto | FunctionProto) -> _Graph:
        from onnx import TensorProto

        taken_by: dict[str, list[NodeProto]] = {}
        for node in body.node:
            for name in node.input:
                taken_by.setdefault(name, []).append(node)
        made_by = {name: node for node in body.node for name in node.output}
        few_bits = {TensorProto.DataType.Value(name) for name in FEW_BITS}
        weights = getattr(body, "initializer", ())  # a function has none
        stored = {one.name: math.prod(one.dims) for one in weights}
        few = frozenset(one.name for one in weights if one.data_type in few_bits)
        return cls(made_by, taken_by, stored, few)

    def is_integer(self, node: NodeProto) -> bool:
        """Returns whether a node is integer by itself, or takes what is widened and gives what is narrowed."""
        if str(node.op_type).startswith(INTEGER):  # what is no UTF-8 comes as bytes
            return True
        if node.op_type == "Conv" and not self._has_integer_weight(node):
            return False
        moving = [name for name in node.input if name and not self._is_stored(name)]
        return bool(moving) and all(map(self._is_widened, moving)) and all(map(self._is_narrowed, node.output))

    def convolution_kind(self, node: NodeProto) -> ConvolutionKind:
        """Returns how a convolution computes."""
        if node.op_type == "ConvInteger":
            return ConvolutionKind.DYNAMIC
        if self.is_integer(node):
            return ConvolutionKind.INTEGER
        return ConvolutionKind.WEIGHT_ONLY if self._has_widened_weight(node) else ConvolutionKind.FLOAT

    def weights_of(self, node: NodeProto) -> int:
        """Returns how many weights a convolution has."""
        return self.stored.get(node.input[1], 0) if len(node.input) > 1 else 0

    def _has_integer_weight(self, node: NodeProto) -> bool:
        """Returns whether a convolution's weight is stored in few bits and widened by DequantizeLinear."""
        maker = self._maker(node, 1)
        return maker is not None and maker.op_type == WIDENING and not self.in_few_bits.isdisjoint(maker.input[:1])

    def _has_widened_weight(self, node: NodeProto) -> bool:
        """Returns whether it is, or widened by a Cast and a product."""
        maker = self._maker(node, 1)
        cast = self._maker(maker, 0) if maker is not None and maker.op_type == "Mul" else None
        by_cast = cast is not None and cast.op_type == "Cast" and not self.in_few_bits.isdisjoint(cast.input[:1])
        return by_cast or self._has_integer_weight(node)

    def _maker(self, node: NodeProto, place: int) -> NodeProto | None:
        return self.made_by.get(node.input[place]) if len(node.input) > place else None

    def _is_stored(self, name: str) -> bool:
        """Returns whether a value is the file's: as it is, or widened."""
        maker = self.made_by.get(name)
        if maker is not None and maker.op_type == WIDENING and maker.input:
            name = maker.input[0]
        return name in self.stored

    def _is_widened(self, name: str) -> bool:
        return name in self.made_by and self.made_by[name].op_type == WIDENING

    def _is_narrowed(self, name: str) -> bool:
        takers = self.taken_by.get(name, [])
        if len(takers) == 1 and takers[0].op_type in FUSED and takers[0].output:
            takers = self.taken_by.get(takers[0].output[0], [])
        return bool(takers) and all(taker.op_type == NARROWING for taker in takers)
