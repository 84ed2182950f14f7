"""Scales: at which shares of its fitted size an image is embedded, before the embeddings become one.

They belong to how an image is embedded, as its preprocessing does, and not to the space: the two sides of a comparison
may differ in them. The published protocol takes three. `aml_edge.networks.multi_scale` carries it out.

Source: Radenović, Tolias, Chum, "Fine-tuning CNN image retrieval with no human annotation", TPAMI 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from aml_edge.errors import UsageError

Scales = tuple[float, ...]
SINGLE_SCALE: Scales = (1.0,)
PUBLISHED_SCALES: Scales = (1.0, 1 / 2**0.5, 1 / 2)
PUBLISHED_NAME = "published"
LARGEST_SCALE = 4.0
"""An image of 1024 px would become one of 4096 px, and take sixteen times as long."""


def require_scales(scales: Sequence[float]) -> Scales:
    """Returns the scales; raises `UsageError` unless each can be one, comes once, and there is one at least."""
    possible = [isfinite(scale) and 0 < scale <= LARGEST_SCALE for scale in scales]
    if not possible or not all(possible) or len(set(scales)) < len(scales):
        raise _unusable(scales)
    return tuple(float(scale) for scale in scales)


def scales_of(text: str) -> Scales:
    """Returns the scales in a text such as ``"1,0.7071,0.5"``, or the paper's of ``"published"``."""
    if text.strip() == PUBLISHED_NAME:
        return PUBLISHED_SCALES
    try:
        return require_scales([float(part) for part in text.split(",")])
    except (ValueError, UsageError):
        raise _unusable(text) from None


def scales_from_json(value: object) -> Scales:
    """Returns the scales of a record; raises `TypeError` or `UsageError` where it holds none."""
    if not isinstance(value, list) or not all(type(scale) in (int, float) for scale in value):
        raise TypeError("its scales are not a list of numbers")
    return require_scales(value)


def describe_scales(scales: Scales) -> str:
    """Returns the scales as text, e.g. ``"1, 0.7071, 0.5"``."""
    return ", ".join(f"{scale:.4g}" for scale in scales)


def _unusable(given: object) -> UsageError:
    return UsageError(
        f"`scales` is {given!r}; they must be numbers above 0, at most {LARGEST_SCALE:g}, each once: "
        f"give 1,0.7071,0.5 or {PUBLISHED_NAME}."
    )
