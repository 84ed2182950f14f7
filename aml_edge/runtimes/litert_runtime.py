"""`LiteRtEmbedder`: runs a TFLite artifact in LiteRT on the CPU, with its fast kernels or its reference ones."""

from __future__ import annotations

from functools import partial
from typing import Any

from aml_edge.artifact import Artifact
from aml_edge.errors import MissingExtraError
from aml_edge.runtimes.fixed_input import named_with_kernels
from aml_edge.runtimes.tflite_interpreter import TfliteEmbedder


class LiteRtEmbedder(TfliteEmbedder):
    """An Embedder on LiteRT: with XNNPACK, or with the kernels that define what an operator computes.

    Args:
        artifact: a TFLite file with its manifest.
        threads: of one inference; None for all cores.
        reference: whether the reference kernels run, without XNNPACK; much slower.
    """

    def __init__(self, artifact: Artifact, threads: int | None = None, *, reference: bool = False) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter, OpResolverType
        except ImportError:
            raise MissingExtraError("ai-edge-litert", "tflite", "the LiteRT runtime") from None
        options: dict[str, Any] = {"experimental_op_resolver_type": OpResolverType.BUILTIN_REF} if reference else {}
        name = named_with_kernels("litert cpu", artifact, "reference" if reference else None)
        super().__init__(name, partial(Interpreter, **options), artifact, threads)


def open_reference(artifact: Artifact, threads: int | None = None) -> LiteRtEmbedder:
    """Returns an Embedder of the reference kernels; raises as `LiteRtEmbedder`."""
    return LiteRtEmbedder(artifact, threads, reference=True)
