"""Exporters to mobile formats, and the proof that a file still lives in the teacher's space.

To add a format: a module with an `Exporter`, and a line in `EXPORTERS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

from aml_edge.artifact import Format
from aml_edge.exporters import to_onnx, to_tflite
from aml_edge.exporters.deployable import DeployableStudent
from aml_edge.exporters.export_spec import ExportSpec

__all__ = ["EXPORTERS", "Exporter", "FormatExporter", "is_installed"]


class Exporter(Protocol):
    """Makes one kind of model file."""

    def __call__(self, network: DeployableStudent, spec: ExportSpec, path: Path) -> None:
        """Writes the model of `spec.precision` and `spec.input_shape` at `path`, and nothing else.

        It may print and warn: `aml_edge.exporters.export` keeps that in a log. Any exception becomes an `ExportError`.
        """
        ...


@dataclass(frozen=True)
class FormatExporter:
    """An exporter and what the manifest says of it.

    Args:
        write: makes the file.
        target: opset or deployment target, e.g. ``"opset 20"``.
        tools: distributions whose versions the manifest records; the first is the converter's.
        extra: the extra of aml-edge that brings them, or None where they always are there.
    """

    write: Exporter
    target: str
    tools: tuple[str, ...]
    extra: str | None = None


EXPORTERS: dict[Format, FormatExporter] = {
    Format.ONNX: FormatExporter(to_onnx.write_onnx, to_onnx.TARGET, ("onnx", "onnxscript", "torch")),
    Format.TFLITE: FormatExporter(
        to_tflite.write_tflite, to_tflite.TARGET, ("litert-torch", "ai-edge-quantizer", "torch"), "tflite"
    ),
}


def is_installed(model_format: Format) -> bool:
    """Whether this machine has what the format's exporter needs."""
    try:
        return all(version(tool) for tool in EXPORTERS[model_format].tools)
    except PackageNotFoundError:
        return False
