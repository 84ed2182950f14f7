"""ONNX through `torch.export`: (1, H, W, 3) uint8 `image` → (1, D) float32 `embedding`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from aml_edge.artifact import Precision
from aml_edge.exporters.export_spec import ExportSpec
from aml_edge.exporters.quantization.onnx_qdq import quantize_onnx
from aml_edge.exporters.quantization.onnx_weights import quantize_dynamically, widen_weights
from aml_edge.networks.deployable import DeployableStudent
from aml_edge.quantization.post_training import QuantizedStudent

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 20
TARGET = f"opset {OPSET}"


def write_onnx(
    network: DeployableStudent, spec: ExportSpec, path: Path, quantized: QuantizedStudent | None = None
) -> None:
    """Writes the model at `path`; in fp16 all before the pooling computes in half, the head in single precision.

    Raises:
        ExportError: of a calibrated precision, where the model's nodes are not the network's sites.
    """
    exported = network.with_half_trunk(spec.image_side_px) if spec.precision is Precision.FP16 else network
    program = torch.onnx.export(
        exported,
        (torch.zeros(spec.input_shape, dtype=torch.uint8),),
        dynamo=True,
        opset_version=OPSET,
        input_names=["image"],
        output_names=["embedding"],
        external_data=False,
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # the exporter's stack traces name folders of this machine
    for value in model.graph.value_info:
        del value.metadata_props[:]
    path.write_bytes(_with_integers(model, spec.precision, quantized).SerializeToString())


def lower_onnx(path: Path, precision: Precision, quantized: QuantizedStudent | None) -> None:
    """Replaces a file in floating point by one with integer weights; raises as `write_onnx`."""
    import onnx

    model = _with_integers(onnx.load_model_from_string(path.read_bytes()), precision, quantized)
    path.write_bytes(model.SerializeToString())


def _with_integers(model: ModelProto, precision: Precision, quantized: QuantizedStudent | None) -> ModelProto:
    if quantized is not None:
        return quantize_onnx(model, quantized)
    if precision is Precision.INT8_WEIGHTS:
        return widen_weights(model)
    return quantize_dynamically(model) if precision is Precision.INT8_DYNAMIC else model
