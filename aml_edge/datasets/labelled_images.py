"""`LabelledImages`: images of one split, and which of them match where a data set says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aml_edge.image_loading import ImageItem


@dataclass(frozen=True)
class ImageLabels:
    """Which images match.

    Args:
        clusters: of each image; images of different clusters do not match.
        query_rows, positive_rows: rows of images that match, pair by pair.
    """

    clusters: tuple[int, ...]
    query_rows: tuple[int, ...]
    positive_rows: tuple[int, ...]


@dataclass(frozen=True)
class LabelledImages:
    """Images of one split.

    Args:
        ids: N paths relative to the folder.
        items: the same images.
        labels: None where the folder says nothing of matches.
    """

    ids: tuple[str, ...]
    items: Sequence[ImageItem]
    labels: ImageLabels | None


@dataclass(frozen=True)
class NamedSplit:
    """Images of one split with the name that the data set has for it, e.g. ``"train"``."""

    name: str
    images: LabelledImages
