"""Exporters to mobile formats, and the proof that a file still lives in the teacher's space.

To add a format: a module with an `Exporter`, and a line in `EXPORTERS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

from aml_edge.artifact import Format, Precision
from aml_edge.errors import MissingExtraError, UsageError
from aml_edge.exporters import to_coreml, to_onnx, to_tflite
from aml_edge.exporters.export_spec import ExportSpec
from aml_edge.networks.deployable import DeployableStudent
from aml_edge.quantization.post_training import QuantizedStudent

__all__ = ["EXPORTERS", "Exporter", "FormatExporter", "is_installed", "require_precision"]


class Exporter(Protocol):
    """Makes one kind of model file."""

    def __call__(
        self, network: DeployableStudent, spec: ExportSpec, path: Path, quantized: QuantizedStudent | None
    ) -> None:
        """Writes the model of `spec.precision` and `spec.input_shape` at `path`, and nothing else.

        Where the precision is calibrated, `quantized` says which integers; `network` is then its graph's.
        It may print and warn: `aml_edge.exporters.export` keeps that in a log. Any exception becomes an `ExportError`.
        """
        ...


class Lowering(Protocol):
    """Makes integers of one kind of model file."""

    def __call__(self, path: Path, precision: Precision, quantized: QuantizedStudent | None) -> None:
        """Replaces a file in floating point by one in a precision with integer weights, which is what `write` does."""
        ...


@dataclass(frozen=True)
class FormatExporter:
    """An exporter and what the manifest says of it.

    Args:
        name: as people write it, e.g. ``"ONNX"``.
        write: makes the file.
        target: opset or deployment target, e.g. ``"opset 20"``.
        precisions: that it can write.
        tools: distributions whose versions the manifest records; the first is the converter's.
        extra: the extra of aml-edge that brings them, or None where they always are there.
        lower: makes integers of a file in floating point; None where the format is written in integers at once.
    """

    name: str
    write: Exporter
    target: str
    precisions: tuple[Precision, ...]
    tools: tuple[str, ...]
    extra: str | None = None
    lower: Lowering | None = None

    def versions(self) -> dict[str, str]:
        """Returns the installed version of each tool; raises `MissingExtraError` where one is not installed."""
        found: dict[str, str] = {}
        for tool in self.tools:
            try:
                found[tool] = version(tool)
            except PackageNotFoundError:
                raise MissingExtraError(tool, self.extra or "all", f"the {self.name} format") from None
        return found


_FLOATS = (Precision.FP32, Precision.FP16)
_INTEGERS = (Precision.INT8_WEIGHTS, Precision.INT8_DYNAMIC, Precision.INT8, Precision.INT8_INT16)

EXPORTERS: dict[Format, FormatExporter] = {
    Format.ONNX: FormatExporter(
        "ONNX",
        to_onnx.write_onnx,
        to_onnx.TARGET,
        _FLOATS + _INTEGERS,
        ("onnx", "onnxscript", "torch"),
        lower=to_onnx.lower_onnx,
    ),
    Format.TFLITE: FormatExporter(
        "TFLite",
        to_tflite.write_tflite,
        to_tflite.TARGET,
        _FLOATS + _INTEGERS,
        ("litert-torch", "ai-edge-quantizer", "torch"),
        "tflite",
        to_tflite.lower_tflite,
    ),
    Format.COREML: FormatExporter(
        "Core ML",
        to_coreml.write_coreml,
        to_coreml.TARGET,
        (*_FLOATS, Precision.INT8_WEIGHTS, Precision.INT8, Precision.PALETTE8, Precision.PALETTE6),
        ("coremltools", "torch"),
        "coreml",
    ),
}


def require_precision(model_format: Format, precision: Precision) -> None:
    """Raises `UsageError` where a format's exporter cannot write a precision; it says what the format has."""
    exporter = EXPORTERS[model_format]
    if precision not in exporter.precisions:
        raise UsageError(
            f"`precision` is '{precision}', which the {exporter.name} format does not have; choose one of "
            f"{', '.join(exporter.precisions)}."
        )


def is_installed(model_format: Format) -> bool:
    """Whether this machine has what the format's exporter needs."""
    try:
        EXPORTERS[model_format].versions()
    except MissingExtraError:
        return False
    return True
