"""`LiteRtEmbedder`: runs a TFLite artifact in LiteRT on the CPU."""

from __future__ import annotations

from aml_edge.artifact import Artifact
from aml_edge.errors import MissingExtraError
from aml_edge.runtimes.tflite_interpreter import TfliteEmbedder


class LiteRtEmbedder(TfliteEmbedder):
    """An Embedder on LiteRT with XNNPACK.

    Args:
        artifact: a TFLite file with its manifest.
        threads: of one inference; None for all cores.
    """

    def __init__(self, artifact: Artifact, threads: int | None = None) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            raise MissingExtraError("ai-edge-litert", "tflite", "the LiteRT runtime") from None
        super().__init__("litert cpu", Interpreter, artifact, threads)
