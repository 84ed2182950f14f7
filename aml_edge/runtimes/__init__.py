"""What runs an exported file: one `Embedder` a runtime.

To add one: a module with an `Embedder` that opens an `Artifact`, and a line in `RUNTIMES`. The first line that
handles a format and can run on this machine is that format's default.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aml_edge.artifact import Artifact, Format
from aml_edge.embedder import Embedder
from aml_edge.errors import RuntimeUnavailableError, UsageError
from aml_edge.runtimes.coreml_runtime import CoreMlEmbedder, on_mac
from aml_edge.runtimes.litert_runtime import LiteRtEmbedder, open_reference
from aml_edge.runtimes.mil_runtime import MilEmbedder
from aml_edge.runtimes.onnx_runtime import OnnxEmbedder, open_precise
from aml_edge.runtimes.tensorflow_runtime import TensorFlowEmbedder

__all__ = ["RUNTIMES", "Runtime", "default_runtime", "exact_runtime", "open_artifact", "verification_runtime"]


def _everywhere() -> bool:
    return True


@dataclass(frozen=True)
class Runtime:
    """A way to run files of some formats.

    Args:
        name: what ``--runtime`` takes.
        formats: the formats it runs.
        open: returns an Embedder of an artifact; the second argument is the number of threads, None for all cores.
        runs_here: whether this kind of machine can run it; an extra that is not installed is another matter.
        module: what it imports, so that a benchmark can keep the import out of the time that a file takes to load.
        simulates: it computes what another runtime would; its speed says nothing of that one's.
        chooses_threads: it takes as many threads as it likes, so None is the only number that `open` takes.
        exact_for: the runtime whose files in integers this one runs with kernels that are exact, not fast.
    """

    name: str
    formats: tuple[Format, ...]
    open: Callable[[Artifact, int | None], Embedder]
    runs_here: Callable[[], bool] = _everywhere
    module: str | None = None
    simulates: bool = False
    chooses_threads: bool = False
    exact_for: str | None = None


RUNTIMES: dict[str, Runtime] = {
    "onnxruntime": Runtime("onnxruntime", (Format.ONNX,), OnnxEmbedder, module="onnxruntime"),
    "onnxruntime-precise": Runtime(
        "onnxruntime-precise", (Format.ONNX,), open_precise, module="onnxruntime", exact_for="onnxruntime"
    ),
    "litert": Runtime("litert", (Format.TFLITE,), LiteRtEmbedder, module="ai_edge_litert.interpreter"),
    "litert-reference": Runtime(
        "litert-reference", (Format.TFLITE,), open_reference, module="ai_edge_litert.interpreter", exact_for="litert"
    ),
    "tensorflow": Runtime("tensorflow", (Format.TFLITE,), TensorFlowEmbedder, module="tensorflow"),
    "coreml": Runtime("coreml", (Format.COREML,), CoreMlEmbedder, on_mac, module="coremltools", chooses_threads=True),
    "mil": Runtime("mil", (Format.COREML,), MilEmbedder, module="torch", simulates=True),
}


def default_runtime(model_format: Format) -> str:
    """Returns the name of the first runtime that runs the format on this machine."""
    for runtime in RUNTIMES.values():
        if model_format in runtime.formats and runtime.runs_here():
            return runtime.name
    raise RuntimeUnavailableError(f"no runtime of this machine runs {model_format} files.")


def exact_runtime(runtime: str) -> str | None:
    """Returns the name of the runtime that has exact kernels for what another one runs; None where none has."""
    return next((other.name for other in RUNTIMES.values() if other.exact_for == runtime), None)


def verification_runtime(artifact: Artifact) -> str:
    """Returns the name of the runtime that shows what a file computes, rather than what this processor makes of it.

    Integers in ONNX Runtime take its precise kernels: the fast ones saturate on some processors. All else takes its
    format's default.
    """
    name = default_runtime(artifact.manifest.format)
    saturates = name == "onnxruntime" and artifact.manifest.precision.has_integer_activations
    return "onnxruntime-precise" if saturates else name


def open_artifact(artifact: Artifact, runtime: str | None = None, *, threads: int | None = None) -> Embedder:
    """Returns an Embedder that runs the artifact; close it after use.

    Args:
        artifact: what to run.
        runtime: a name in `RUNTIMES`; None for the format's default.
        threads: of one inference; None for all cores.

    Raises:
        UsageError: an unknown runtime, one that does not run this format, no thread, or a number of threads for a
            runtime that chooses it itself.
        MissingExtraError: the runtime is not installed.
        ArtifactError: the runtime cannot load the file.
    """
    model_format = artifact.manifest.format
    name = runtime or default_runtime(model_format)
    if name not in RUNTIMES:
        raise UsageError(f"`runtime` is {name!r}; it must be one of {', '.join(RUNTIMES)}.")
    if model_format not in RUNTIMES[name].formats:
        fitting = ", ".join(other.name for other in RUNTIMES.values() if model_format in other.formats)
        raise UsageError(f"`runtime` is {name!r}, which does not run {model_format} files; {fitting} would.")
    if threads is not None and threads < 1:
        raise UsageError(f"`threads` is {threads}; an inference needs at least one.")
    return RUNTIMES[name].open(artifact, threads)
