"""What LiteRT's and TensorFlow's interpreters of a TFLite file have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from aml_edge.artifact import Artifact
from aml_edge.embedder import Embeddings
from aml_edge.errors import ArtifactError
from aml_edge.native_output import output_discarded
from aml_edge.pixels import Pixels
from aml_edge.runtimes.fixed_input import embed_one_by_one, require_image_input, thread_count


class TfliteEmbedder:
    """An Embedder on an interpreter of the TensorFlow Lite kind.

    Args:
        name: of the runtime, e.g. ``"litert cpu"``.
        make_interpreter: the class `Interpreter` of the runtime's package, its options given.
        artifact: a TFLite file with its manifest.
        threads: of one inference; None for all cores.

    Raises:
        ArtifactError: the runtime cannot load the file, or it does not take one image of the manifest's side.
    """

    def __init__(
        self, name: str, make_interpreter: Callable[..., Any], artifact: Artifact, threads: int | None
    ) -> None:
        self.name = name
        self.space = artifact.manifest.space
        self.preprocessing = artifact.manifest.preprocessing
        try:
            with output_discarded():
                self._interpreter = make_interpreter(model_path=str(artifact.path), num_threads=thread_count(threads))
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as problem:
            reason = str(problem).splitlines()[0]
            raise ArtifactError(f"{artifact.path} cannot be loaded by {name}: {reason}") from problem
        inputs = self._interpreter.get_input_details()
        require_image_input(artifact, [(tuple(one["shape"].tolist()), str(np.dtype(one["dtype"]))) for one in inputs])
        self._input = inputs[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def embed(self, images: Sequence[Pixels]) -> Embeddings:
        """Returns (N, D) embeddings, rows L2-normalised; one image a call, since the file's batch is one."""
        return embed_one_by_one(self._run, images, self.preprocessing, self.space.dimension)

    def close(self) -> None:
        """Frees the interpreter."""
        self._interpreter = None

    def _run(self, pixels: Pixels) -> Embeddings:
        self._interpreter.set_tensor(self._input, pixels)
        self._interpreter.invoke()
        embeddings: Embeddings = self._interpreter.get_tensor(self._output)
        return embeddings
