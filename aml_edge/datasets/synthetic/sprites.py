"""What stands in the way in synthetic views: trees, people, vehicles, posts, scaffolds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from aml_edge.datasets.synthetic.brush import Brush, Rectangle
from aml_edge.datasets.synthetic.colours import Colour, choice, scaled, varied

CLOTHES: tuple[Colour, ...] = ((40, 44, 60), (150, 40, 40), (70, 90, 120), (200, 196, 186), (90, 80, 60), (30, 30, 30))
PAINTS: tuple[Colour, ...] = (
    (170, 30, 30),
    (40, 60, 110),
    (190, 192, 196),
    (60, 62, 66),
    (230, 228, 220),
    (40, 90, 70),
)
LEAVES: tuple[Colour, ...] = ((66, 96, 44), (88, 112, 50), (48, 76, 44), (150, 110, 50), (120, 124, 60))
STEPS_PER_OCTAVE = 3
"""A sprite is kept at so many heights between one and its double; a view takes the nearest."""


@dataclass(frozen=True)
class Sprite:
    """A cut-out picture that stands on the ground, at whatever height is asked for.

    Args:
        picture: premultiplied by alpha (RGBa).
    """

    picture: Image.Image
    _sizes: dict[int, Image.Image] = field(default_factory=dict, repr=False, compare=False)

    def at(self, height_px: float) -> Image.Image:
        """Returns the picture about `height_px` high."""
        step = round(math.log2(max(height_px, 4)) * STEPS_PER_OCTAVE)
        if step not in self._sizes:
            height = 2 ** (step / STEPS_PER_OCTAVE)
            size = (max(round(self.picture.width * height / self.picture.height), 1), round(height))
            self._sizes[step] = self.picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
        return self._sizes[step]


def draw_sprites(rng: np.random.Generator, side_px: int) -> dict[str, tuple[Sprite, ...]]:
    """Returns some sprites of every kind of `SPRITES`, drawn `side_px` high."""
    return {kind: tuple(Sprite(draw(rng, side_px)) for _ in range(count)) for kind, (draw, count) in SPRITES.items()}


def _blank(width: float, height: float) -> tuple[Image.Image, Brush, Rectangle]:
    image = Image.new("RGBA", (max(round(width), 2), max(round(height), 2)))
    return image, Brush(image), Rectangle(0, 0, image.width, image.height)


def _tree(rng: np.random.Generator, side: int) -> Image.Image:
    image, brush, whole = _blank(side * rng.uniform(0.55, 0.9), side)
    width = whole.width
    half, bark = width * rng.uniform(0.03, 0.05), varied(rng, (74, 60, 46), 10)
    trunk = [(width / 2 - half, side), (width / 2 - half / 2, side * 0.4), (width / 2 + half / 2, side * 0.4)]
    brush.polygon([*trunk, (width / 2 + half, side)], bark)
    leaf, crown = choice(rng, LEAVES), side * rng.uniform(0.55, 0.75)
    leaves = [varied(rng, leaf, 8) for _ in range(8)]
    count = int(rng.integers(130, 220))
    clumps = np.stack(
        [rng.uniform(0, 2 * math.pi, count), np.sqrt(rng.random(count)), rng.uniform(0.03, 0.09, count)], 1
    )
    for place, (angle, reach, size) in enumerate(clumps.tolist()):
        x, y = width * (0.5 + 0.42 * reach * math.cos(angle)), crown * (0.5 + 0.44 * reach * math.sin(angle))
        light = 0.65 + 0.5 * place / count - 0.25 * math.sin(angle) * reach
        brush.ellipse(x, y, width * size, width * size * 0.8, scaled(leaves[place % 8], light))
    return image.convert("RGBa")


def _bare_tree(rng: np.random.Generator, side: int) -> Image.Image:
    image, brush, whole = _blank(side * rng.uniform(0.6, 0.9), side)
    bark = varied(rng, (66, 56, 48), 10)
    limbs = [(whole.middle, whole.bottom, -math.pi / 2, side * 0.34)]
    while limbs:
        x, y, angle, length = limbs.pop()
        end = (x + length * math.cos(angle), y + length * math.sin(angle))
        brush.line((x, y), end, bark, 0.035 * side * (length / (0.34 * side)) ** 1.35)
        if length > side * 0.06:
            limbs += [(*end, angle + rng.uniform(0.2, 0.6) * turn, length * rng.uniform(0.6, 0.8)) for turn in (-1, 1)]
    return image.convert("RGBa")


def _people(rng: np.random.Generator, side: int) -> Image.Image:
    count = int(rng.integers(1, 5))
    image, brush, _ = _blank(side * (0.2 + 0.26 * count), side)
    for person in range(count):
        tall = side * rng.uniform(0.82, 0.98)
        x, half = side * (0.24 + 0.26 * person), tall * rng.uniform(0.1, 0.14)
        coat, legs = (varied(rng, choice(rng, CLOTHES), 14) for _ in range(2))
        stride, hip, shoulder = half * rng.uniform(0.2, 0.8), side - tall * 0.48, side - tall * 0.8
        for foot in (x - stride, x + stride):
            shin = [(foot + half * 0.3, side), (foot - half * 0.3, side)]
            brush.polygon([(x - half * 0.6, hip), (x + half * 0.6, hip), *shin], legs)
        hem = side - tall * 0.42
        brush.polygon([(x - half, shoulder), (x + half, shoulder), (x + half, hem), (x - half, hem)], coat)
        head = tall * 0.075
        brush.ellipse(x, side - tall + 1.2 * head, head, 1.2 * head, varied(rng, (176, 132, 106), 26))
        brush.ellipse(x, side - tall + 0.6 * head, head, 0.6 * head, varied(rng, (60, 46, 36), 20))
    return image.convert("RGBa")


def _vehicle(rng: np.random.Generator, side: int) -> Image.Image:
    image, brush, whole = _blank(side * rng.uniform(2.2, 3.0), side)
    paint = varied(rng, choice(rng, PAINTS), 16)
    if rng.random() < 0.4:
        brush.rounded(whole.part(0.02, 0.02, 0.97, 0.82), side * 0.1, paint)
        panes = int(rng.integers(2, 8))
        for pane in range(panes):
            left = 0.06 + 0.86 * pane / panes
            brush.box(whole.part(left, 0.14, left + 0.78 / panes, 0.42), (50, 56, 64))
        brush.box(whole.part(0.02, 0.52, 0.97, 0.6), scaled(paint, 0.7))
    else:
        brush.rounded(whole.part(0.02, 0.44, 0.98, 0.82), side * 0.14, paint)
        for corners, colour in (((0.2, 0.32, 0.68, 0.84, 0.12), paint), ((0.25, 0.34, 0.66, 0.78, 0.18), (54, 62, 72))):
            low_left, high_left, high_right, low_right, top = corners
            cabin = [(low_left, 0.48), (high_left, top), (high_right, top), (low_right, 0.48)]
            brush.polygon([(whole.width * x, side * y) for x, y in cabin], colour)
        brush.box(whole.part(0.48, 0.14, 0.51, 0.5), paint)
    for x in (0.2, 0.79):
        for size, colour in ((0.18, (26, 26, 28)), (0.09, (130, 130, 134))):
            brush.ellipse(whole.width * x, side * 0.82, side * size, side * size, colour)
    return image.convert("RGBa")


def _post(rng: np.random.Generator, side: int) -> Image.Image:
    image, brush, whole = _blank(side * 0.24, side)
    half, colour = rng.uniform(0.034, 0.067), varied(rng, (58, 60, 62), 16)
    brush.box(whole.part(0.5 - half, 0.06, 0.5 + half, 1.0), colour)
    kind = rng.random()
    if kind < 0.4:
        brush.line((whole.middle, side * 0.07), (whole.width * 0.12, side * 0.04), colour, whole.width * half * 1.4)
        brush.ellipse(whole.width * 0.13, side * 0.05, whole.width * 0.13, side * 0.02, (226, 222, 200))
    elif kind < 0.7:
        brush.ellipse(whole.middle, side * 0.05, whole.width * 0.2, side * 0.05, (232, 226, 204))
    else:
        brush.box(whole.part(0.1, 0.03, 0.9, 0.14), varied(rng, choice(rng, PAINTS), 16))
    return image.convert("RGBa")


def _scaffold(rng: np.random.Generator, side: int) -> Image.Image:
    image, brush, whole = _blank(side * rng.uniform(0.5, 1.0), side)
    columns, rows = int(rng.integers(3, 7)), int(rng.integers(4, 8))
    steel, plank = varied(rng, (150, 150, 148), 14), varied(rng, (150, 124, 86), 14)
    net = (*varied(rng, (110, 140, 120), 24), int(rng.integers(90, 180)))
    for column in range(columns):
        for row in range(rows):
            field = whole.part(column / columns, row / rows, (column + 1) / columns, (row + 1) / rows)
            if rng.random() < 0.3:
                brush.box(field, net)
            if rng.random() < 0.4:
                brush.line((field.left, field.top), (field.right, field.bottom), steel, side / 90)
    for row in range(rows):
        brush.box(whole.part(0.0, row / rows, 1.0, row / rows + 0.022), plank)
    for column in range(columns + 1):
        x = whole.width * column / columns
        brush.bounds(x - side / 160, 0, x + side / 160, side, steel)
    return image.convert("RGBa")


SPRITES: Mapping[str, tuple[Callable[[np.random.Generator, int], Image.Image], int]] = {
    "tree": (_tree, 10),
    "bare tree": (_bare_tree, 3),
    "people": (_people, 10),
    "vehicle": (_vehicle, 8),
    "post": (_post, 5),
    "scaffold": (_scaffold, 3),
}
"""How each kind is drawn, and how many there are."""
