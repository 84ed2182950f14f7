"""How near embeddings stay to the student's where every step is rounded to half precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aml_edge.embedder import Embedder
from aml_edge.exporters.agreement import EmbeddingAgreement, agreement_of, evenly_spaced
from aml_edge.exporters.half_precision import HeadRange, record_head_range
from aml_edge.image_loading import ImageItem, embed_items
from aml_edge.networks.deployable import DeployableStudent
from aml_edge.pixels import load_pixels
from aml_edge.progress import Progress

MOST_IMAGES = 48
"""Rounding every step takes several times as long as a runtime, and what it breaks it breaks on most images."""


@dataclass(frozen=True)
class HalfPrecisionAgreement:
    """What every step rounded to half precision does to the embeddings.

    Args:
        evaluator: what rounded.
        images: how many it embedded.
        agreement: with the student.
        head: range of the head's input over these images.
    """

    evaluator: str
    images: int
    agreement: EmbeddingAgreement
    head: HeadRange


def measure_half_precision(
    evaluator: Embedder, student: Embedder, network: DeployableStudent, items: Sequence[ImageItem], progress: Progress
) -> HalfPrecisionAgreement:
    """Returns what rounding does on at most 48 images, evenly taken.

    Args:
        evaluator: rounds every step.
        student: at the same preprocessing, in single precision.
        network: what the file computes, for the range of its head's input.
        items: image files.
        progress: where the work is announced.
    """
    taken = [items[place] for place in evenly_spaced(len(items), MOST_IMAGES)]
    rounded = embed_items(evaluator, taken, progress=progress, description=f"embedding, {evaluator.name}")
    exact = embed_items(student, taken)
    pixels = [load_pixels(item.path, student.preprocessing, item.box) for item in taken]
    head = record_head_range(network, pixels, student.preprocessing)
    return HalfPrecisionAgreement(evaluator.name, len(taken), agreement_of(exact, rounded), head)
