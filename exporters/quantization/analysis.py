"""`analyse_quantization`: where integers cost a network's embedding most, and what that costs in asymmetric mAP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aml_edge.embedder import Embeddings
from aml_edge.exporters.agreement import evenly_spaced
from aml_edge.exporters.quantization.drift import SiteDrift, measure_drift
from aml_edge.exporters.quantization.query_set import QuerySet
from aml_edge.exporters.quantization.sensitivity import (
    EmbeddingError,
    embed_quantized,
    embed_with_each_block_alone,
    embedding_error,
)
from aml_edge.map_drop import Drop, Setting, measure_drop, places_with_positive
from aml_edge.pixels import Pixels
from aml_edge.progress import Progress, SilentProgress
from aml_edge.quantization.post_training import PostTraining

DRIFT_IMAGES = 16
"""Each has tens of thousands of values at every site; more move no digit that is shown."""

EXPORTED, EVERYTHING = "as exported", "all blocks"


@dataclass(frozen=True)
class QuantizedPart:
    """What a part of a network in integers does to the embedding, all else in floating point.

    Args:
        name: of the block, or what is in integers in words.
        float_by_default: whether the options leave the block in floating point.
        error: of the embedding, over queries and other images.
        medium, hard: asymmetric mAP that is lost on the queries; None where no query has a positive.
    """

    name: str
    float_by_default: bool
    error: EmbeddingError
    medium: Drop | None
    hard: Drop | None


@dataclass(frozen=True)
class QuantizationAnalysis:
    """Where integers cost a network most.

    Args:
        images, queries: how many were looked at, the queries among them.
        blocks: each alone in integers, in run order.
        exported: what a file has in integers, by the options.
        everything: all blocks.
        drift: of what a file has in integers, in run order.
        drift_images: how many the drift is over.
    """

    images: int
    queries: int
    blocks: tuple[QuantizedPart, ...]
    exported: QuantizedPart
    everything: QuantizedPart
    drift: tuple[SiteDrift, ...]
    drift_images: int


def analyse_quantization(
    post_training: PostTraining, queries: QuerySet, others: Sequence[Pixels], progress: Progress | None = None
) -> QuantizationAnalysis:
    """Returns what each block in integers does to the embedding, and where activations drift, all simulated.

    Args:
        post_training: the network.
        queries: that ask the teacher's database.
        others: (H, W, 3) uint8, further images to compare embeddings of, e.g. some of the database.
        progress: where the work is announced.
    """
    progress = progress or SilentProgress()
    images = (*queries.images, *others)
    alone = embed_with_each_block_alone(post_training, images, progress=progress)
    exported, everything = post_training.quantized(), post_training.quantized(())
    with progress.task("all blocks in integers", 2) as task:
        wholes = []
        for student in (exported, everything):
            wholes.append(embed_quantized(student, images))
            task.advance()
    drift_images = [images[place] for place in evenly_spaced(len(images), DRIFT_IMAGES)]
    by_default = post_training.float_blocks

    def part(name: str, rows: Embeddings) -> QuantizedPart:
        return _part(name, name in by_default, alone.float_rows, rows, queries)

    return QuantizationAnalysis(
        images=len(images),
        queries=len(queries.images),
        blocks=tuple(part(block, alone.of_block[block]) for block in post_training.graph.blocks),
        exported=part(EXPORTED, wholes[0]),
        everything=part(EVERYTHING, wholes[1]),
        drift=measure_drift(post_training.graph, exported, drift_images, progress),
        drift_images=len(drift_images),
    )


def _part(
    name: str, float_by_default: bool, float_rows: Embeddings, rows: Embeddings, queries: QuerySet
) -> QuantizedPart:
    medium, hard = (_drop(float_rows, rows, queries, setting) for setting in (Setting.MEDIUM, Setting.HARD))
    return QuantizedPart(name, float_by_default, embedding_error(float_rows, rows), medium, hard)


def _drop(float_rows: Embeddings, rows: Embeddings, queries: QuerySet, setting: Setting) -> Drop | None:
    count = len(queries.images)
    if not places_with_positive(queries.ground_truth, setting):
        return None
    before, after = (np.asarray(one[:count]) for one in (float_rows, rows))
    return measure_drop(before, after, queries.database, queries.ground_truth, range(count), setting=setting)
