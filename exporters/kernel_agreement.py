"""How near two kinds of integer kernels of one runtime are on the same file: its fast ones, and those that are exact.

They may round ties otherwise. Where they differ by more, one of them does not compute what the file says: on an x86
processor without VNNI ONNX Runtime's fast kernels saturate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aml_edge.artifact import Artifact
from aml_edge.embedder import Embedder
from aml_edge.exporters.agreement import Spread, centred_cosines, evenly_spaced, spread_of
from aml_edge.image_loading import ImageItem, embed_items
from aml_edge.progress import Progress
from aml_edge.runtimes import RUNTIMES, exact_runtime, open_artifact

MOST_IMAGES = 16
"""Reference kernels take a hundred times as long, and what saturates does so on most images."""


@dataclass(frozen=True)
class KernelAgreement:
    """What the other kernels make of a file.

    Args:
        verified: what ran the file for the verification, e.g. ``"onnxruntime cpu, precise kernels"``.
        other: the same runtime with its other kernels.
        images: how many both embedded.
        centred_cosine: between the two, over images.
        is_exact: whether those that verified are the exact ones.
    """

    verified: str
    other: str
    images: int
    centred_cosine: Spread
    is_exact: bool


def measure_kernels(
    artifact: Artifact, runtime: str, embedder: Embedder, items: Sequence[ImageItem], progress: Progress
) -> KernelAgreement | None:
    """Returns how near a runtime's other kernels are on at most 16 images, evenly taken.

    Args:
        artifact: the file.
        runtime: name of the runtime that verifies it.
        embedder: the file in that runtime.
        items: image files.
        progress: where the work is announced.

    Returns:
        None where the file has no integer activations, or the runtime has one kind of kernels.

    Raises:
        ArtifactError: the other kernels cannot load the file.
    """
    name = exact_runtime(runtime) or RUNTIMES[runtime].exact_for
    if name is None or not artifact.manifest.precision.has_integer_activations:
        return None
    taken = [items[place] for place in evenly_spaced(len(items), MOST_IMAGES)]
    other = open_artifact(artifact, name)
    try:
        rows = embed_items(other, taken, progress=progress, description=f"embedding, {other.name}")
    finally:
        other.close()
    spread = spread_of(centred_cosines(embed_items(embedder, taken), rows))
    is_exact = RUNTIMES[runtime].exact_for is not None
    return KernelAgreement(embedder.name, other.name, len(taken), spread, is_exact)
