"""`CoreMlEmbedder`: runs a Core ML artifact in Apple's framework, on a Mac."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from aml_edge.artifact import Artifact
from aml_edge.embedder import Embeddings
from aml_edge.errors import ArtifactError, MissingExtraError, RuntimeUnavailableError, UsageError
from aml_edge.native_output import output_discarded
from aml_edge.pixels import Pixels
from aml_edge.runtimes.fixed_input import embed_one_by_one

INPUT, OUTPUT = "image", "embedding"


class CoreMlModel(Protocol):
    """What is used of coremltools' `MLModel`."""

    def predict(self, data: dict[str, Any]) -> Mapping[str, Any]:
        """Returns the outputs by name."""
        ...


def on_mac() -> bool:
    """Whether this machine has the Core ML framework."""
    return sys.platform == "darwin"


def load_model(package: Path) -> CoreMlModel:
    """Returns a model that Core ML may run on the CPU, the GPU and the Neural Engine, as it likes.

    Raises:
        RuntimeUnavailableError: this is no Mac.
        MissingExtraError: coremltools is not installed.
    """
    if not on_mac():
        raise RuntimeUnavailableError(
            f"the Core ML runtime needs macOS, and this is {platform.system()}; use the runtime 'mil' here."
        )
    try:
        with output_discarded():  # it warns of versions of PyTorch that it was not tested with
            import coremltools
    except ImportError:
        raise MissingExtraError("coremltools", "coreml", "the Core ML runtime") from None
    model: CoreMlModel = coremltools.models.MLModel(str(package))
    return model


class CoreMlEmbedder:
    """An Embedder on Core ML.

    Args:
        artifact: a Core ML package with its manifest.
        threads: None; Core ML chooses its threads itself.
        load: opens a package.

    Raises:
        UsageError: a number of threads is asked for.
        RuntimeUnavailableError: this is no Mac.
        ArtifactError: Core ML cannot load the package.
    """

    def __init__(
        self, artifact: Artifact, threads: int | None = None, load: Callable[[Path], CoreMlModel] = load_model
    ) -> None:
        if threads is not None:
            raise UsageError(f"`threads` is {threads}, but Core ML chooses its threads itself; leave it out.")
        self.name = "coreml all units"
        self.space = artifact.manifest.space
        self.preprocessing = artifact.manifest.preprocessing
        self._path = artifact.path
        try:
            with output_discarded():
                self._model: CoreMlModel | None = load(artifact.path)
        except (MissingExtraError, RuntimeUnavailableError):
            raise
        except Exception as problem:
            raise self._refused(problem) from problem

    def embed(self, images: Sequence[Pixels]) -> Embeddings:
        """Returns (N, D) embeddings, rows L2-normalised; one image a call, since the file's batch is one."""
        return embed_one_by_one(self._run, images, self.preprocessing, self.space.dimension)

    def close(self) -> None:
        """Frees the model."""
        self._model = None

    def _run(self, pixels: Pixels) -> Embeddings:
        assert self._model is not None
        try:
            outputs = self._model.predict({INPUT: Image.fromarray(pixels[0])})
        except Exception as problem:  # coremltools keeps what went wrong at loading until the first prediction
            raise self._refused(problem) from problem
        if OUTPUT not in outputs:
            raise self._refused(f"it gave '{', '.join(outputs)}' and no '{OUTPUT}'")
        embeddings: Embeddings = outputs[OUTPUT]
        return embeddings

    def _refused(self, problem: object) -> ArtifactError:
        reason = str(problem).partition("\n")[0] or type(problem).__name__
        return ArtifactError(f"{self._path} cannot be run by Core ML: {reason}")
