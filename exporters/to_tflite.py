"""TFLite through litert-torch: (1, H, W, 3) uint8 `image` → (1, D) float32 `embedding`, channels last throughout."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from aml_edge.artifact import Precision
from aml_edge.errors import MissingExtraError
from aml_edge.exporters.export_spec import ExportSpec
from aml_edge.exporters.quantization.tflite import quantized_tflite
from aml_edge.networks.deployable import DeployableStudent
from aml_edge.quantization.post_training import QuantizedStudent

TARGET = "LiteRT builtin operators"


def write_tflite(
    network: DeployableStudent, spec: ExportSpec, path: Path, quantized: QuantizedStudent | None = None
) -> None:
    """Writes the model at `path`; in fp16 the weights are half, and a CPU computes in single precision with them.

    In integers it is written in floating point first: `aml_edge.exporters.quantization.tflite` says what becomes of it.
    """
    try:
        import litert_torch
    except ImportError:
        raise MissingExtraError("litert-torch", "tflite", "the TFLite format") from None
    image = torch.zeros(spec.input_shape, dtype=torch.uint8)
    litert_torch.convert(_NamedOutput(network).eval(), sample_kwargs={"image": image}).export(str(path))
    if spec.precision is Precision.FP16:
        _halve_weights(path)
    elif spec.precision.has_integer_weights:
        lower_tflite(path, spec.precision, quantized)


def lower_tflite(path: Path, precision: Precision, quantized: QuantizedStudent | None) -> None:
    """Replaces a file in floating point by one with integer weights; raises as `quantized_tflite`."""
    path.write_bytes(quantized_tflite(path.read_bytes(), precision, quantized))


class _NamedOutput(nn.Module):
    """Gives the signature's output its name."""

    def __init__(self, network: DeployableStudent) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"embedding": self.network(image)}


def _halve_weights(path: Path) -> None:
    """Stores the file's weights in half precision, each followed by an operator that widens it."""
    try:
        from ai_edge_quantizer import algorithm_manager, qtyping, quantizer
    except ImportError:
        raise MissingExtraError("ai-edge-quantizer", "tflite", "the TFLite format in fp16") from None
    halving = quantizer.Quantizer(str(path))
    halving.update_quantization_recipe(
        ".*",
        qtyping.TFLOperationName.ALL_SUPPORTED,
        qtyping.OpQuantizationConfig(
            weight_tensor_config=qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT),
            compute_precision=qtyping.ComputePrecision.FLOAT,
            explicit_dequantize=True,
        ),
        algorithm_key=algorithm_manager.AlgorithmName.FLOAT_CASTING,
    )
    halved = halving.quantize().quantized_model
    path.write_bytes(bytes(halved))
