"""Colours of synthetic scenes, and how they are drawn by lot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Colour = tuple[int, ...]
"""Red, green, blue, and alpha where it is not opaque; 0 to 255."""

T = TypeVar("T")


def choice(rng: np.random.Generator, options: Sequence[T]) -> T:
    """Returns one of the options."""
    return options[int(rng.integers(len(options)))]


def scaled(colour: Colour, factor: float) -> Colour:
    """Returns the colour lighter or darker."""
    return tuple([min(int(value * factor + 0.5), 255) for value in colour])


def varied(rng: np.random.Generator, colour: Colour, spread: float) -> Colour:
    """Returns an opaque colour near it: lightness varies more than hue."""
    light, *hues = rng.standard_normal(4).tolist()
    return tuple([min(max(round(v + spread * (light + hue / 3)), 0), 255) for v, hue in zip(colour, hues, strict=True)])
