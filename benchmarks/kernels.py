"""Which kernels compute a row: a runtime's fast ones, or exact ones of the same runtime.

Integer kernels differ. On x86 without VNNI the fast ones of ONNX Runtime add products up in 16 bits, which saturate;
LiteRT's round otherwise than its reference kernels. Only rows of files whose convolutions take integers say which
kernels ran: the others are computed in floats by either.
"""

from __future__ import annotations

from enum import StrEnum

from aml_edge.artifact import Artifact
from aml_edge.runtimes import RUNTIMES


class Kernels(StrEnum):
    """Kinds of integer kernels."""

    FAST = "fast"
    PRECISE = "precise"
    REFERENCE = "reference"


KERNELS: dict[str, Kernels] = {
    "onnxruntime": Kernels.FAST,
    "onnxruntime-precise": Kernels.PRECISE,
    "litert": Kernels.FAST,
    "litert-reference": Kernels.REFERENCE,
    "tensorflow": Kernels.FAST,
}
"""Name of a runtime → its integer kernels; the others have one kind, or do not say."""
NOT_TIMED = "no phone runs reference kernels, which take about a hundred times as long"
"""Why their rows have no latency."""


def fast_runtime(runtime: str) -> str | None:
    """Returns the runtime that a runtime of exact kernels is the counterpart of; None for any other."""
    return RUNTIMES[runtime].exact_for if runtime in RUNTIMES else None


def is_timed(runtime: str) -> bool:
    """Whether the latency of a runtime's rows is measured."""
    return KERNELS.get(runtime) is not Kernels.REFERENCE


def kernels_of(artifact: Artifact, runtime: str) -> Kernels | None:
    """Returns the integer kernels of a file in a runtime; None where it is computed in floats, or nothing says it."""
    return KERNELS.get(runtime) if artifact.manifest.precision.has_integer_activations else None
