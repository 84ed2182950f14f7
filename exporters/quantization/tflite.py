"""TFLite files in integers, made by ai-edge-quantizer of a file in floating point.

It is not asked to calibrate: the ranges it gets are those of our quantization, so that the file computes what
`FakeQuantizedNetwork` does. Weights are symmetric, one scale an output channel, in all precisions.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from aml_edge.artifact import Precision
from aml_edge.errors import MissingExtraError
from aml_edge.exporters.quantization.proof import LARGEST_FLOAT_WEIGHT
from aml_edge.exporters.quantization.tflite_operators import (
    HARD_SIGMOID_HIGH,
    HARD_SIGMOID_SHIFT,
    TfliteSites,
    find_sites,
)
from aml_edge.exporters.quantization.tflite_sharing import without_repetition
from aml_edge.quantization.graph import INPUT
from aml_edge.quantization.post_training import QuantizedStudent
from aml_edge.quantization.quantization import Quantization
from aml_edge.quantization.tensors import TensorQuantization

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


def quantized_tflite(model: bytes, precision: Precision, quantized: QuantizedStudent | None) -> bytes:
    """Returns a TFLite file in integers; the same input gives the same bytes.

    Args:
        model: the file in floating point, of the quantized student's network where there is one.
        precision: one with integer weights that TFLite has.
        quantized: which integers, where the precision is calibrated.

    Raises:
        ExportError: the file does not correspond to the network.
        MissingExtraError: ai-edge-quantizer is not installed.
    """
    try:
        from ai_edge_quantizer import quantizer
    except ImportError:
        raise MissingExtraError("ai-edge-quantizer", "tflite", f"the TFLite format in {precision}") from None
    converting, ranges = quantizer.Quantizer(bytearray(model)), None
    if precision.is_calibrated:
        assert quantized is not None, "a calibrated precision comes with a prepared student"
        ranges = _configure(converting, find_sites(model, quantized.graph), quantized)
    elif precision is Precision.INT8_DYNAMIC:
        for name in CONVOLUTIONS:
            converting.add_dynamic_config(".*", name, num_bits=8)
    else:
        converting.load_quantization_recipe(_weight_only())
    made = converting.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    return without_repetition(bytes(made.quantized_model))


def _configure(converting: Any, sites: TfliteSites, quantized: QuantizedStudent) -> dict[str, dict[str, Any]]:
    """Asks for integers of the operators of integer sites; returns the range of every tensor that needs one."""
    tensors, quantization = sites.subgraph.tensors, quantized.quantization
    integer = {site.name for site in quantization.integer_sites(quantized.graph)}
    for operator in sites.subgraph.operators:
        number = operator.outputs[0]
        if sites.activations.get(number) in integer and (number in sites.operators or operator in sites.moving):
            scope = f"^{re.escape(tensors[number].name)};$"
            bits = quantization.of(sites.activations[number]).bits
            converting.add_static_config(scope, operator.name, activation_num_bits=bits, weight_num_bits=8)
    return {
        tensors[number].name: _range(_stored(quantization, name, number, sites), len(tensors[number].shape))
        for number, name in sites.activations.items()
        if name in quantization.activations
    }


def _stored(quantization: Quantization, name: str, number: int, sites: TfliteSites) -> TensorQuantization:
    """Returns how a tensor is stored that holds an activation: as that is, or as what the converter made of it."""
    stored = quantization.of(name)
    if name == INPUT:
        return TensorQuantization(stored.scale / sites.image_scale, stored.zero_point, stored.bits)
    if number in sites.hard_sigmoids:
        low, high = (
            min(max(bound + HARD_SIGMOID_SHIFT, 0.0), HARD_SIGMOID_HIGH) for bound in (stored.low, stored.high)
        )
        return TensorQuantization.of_range(low, high, stored.bits)
    return stored


def _range(stored: TensorQuantization, rank: int) -> dict[str, Any]:
    """Returns the range that makes the quantizer store a tensor as we say."""
    low, high = (np.full((1,) * rank, bound, np.float32) for bound in (stored.low, stored.high))
    return {"min": low, "max": high}


def _weight_only() -> list[dict[str, Any]]:
    from ai_edge_quantizer import recipe

    entries: list[dict[str, Any]] = recipe.weight_only_wi8_afp32()
    return [
        {**entry, "op_config": {**entry["op_config"], "min_weight_elements": LARGEST_FLOAT_WEIGHT}} for entry in entries
    ]
