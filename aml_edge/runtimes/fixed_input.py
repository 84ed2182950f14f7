"""What every runtime of a file with one input shape asks of its images."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np

from aml_edge.artifact import Artifact
from aml_edge.embedder import Embeddings
from aml_edge.errors import ArtifactError, UsageError
from aml_edge.pixels import Pixels
from aml_edge.preprocessing import Preprocessing


def embed_one_by_one(
    run: Callable[[Pixels], Embeddings], images: Sequence[Pixels], preprocessing: Preprocessing, dimension: int
) -> Embeddings:
    """Returns (N, D) embeddings of images that are run one a call, as files of batch one want it.

    Args:
        run: (1, H, W, 3) uint8 → (1, D) float32.
        images: (H, W, 3) uint8 each.
        preprocessing: gives the side that the file was made for.
        dimension: D.

    Raises:
        UsageError: an image is not uint8 of that shape, or the file gave another dimension.
    """
    rows = np.empty((len(images), dimension), np.float32)
    for number, image in enumerate(images):
        require_fitted(image, preprocessing)
        row = run(np.ascontiguousarray(image[np.newaxis]))
        if row.shape != (1, dimension):
            raise UsageError(f"the file gave an embedding of shape {row.shape}, its manifest says (1, {dimension}).")
        rows[number] = row[0]
    return rows


def require_image_input(artifact: Artifact, inputs: Sequence[tuple[tuple[object, ...], str]]) -> None:
    """Raises `ArtifactError` unless a file takes one image of its manifest's side.

    Args:
        artifact: the file.
        inputs: shape and dtype of each input, as its runtime found them.
    """
    side = artifact.manifest.preprocessing.image_side_px
    if list(inputs) != [((1, side, side, 3), "uint8")]:
        found = ", ".join(f"{shape} {dtype}" for shape, dtype in inputs) or "nothing"
        raise ArtifactError(
            f"{artifact.path} takes {found}, but its manifest says (1, {side}, {side}, 3) uint8; export it again."
        )


def require_fitted(image: Pixels, preprocessing: Preprocessing) -> None:
    """Raises `UsageError` unless the image is (side, side, 3) uint8."""
    side = preprocessing.image_side_px
    if image.shape != (side, side, 3) or image.dtype != np.uint8:
        raise UsageError(
            f"`images` holds one of shape {image.shape} and {image.dtype}, but the file takes "
            f"({side}, {side}, 3) uint8; use aml_edge.pixels.fit_image with the embedder's preprocessing."
        )


def thread_count(threads: int | None) -> int:
    """Returns the number of threads to use: the one asked for, or one for each core that this process may use."""
    if threads is not None:
        return threads
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def named_with_kernels(name: str, artifact: Artifact, kernels: str | None) -> str:
    """Returns a runtime's name, with the kernels that ran where a file in integers has a choice of them.

    Args:
        name: e.g. ``"onnxruntime cpu"``.
        artifact: the file.
        kernels: e.g. ``"precise"``; None for those that the runtime takes by itself.
    """
    if kernels is None and not artifact.manifest.precision.has_integer_activations:
        return name
    return f"{name}, {kernels or 'fast'} kernels"
