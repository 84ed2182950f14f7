"""What surrounds synthetic landmarks, made once a process: skies, grounds, other buildings, sprites, shadows, grain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from aml_edge.datasets.synthetic.colours import Colour, choice, varied
from aml_edge.datasets.synthetic.landmark import draw_landmark
from aml_edge.datasets.synthetic.patterns import smooth_noise, tinted, wall_patterns
from aml_edge.datasets.synthetic.sprites import Sprite, draw_sprites

SKIES: tuple[tuple[Colour, Colour, Colour], ...] = (
    ((70, 118, 184), (170, 202, 230), (244, 244, 242)),
    ((104, 150, 200), (206, 222, 234), (250, 250, 250)),
    ((150, 158, 168), (204, 208, 210), (226, 228, 230)),
    ((108, 114, 124), (168, 172, 176), (148, 152, 158)),
    ((84, 96, 140), (236, 180, 130), (246, 206, 170)),
    ((188, 198, 206), (236, 234, 224), (252, 250, 244)),
)
"""Zenith, horizon, clouds."""

GROUNDS: tuple[tuple[str, Colour], ...] = (
    ("stucco", (112, 112, 114)),
    ("blocks", (158, 150, 138)),
    ("rubble", (126, 120, 112)),
    ("stucco", (104, 122, 66)),
    ("panels", (170, 166, 158)),
    ("ashlar", (140, 128, 112)),
)
NEIGHBOURS = 10
SKY_COUNT = 10
SHADOW_COUNT = 6
GRAIN_LEVELS = (2.0, 5.0, 9.0, 14.0)


@dataclass(frozen=True)
class Scenery:
    """Everything that views share; images are cut from it, never changed.

    Args:
        patterns: of walls.
        skies, grounds: RGB, larger than any view.
        neighbours: other buildings, none of them a landmark.
        sprites: by kind.
        shadows: RGBa fields to multiply with.
        grain: RGB fields to add, 128 is nothing; by strength.
    """

    patterns: Mapping[str, Image.Image]
    skies: tuple[Image.Image, ...]
    grounds: tuple[Image.Image, ...]
    neighbours: tuple[Sprite, ...]
    sprites: Mapping[str, tuple[Sprite, ...]]
    shadows: tuple[Image.Image, ...]
    grain: tuple[Image.Image, ...]


def make_scenery(rng: np.random.Generator, image_side_px: int) -> Scenery:
    """Returns the scenery for views whose longest side is `image_side_px`."""
    side = round(1.25 * image_side_px)
    patterns = wall_patterns(rng, 2 * image_side_px)
    return Scenery(
        patterns=patterns,
        skies=tuple(_sky(rng, side) for _ in range(SKY_COUNT)),
        grounds=tuple(_ground(rng, patterns[pattern], colour, side) for pattern, colour in GROUNDS),
        neighbours=tuple(
            Sprite(draw_landmark(rng, patterns, round(0.75 * image_side_px)).front.sharp) for _ in range(NEIGHBOURS)
        ),
        sprites=draw_sprites(rng, image_side_px),
        shadows=tuple(_shadow(rng, side) for _ in range(SHADOW_COUNT)),
        grain=tuple(_grain(rng, side, level) for level in GRAIN_LEVELS),
    )


def _sky(rng: np.random.Generator, side: int) -> Image.Image:
    zenith, horizon, cloud = (varied(rng, colour, 8) for colour in choice(rng, SKIES))
    height = np.linspace(0, 1, side, dtype=np.float32)[:, None, None]
    colours = np.array(zenith, np.float32) * (1 - height) + np.array(horizon, np.float32) * height  # (side, 1, 3)
    stretched = Image.fromarray(smooth_noise(rng, side, 4, 5)).resize((side, side // 2)).resize((side, side))
    cover = np.clip((np.asarray(stretched)[..., None] - rng.uniform(-0.3, 0.8)) * 1.6, 0, 1)  # (side, side, 1)
    return Image.fromarray((colours + (np.array(cloud, np.float32) - colours) * cover).astype(np.uint8))


def _ground(rng: np.random.Generator, pattern: Image.Image, colour: Colour, side: int) -> Image.Image:
    """A plane seen to its horizon at the upper edge."""
    flat = tinted(pattern, varied(rng, colour, 8), varied(rng, colour, 30), 0.3)
    width, height = flat.size
    quad = (0, height * 0.05, width * 0.3, height, width * 0.7, height, width, height * 0.05)
    return flat.transform((2 * side, side), Image.Transform.QUAD, quad, Image.Resampling.BILINEAR)


def _shadow(rng: np.random.Generator, side: int) -> Image.Image:
    """Light, and soft-edged shadow beyond a slanted line or under leaves."""
    if rng.random() < 0.5:
        y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side - 0.5
        angle = rng.uniform(-1.2, 1.2)
        lit = (x * np.cos(angle) + y * np.sin(angle) + rng.uniform(-0.2, 0.2)) * 30
    else:
        lit = smooth_noise(rng, side, 12, 2) * 4 + 0.5
    light = (255 * (rng.uniform(0.4, 0.65) + np.clip(lit, 0, 1) * 0.35)).clip(0, 255).astype(np.uint8)
    band = Image.fromarray(light)
    return Image.merge("RGBA", (band, band, band, Image.new("L", band.size, 255))).convert("RGBa")


def _grain(rng: np.random.Generator, side: int, level: float) -> Image.Image:
    luminance = rng.standard_normal((side, side, 1), dtype=np.float32)
    colour = rng.standard_normal((side, side, 3), dtype=np.float32)
    return Image.fromarray(np.clip(128 + level * (0.8 * luminance + 0.5 * colour), 0, 255).astype(np.uint8))
