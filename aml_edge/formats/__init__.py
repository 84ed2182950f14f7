"""What aml-edge knows of each file format, apart from making and running it.

To add one: a module with `read_manifest`, `write_manifest`, `hash_content` and `take_census`, and a line in `FORMATS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from aml_edge.artifact import Artifact, Format, Manifest, Verdict
from aml_edge.errors import ArtifactError, UsageError
from aml_edge.files import write_text_atomically
from aml_edge.formats import coreml_file, onnx_file, tflite_file
from aml_edge.formats.census import OperatorCensus

__all__ = [
    "FORMATS",
    "FormatSupport",
    "OperatorCensus",
    "format_of",
    "read_artifact",
    "write_manifest",
    "write_sidecar",
]


@dataclass(frozen=True)
class FormatSupport:
    """How a format's file carries a manifest and what it contains.

    Args:
        suffix: of the file's name, e.g. ``".onnx"``.
        read_manifest: returns the manifest's text, or None where the file carries none; `ArtifactError` where the
            file is not of this format.
        write_manifest: puts the text into the file, atomically.
        hash_content: returns the SHA-256 of what the file is without its manifest, whatever that says.
        take_census: counts the file's operators and the dtypes of its weights.
    """

    suffix: str
    read_manifest: Callable[[Path], str | None]
    write_manifest: Callable[[Path, str], None]
    hash_content: Callable[[Path], str]
    take_census: Callable[[Path], OperatorCensus]


FORMATS: dict[Format, FormatSupport] = {
    Format.ONNX: FormatSupport(
        ".onnx", onnx_file.read_manifest, onnx_file.write_manifest, onnx_file.hash_content, onnx_file.take_census
    ),
    Format.TFLITE: FormatSupport(
        ".tflite",
        tflite_file.read_manifest,
        tflite_file.write_manifest,
        tflite_file.hash_content,
        tflite_file.take_census,
    ),
    Format.COREML: FormatSupport(
        ".mlpackage",
        coreml_file.read_manifest,
        coreml_file.write_manifest,
        coreml_file.hash_content,
        coreml_file.take_census,
    ),
}
_UNKNOWN_CONTENT = "0" * 64


def format_of(path: Path) -> Format:
    """Returns the format of a file by its suffix; raises `ArtifactError` where there is none of that suffix."""
    for model_format, support in FORMATS.items():
        if path.suffix == support.suffix:
            return model_format
    suffixes = ", ".join(support.suffix for support in FORMATS.values())
    raise ArtifactError(f"{path} is no model file: its name must end in one of {suffixes}.")


def read_artifact(path: Path) -> Artifact:
    """Returns the artifact at a path, its manifest read from inside the file.

    Where a verdict came with the SHA-256 of what was judged, the artifact says whether the file still is that.

    Raises:
        ArtifactError: it cannot be read, or carries no manifest of its format.
        UsageError: there is no such file.
    """
    if not path.exists():
        raise UsageError(f"{path} does not exist; `aml-edge export` makes one.")
    model_format = format_of(path)
    text = FORMATS[model_format].read_manifest(path)
    if text is None:
        raise ArtifactError(f"{path} carries no aml-edge manifest, so its space is unknown; export it with aml-edge.")
    manifest = Manifest.loads(text, source=str(path))
    if manifest.format is not model_format:
        raise ArtifactError(f"{path} says it is {manifest.format}, but its name says {model_format}; rename it.")
    judged = manifest.content_sha256
    changed = judged is not None and judged != FORMATS[model_format].hash_content(path)
    return Artifact(path, manifest, changed=changed)


def write_manifest(artifact: Artifact) -> Artifact:
    """Puts the artifact's manifest into its file and beside it; returns it as it stands there.

    A verdict goes with the SHA-256 of what was judged. What that is can depend on how long the manifest is, so one with
    another SHA-256 of the same length goes first: a file that is left then counts as changed.
    """
    support, manifest = FORMATS[artifact.manifest.format], replace(artifact.manifest, content_sha256=None)
    if manifest.verdict is not Verdict.NOT_RUN:
        support.write_manifest(artifact.path, replace(manifest, content_sha256=_UNKNOWN_CONTENT).dumps())
        manifest = replace(manifest, content_sha256=support.hash_content(artifact.path))
    support.write_manifest(artifact.path, manifest.dumps())
    written = Artifact(artifact.path, manifest)
    write_sidecar(written)
    return written


def write_sidecar(artifact: Artifact) -> None:
    """Puts the artifact's manifest beside its file, unless it stands there: phones are told to read it there."""
    text = artifact.manifest.dumps() + "\n"
    try:
        same = artifact.sidecar_path.read_bytes() == text.encode()
    except OSError:
        same = False
    if not same:
        write_text_atomically(artifact.sidecar_path, text)
