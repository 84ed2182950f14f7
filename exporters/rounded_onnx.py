"""`write_rounded_onnx`: a copy of an ONNX file in which every step is rounded to half precision.

The steps themselves run in single precision: after each a few operators round what it gave. The types of the file do
not matter then, nor what a runtime makes of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from aml_edge.errors import UnknownOperatorError
from aml_edge.runtimes.half_rounding import SMALLEST_NORMAL_HALF

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, TensorProto

TINY, ZERO = "aml_edge/tiny", "aml_edge/zero"


def write_rounded_onnx(source: Path, target: Path) -> None:
    """Writes the copy; weights and results too small for a normal half become zero, too large ones infinite.

    Raises:
        UnknownOperatorError: an operator holds a graph of its own, or gives something whose type cannot be told.
    """
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load(source))
    graph = model.graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info, *graph.output)}
    for node in graph.node:
        _require_known(node, types, source)
    for weight in graph.initializer:
        _round(weight)
    rounding = [step for node in graph.node for step in _rounded(node, types)]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(rounding)
    for value in graph.output:
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    _add_constants(graph)
    target.write_bytes(model.SerializeToString())


def _require_known(node: NodeProto, types: dict[str, int], source: Path) -> None:
    holds_graph = any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)
    if holds_graph or any(types.get(name, 0) == 0 for name in node.output if name):
        raise UnknownOperatorError(
            f"{source} holds the operator {node.op_type}, whose steps cannot be rounded to half precision one by one; "
            "export it again with aml-edge."
        )


def _rounded(node: NodeProto, types: dict[str, int]) -> Iterator[NodeProto]:
    """Yields the node in single precision, then what rounds each of its results under the result's own name."""
    from onnx import TensorProto, helper

    floating = (TensorProto.FLOAT, TensorProto.FLOAT16)
    for attribute in node.attribute:
        if attribute.HasField("t"):
            _round(attribute.t)
        if attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
            attribute.i = TensorProto.FLOAT
    names = [name if types.get(name) in floating else None for name in node.output]
    for place, name in enumerate(names):
        if name is not None:
            node.output[place] = f"{name}/exact"
    yield node
    for name in names:
        if name is not None:
            yield helper.make_node("Cast", [f"{name}/exact"], [f"{name}/half"], to=TensorProto.FLOAT16)
            yield helper.make_node("Cast", [f"{name}/half"], [f"{name}/single"], to=TensorProto.FLOAT)
            yield helper.make_node("Abs", [f"{name}/single"], [f"{name}/size"])
            yield helper.make_node("Less", [f"{name}/size", TINY], [f"{name}/flushed"])
            yield helper.make_node("Where", [f"{name}/flushed", ZERO, f"{name}/single"], [name])


def _round(weight: TensorProto) -> None:
    """Makes a tensor of single or half precision one of single precision with values that half precision has."""
    from onnx import TensorProto, numpy_helper

    if weight.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16):
        weight.CopyFrom(numpy_helper.from_array(rounded_array(numpy_helper.to_array(weight)), weight.name))


def rounded_array(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Returns values as float32 rounded to half precision: infinite above its range, zero below its normal numbers."""
    with np.errstate(over="ignore"):
        half = values.astype(np.float16).astype(np.float32)
    half[np.abs(half) < SMALLEST_NORMAL_HALF] = 0.0
    return half


def _add_constants(graph: GraphProto) -> None:
    from onnx import numpy_helper

    for name, value in ((TINY, SMALLEST_NORMAL_HALF), (ZERO, 0.0)):
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
