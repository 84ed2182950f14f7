"""Sensitivity: what each block of a network, quantized alone, does to the final embedding.

Errors of the blocks add up nearly as independent noises do, so a block's own error says what its return to floating
point saves. What comes before the block is in floating point and the same for all, and computed once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aml_edge.embedder import Embeddings
from aml_edge.exporters.agreement import centred_cosines, pair_error
from aml_edge.exporters.quantization.continuation import continuation_of
from aml_edge.pixels import Pixels
from aml_edge.progress import Progress, SilentProgress
from aml_edge.quantization.fake_quantized import FakeQuantizedNetwork
from aml_edge.quantization.graph import SiteGraph
from aml_edge.quantization.observation import BATCH
from aml_edge.quantization.post_training import PostTraining, QuantizedStudent


@dataclass(frozen=True)
class EmbeddingError:
    """How far embeddings of the same images are from those in floating point; NaN where one is not finite.

    Args:
        smallest_centred_cosine, mean_centred_cosine: over images, the mean embedding in floating point subtracted.
        largest_pair_error, mean_pair_error: of the similarities of two images.
    """

    smallest_centred_cosine: float
    mean_centred_cosine: float
    largest_pair_error: float
    mean_pair_error: float

    @property
    def lost(self) -> float:
        """What is lost of the mean centred cosine; infinite where an embedding is not finite."""
        return 1.0 - self.mean_centred_cosine if np.isfinite(self.mean_centred_cosine) else float("inf")


@dataclass(frozen=True, eq=False)
class AloneRows:
    """(N, D) embeddings of the same images.

    Args:
        float_rows: in floating point.
        of_block: with one block in integers.
    """

    float_rows: Embeddings
    of_block: Mapping[str, Embeddings]


def embedding_error(float_rows: Embeddings, rows: Embeddings) -> EmbeddingError:
    """Returns how far (N, D) embeddings are from those in floating point of the same images."""
    cosines, errors = centred_cosines(float_rows, rows), pair_error(float_rows, rows)
    return EmbeddingError(float(cosines.min()), float(cosines.mean()), errors.largest, errors.mean)


def embed_with_each_block_alone(
    post_training: PostTraining,
    images: Sequence[Pixels],
    blocks: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> AloneRows:
    """Returns what a network says of images with each block alone in integers, its biases corrected.

    Args:
        post_training: the network.
        images: N of (H, W, 3) uint8.
        blocks: those that are looked at; all of the network's where None.
        progress: where the work is announced, one step an image and block.
    """
    blocks = post_training.graph.blocks if blocks is None else blocks
    whole = post_training.quantized(())
    rests = {block: continuation_of(whole, block, post_training.graph) for block in blocks}
    float_network = FakeQuantizedNetwork(post_training.graph, None)
    float_parts: list[Tensor] = []
    parts: dict[str, list[Tensor]] = {block: [] for block in blocks}
    steps = len(images) * len(blocks)
    with torch.inference_mode(), (progress or SilentProgress()).task("each block alone in integers", steps) as task:
        for batch in batches_of(images):
            entrances = _Kept({rest.activation for rest in rests.values()})
            float_parts.append(float_network(batch, entrances.watch))
            for block, rest in rests.items():
                taken = batch if rest.activation is None else entrances.values[rest.activation]
                parts[block].append(rest.network(taken))
                task.advance(len(batch))
    rows = {block: torch.cat(parts[block]).numpy() for block in blocks}
    return AloneRows(torch.cat(float_parts).numpy(), rows)


def embed_quantized(student: QuantizedStudent, images: Sequence[Pixels]) -> Embeddings:
    """Returns (N, D) embeddings of images by a network in integers."""
    return _embed(FakeQuantizedNetwork(student.graph, student.quantization), images)


def embed_float(graph: SiteGraph, images: Sequence[Pixels]) -> Embeddings:
    """Returns (N, D) embeddings of images by a network in floating point."""
    return _embed(FakeQuantizedNetwork(graph, None), images)


def batches_of(images: Sequence[Pixels], size: int = BATCH) -> Iterator[Tensor]:
    """Yields images as (B, H, W, 3) tensors, in order."""
    for start in range(0, len(images), size):
        yield torch.from_numpy(np.stack(images[start : start + size]))


def _embed(network: FakeQuantizedNetwork, images: Sequence[Pixels]) -> Embeddings:
    with torch.inference_mode():
        rows: Embeddings = torch.cat([network(batch) for batch in batches_of(images)]).numpy()
    return rows


class _Kept:
    """Keeps the activations of some names."""

    def __init__(self, names: set[str | None]) -> None:
        self._names = names
        self.values: dict[str, Tensor] = {}

    def watch(self, name: str, values: Tensor) -> None:
        if name in self._names:
            self.values[name] = values
