"""ONNX in integers by ranges that are given: ONNX Runtime's static quantizer, told the integers of each activation.

The file keeps operators of floating point between QuantizeLinear and DequantizeLinear (QDQ), which a runtime fuses
into operators of integers. Activations of 8 bits are stored without a sign, which processors multiply faster by signed
weights (on VNNI 6.7 ms beside 10.6); scale and the value of zero are those of the signed ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from aml_edge.exporters.quantization.onnx_sites import MOVING, SiteNode, match_sites
from aml_edge.quantization.post_training import QuantizedStudent
from aml_edge.quantization.quantization import Quantization

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

SIGN = 128
"""What an integer without sign is above the one with a sign."""
QUANTIZED = ("Conv", "Add", "Mul", "Sigmoid", "ReduceMean", "GlobalAveragePool", "Relu", "Clip", *sorted(MOVING))


def quantize_onnx(model: ModelProto, quantized: QuantizedStudent) -> ModelProto:
    """Returns a model whose integer sites compute in integers.

    Args:
        model: in single precision, of `quantized.graph.network`; changed.
        quantized: which sites, and how each activation is stored.

    Raises:
        ExportError: the model's nodes are not the network's sites.
    """
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    sites, quantization = match_sites(model, quantized.graph), quantized.quantization
    held = {site.name for site in quantization.integer_sites(quantized.graph)}
    integer = [one for one in sites.nodes if one.site.name in held]
    if not integer:
        return model
    _pool_whole_maps(one.node for one in integer)
    nodes = [node.name for one in integer for node in (one.node, one.activation) if node is not None]
    nodes += [node.name for node in model.graph.node if _moves(node, sites.activations, held)]
    model.metadata_props.add(key="onnx.infer", value="onnxruntime.quant")  # PyTorch inferred all shapes
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=False,
        nodes_to_quantize=nodes,
        nodes_to_exclude=[],
        op_types_to_quantize=list(QUANTIZED),
        **_stored(sites.activations, quantization, all(_range_does(one, quantized) for one in integer)),
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    made: ModelProto = quantizer.model.model
    del made.metadata_props[:]
    _give_floats(made, {value for value, name in sites.activations.items() if name not in held}, set(nodes))
    return made


def _pool_whole_maps(nodes: Iterable[NodeProto]) -> None:
    """Turns means of whole maps into the operator that runtimes have in integers."""
    for node in nodes:
        if node.op_type == "ReduceMean":
            node.op_type = "GlobalAveragePool"
            del node.input[1:], node.attribute[:]


def _moves(node: NodeProto, activations: Mapping[str, str], held: set[str]) -> bool:
    return node.op_type in MOVING and activations.get(node.input[0]) in held


def _stored(activations: Mapping[str, str], quantization: Quantization, ranges_do: bool) -> dict[str, Any]:
    """Returns what the quantizer has to know of the integers.

    Args:
        activations: value of the model → the activation that it is.
        quantization: how each activation is stored.
        ranges_do: whether every ReLU is done by the range of what follows it, so that none has to stay.
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData

    known = {value: quantization.of(name) for value, name in activations.items() if name in quantization.activations}
    unsigned = all(one.bits == 8 for one in known.values())
    kind = QuantType.QUInt8 if unsigned else QuantType.QInt16
    ranges, overrides = {}, {}
    for value, one in known.items():
        ranges[value] = TensorData(lowest=np.float32(one.low), highest=np.float32(one.high))
        zero_point = np.array(one.zero_point + SIGN, np.uint8) if unsigned else np.array(one.zero_point, np.int16)
        scale = np.array(one.scale, np.float32)
        overrides[value] = [{"quant_type": kind, "scale": scale, "zero_point": zero_point}]
    return {
        "weight_qType": QuantType.QInt8,
        "activation_qType": kind,
        "tensors_range": TensorsData(CalibrationMethod.MinMax, ranges),
        "extra_options": {
            "TensorQuantOverrides": overrides,
            "QDQKeepRemovableActivations": not ranges_do,
            "QDQDisableWeightAdjustForInt32Bias": True,  # the network was prepared so that its biases fit
        },
    }


def _range_does(one: SiteNode, quantized: QuantizedStudent) -> bool:
    """Returns whether the range of a site's result cuts off what its ReLU would."""
    if one.site.result == one.site.operator:
        return True
    relu, stored = quantized.graph.node(one.site.result), quantized.quantization.of(one.site.name)
    most = relu.args[2] if relu.target is torch.ops.aten.hardtanh.default else math.inf
    assert isinstance(most, float | int)
    return stored.zero_point == stored.lowest and stored.high <= most + stored.scale / 2


def _give_floats(model: ModelProto, made_in_float: set[str], integer: set[str]) -> None:
    """Lets operators of floating point take what others of floating point made as it is, not rounded for integers."""
    from onnxruntime.quantization.quant_utils import DEQUANT_OP_NAME, QUANT_OP_NAME, add_dequant_output_suffix

    rounded = {add_dequant_output_suffix(value): value for value in made_in_float}
    for node in model.graph.node:
        if node.name not in integer and node.op_type not in (QUANT_OP_NAME, DEQUANT_OP_NAME):
            for place, name in enumerate(node.input):
                node.input[place] = rounded.get(name, name)
