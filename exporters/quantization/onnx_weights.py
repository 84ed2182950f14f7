"""ONNX with weights in 8 bits and activations in floating point, or in integers that each image chooses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from aml_edge.exporters.quantization.proof import LARGEST_FLOAT_WEIGHT
from aml_edge.quantization.tensors import SMALLEST_RANGE, WEIGHT_LIMIT

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto


FLOAT = 1
"""Number of float32 among ONNX's data types."""


def widen_weights(model: ModelProto) -> ModelProto:
    """Returns a model whose larger convolution weights are int8, one scale an output channel, widened before use.

    They are widened by a Cast and a product, which ONNX Runtime does once, when it loads the file. DequantizeLinear
    it would keep, for operators of integers that do not follow here, and do again for every image.

    Args:
        model: in single precision; changed.
    """
    from onnx import helper

    widened = []
    for _, weight in _large_convolutions(model):
        name = weight.name
        values, scales = _quantized(weight)
        _store(model, f"{name}.int8", values)
        _store(model, f"{name}.scale", scales.reshape(-1, 1, 1, 1))
        widened.append(helper.make_node("Cast", [f"{name}.int8"], [f"{name}.floats"], f"{name}.cast", to=FLOAT))
        widened.append(helper.make_node("Mul", [f"{name}.floats", f"{name}.scale"], [name], f"{name}.scaled"))
        model.graph.initializer.remove(weight)
    nodes = widened + list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def quantize_dynamically(model: ModelProto) -> ModelProto:
    """Returns a model whose larger convolutions compute in integers, with the range of what each is given.

    ONNX Runtime's own `quantize_dynamic` has one scale a weight for convolutions; here each output channel has one,
    without which filters of a depthwise convolution do not fit in 8 bits.

    Args:
        model: in single precision; changed.
    """
    from onnx import helper, numpy_helper

    replaced: dict[str, list[NodeProto]] = {}
    narrowed: set[str] = set()
    for node, weight in _large_convolutions(model):
        values, scales = _quantized(weight)
        source, result, name = node.input[0], node.output[0], node.name
        integers, scale, zero = (f"{source}.{part}" for part in ("integers", "scale", "zero"))
        made = []
        if source not in narrowed:
            narrowed.add(source)
            made.append(
                helper.make_node("DynamicQuantizeLinear", [source], [integers, scale, zero], f"{source}.narrowed")
            )
        _store(model, f"{weight.name}.int8", values)
        _store(model, f"{weight.name}.scale", scales.reshape(1, -1, 1, 1))
        sums, steps, floats, scaled = (f"{result}.{part}" for part in ("sums", "steps", "floats", "scaled"))
        convolution = helper.make_node(
            "ConvInteger", [integers, f"{weight.name}.int8", zero], [sums], f"{name}.integers"
        )
        convolution.attribute.extend(node.attribute)
        made += [
            convolution,
            helper.make_node("Cast", [sums], [floats], f"{name}.floats", to=FLOAT),
            helper.make_node("Mul", [scale, f"{weight.name}.scale"], [steps], f"{name}.steps"),
        ]
        bias = node.input[2] if len(node.input) > 2 else ""
        made.append(helper.make_node("Mul", [floats, steps], [scaled if bias else result], f"{name}.scaled"))
        if bias:
            stored = next(one for one in model.graph.initializer if one.name == bias)
            _store(model, f"{bias}.by_channel", numpy_helper.to_array(stored).reshape(1, -1, 1, 1))
            model.graph.initializer.remove(stored)
            made.append(helper.make_node("Add", [scaled, f"{bias}.by_channel"], [result], f"{name}.biased"))
        replaced[name] = made
        model.graph.initializer.remove(weight)
    nodes = [made for node in model.graph.node for made in replaced.get(node.name, [node])]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _large_convolutions(model: ModelProto) -> list[tuple[NodeProto, TensorProto]]:
    """Returns the convolutions with so many weights that they make a file large, and their weights."""
    weights = {one.name: one for one in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv" and node.input[1] in weights]
    found = [(node, weights[node.input[1]]) for node in convolutions]
    return [(node, weight) for node, weight in found if np.prod(weight.dims) >= LARGEST_FLOAT_WEIGHT]


def _quantized(weight: TensorProto) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Returns a weight (O, …) as integers and (O,) scales, as `aml_edge.quantization.tensors` rounds it."""
    from onnx import numpy_helper

    values = numpy_helper.to_array(weight)
    by_channel = values.reshape(len(values), -1)
    scales = np.maximum(np.abs(by_channel).max(1), np.float32(SMALLEST_RANGE)) / np.float32(WEIGHT_LIMIT)
    integers = np.rint(by_channel / scales[:, None]).clip(-WEIGHT_LIMIT, WEIGHT_LIMIT)
    return integers.astype(np.int8).reshape(values.shape), scales


def _store(model: ModelProto, name: str, values: npt.NDArray[np.generic]) -> None:
    from onnx import numpy_helper

    model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
