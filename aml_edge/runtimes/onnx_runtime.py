"""`OnnxEmbedder`: runs an ONNX artifact in ONNX Runtime on the CPU, with its fast kernels or its precise ones.

On an x86 processor without VNNI the fast kernels add products of 8 bits up in 16, which saturates: the same file
gives other embeddings there than on a phone. The precise kernels do not, on any processor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aml_edge.artifact import Artifact
from aml_edge.embedder import Embeddings
from aml_edge.errors import ArtifactError, MissingExtraError
from aml_edge.native_output import output_discarded
from aml_edge.pixels import Pixels
from aml_edge.runtimes.fixed_input import embed_one_by_one, named_with_kernels, require_image_input, thread_count

ERRORS_ONLY = 3
PRECISE = "session.x64quantprecision"
"""Key of the session option; source: `onnxruntime_session_options_config_keys.h`."""


class OnnxEmbedder:
    """An Embedder on ONNX Runtime's CPU provider, all graph optimisations on.

    Args:
        artifact: an ONNX file with its manifest.
        threads: of one inference; None for all cores.
        precise: whether no sum of integer products may saturate.

    Raises:
        ArtifactError: ONNX Runtime cannot load the file, or it does not take one image of the manifest's side.
    """

    def __init__(self, artifact: Artifact, threads: int | None = None, *, precise: bool = False) -> None:
        try:
            with output_discarded():  # it warns of devices that it looked for and did not find
                import onnxruntime
        except ImportError:
            raise MissingExtraError("onnxruntime", "all", "the ONNX Runtime runtime") from None
        self.name = named_with_kernels("onnxruntime cpu", artifact, "precise" if precise else None)
        self.space = artifact.manifest.space
        self.preprocessing = artifact.manifest.preprocessing
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = thread_count(threads)
        options.log_severity_level = ERRORS_ONLY
        options.add_session_config_entry(PRECISE, "1" if precise else "0")
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(artifact.path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as problem:
            reason = str(problem).splitlines()[0]
            raise ArtifactError(f"{artifact.path} cannot be loaded by ONNX Runtime: {reason}") from problem
        inputs = self._session.get_inputs()
        require_image_input(
            artifact, [(tuple(one.shape), one.type.removeprefix("tensor(").removesuffix(")")) for one in inputs]
        )
        self._input = inputs[0].name

    def embed(self, images: Sequence[Pixels]) -> Embeddings:
        """Returns (N, D) embeddings, rows L2-normalised; one image a call, since the file's batch is one."""
        return embed_one_by_one(self._run, images, self.preprocessing, self.space.dimension)

    def close(self) -> None:
        """Frees the session."""
        self._session = None

    def _run(self, pixels: Pixels) -> Embeddings:
        embeddings: Embeddings = self._session.run(None, {self._input: pixels})[0]
        return embeddings


def open_precise(artifact: Artifact, threads: int | None = None) -> OnnxEmbedder:
    """Returns an Embedder of the precise kernels; raises as `OnnxEmbedder`."""
    return OnnxEmbedder(artifact, threads, precise=True)
