"""Core ML through `torch.export`: an ML program, image `image` (RGB, H×W) → (1, D) float32 `embedding`."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np
import torch
from torch import Tensor, nn

from aml_edge.artifact import Precision
from aml_edge.errors import MissingExtraError
from aml_edge.exporters.export_spec import ExportSpec
from aml_edge.exporters.quantization.coreml_activations import with_integers
from aml_edge.exporters.quantization.coreml_weights import write_compressed
from aml_edge.formats.mlpackage import MANIFEST
from aml_edge.networks.deployable import SMALLEST_DIVISOR, DeployableStudent
from aml_edge.quantization.post_training import QuantizedStudent

TARGET = "iOS17"
COMPRESSED = {Precision.INT8_WEIGHTS, Precision.PALETTE8, Precision.PALETTE6}
"""Weights are stored in few bits, and widened before a convolution in half precision."""

STORING = {"quantize", "dequantize"}


def write_coreml(
    network: DeployableStudent, spec: ExportSpec, path: Path, quantized: QuantizedStudent | None = None
) -> None:
    """Writes the package at `path`.

    But in fp32, all before the pooling is typed half, which a Neural Engine asks of what it computes, in integers too;
    the head is in single precision.
    """
    try:
        import coremltools
    except ImportError:
        raise MissingExtraError("coremltools", "coreml", "the Core ML format") from None
    if spec.precision in COMPRESSED:
        with TemporaryDirectory() as folder:
            whole = Path(folder) / "whole.mlpackage"
            _convert(network, spec, whole, coremltools)
            write_compressed(whole, spec.precision, path)
    elif spec.precision is Precision.INT8:
        assert quantized is not None, "a calibrated precision comes with a prepared student"
        _convert(with_integers(quantized), spec, path, coremltools)
    else:
        _convert(network, spec, path, coremltools)
    _name_items_by_place(path / MANIFEST)


def _convert(network: nn.Module, spec: ExportSpec, path: Path, coremltools: Any) -> None:
    _, height, width, channels = spec.input_shape
    image = torch.zeros(1, channels, height, width)
    program = torch.export.export(_ChannelsFirst(network), (image,)).run_decompositions({})
    single = coremltools.precision.FLOAT32
    half = coremltools.transform.FP16ComputePrecision(op_selector=_BeforeHead())
    coremltools.convert(
        program,
        inputs=[coremltools.ImageType(name="image", shape=image.shape, color_layout=coremltools.colorlayout.RGB)],
        outputs=[coremltools.TensorType(name="embedding", dtype=np.float32)],
        convert_to="mlprogram",
        minimum_deployment_target=coremltools.target[TARGET],
        compute_precision=single if spec.precision is Precision.FP32 else half,
        skip_model_load=True,
        package_dir=str(path),
    )


class _ChannelsFirst(nn.Module):
    """Takes an image as Core ML gives it to a program: (1, 3, H, W), values of 0 to 255.

    The network puts channels first after it has normalised them; the converter finds that both permutations cancel.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.training = False  # the network's parts are in evaluation mode; a graph's cannot be put there

    def forward(self, image: Tensor) -> Tensor:
        embeddings: Tensor = self.network(image.permute(0, 2, 3, 1))
        return embeddings


class _BeforeHead:
    """Selects the operations of a program up to the adaptor's ReLU, and that its result is stored in integers.

    What comes after the last convolution is the head. Nor are those selected whose scale half precision cannot hold.

    By place, not by type: the trunk clips and averages too.
    """

    def __init__(self) -> None:
        self._head: set[str] | None = None

    def __call__(self, operation: Any) -> bool:
        if self._head is None:  # at the first call the program is whole; later ones see it half converted
            operations = list(operation.enclosing_block.operations)
            last = max(place for place, one in enumerate(operations) if one.op_type == "conv")
            after = [one for one in operations[last + 1 :] if one.op_type != "const"]
            assert after[0].op_type == "relu"
            first = 2 if after[1].op_type == "quantize" else 1
            self._head = {one.name for one in after[first:]}
        if operation.op_type in STORING and float(operation.scale.val) < SMALLEST_DIVISOR:
            return False
        return operation.name not in self._head


def _name_items_by_place(manifest: Path) -> None:
    """Replaces the random identifiers of a package's items, so that the same student gives the same bytes."""
    record = json.loads(manifest.read_text(encoding="utf-8"))
    items = record["itemInfoEntries"]
    names = {item: str(uuid5(NAMESPACE_URL, entry["path"])) for item, entry in items.items()}
    record["itemInfoEntries"] = {names[item]: entry for item, entry in items.items()}
    record["rootModelIdentifier"] = names[record["rootModelIdentifier"]]
    manifest.write_text(json.dumps(record, indent=4, sort_keys=True) + "\n", encoding="utf-8")
