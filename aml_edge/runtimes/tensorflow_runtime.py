"""`TensorFlowEmbedder`: runs a TFLite artifact in TensorFlow's own interpreter, a second opinion on the file."""

from __future__ import annotations

from aml_edge.artifact import Artifact
from aml_edge.errors import MissingExtraError
from aml_edge.native_output import output_discarded
from aml_edge.runtimes.tflite_interpreter import TfliteEmbedder


class TensorFlowEmbedder(TfliteEmbedder):
    """An Embedder on `tf.lite.Interpreter`.

    Args:
        artifact: a TFLite file with its manifest.
        threads: of one inference; None for all cores.
    """

    def __init__(self, artifact: Artifact, threads: int | None = None) -> None:
        try:
            with output_discarded():
                import tensorflow
        except ImportError:
            raise MissingExtraError("tensorflow", "tensorflow", "the TensorFlow runtime") from None
        super().__init__("tensorflow cpu", tensorflow.lite.Interpreter, artifact, threads)
