"""A synthetic landmark: the textures of its front and side, drawn once, and its measures in the world."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from aml_edge.datasets.synthetic.brush import OUTLINES, SHADOW, Rectangle
from aml_edge.datasets.synthetic.canvas import Canvas
from aml_edge.datasets.synthetic.colours import Colour, scaled
from aml_edge.datasets.synthetic.openings import UNDIVIDED, draw_door, draw_opening
from aml_edge.datasets.synthetic.ornaments import ORNAMENTS
from aml_edge.datasets.synthetic.patterns import cut, tinted
from aml_edge.datasets.synthetic.rooflines import ROOFLINES
from aml_edge.datasets.synthetic.style import LandmarkStyle, decide_style
from aml_edge.datasets.synthetic.texture import MARGIN, Texture, texture_of

OVERHANG = 1.06
"""Width of the front's texture for a wall of width 1: eaves stand out."""

SIDE_SHADE = 0.86
SMALLEST_SIDE_PX = 32


@dataclass(frozen=True)
class Landmark:
    """A building; lengths in the world, where the longer side of its front is about 1.

    Args:
        front: the texture of the front, its silhouette cut out.
        side: the texture of either side wall.
        width: of the walls.
        height: of the front, the roof included.
        eaves: height of the walls.
        depth: of the side walls.
        ridge: x ≥ 0 and height of the two ridges that run backwards, or None for a flat roof.
        roof: its colour.
    """

    front: Texture
    side: Texture
    width: float
    height: float
    eaves: float
    depth: float
    ridge: tuple[float, float] | None
    roof: Colour


def draw_landmark(rng: np.random.Generator, patterns: Mapping[str, Image.Image], side_px: int) -> Landmark:
    """Returns a new landmark.

    Args:
        rng: decides everything.
        patterns: from `synthetic_patterns.wall_patterns`.
        side_px: longer side of the front's texture.
    """
    style = decide_style(rng)
    roofline = ROOFLINES[style.roofline]
    roof = roofline.height * style.roof_height
    tall = (side_px - 2 * MARGIN) / max(style.width * OVERHANG, 1 + roof)  # the wall's height, px
    wide = style.width * tall
    size = (round(wide * OVERHANG) + 2 * MARGIN, round(tall * (1 + roof)) + 2 * MARGIN)
    left, top = (size[0] - wide) / 2, size[1] - MARGIN - tall
    wall = Rectangle(left, top, left + wide, top + tall)

    canvas = Canvas(tinted(cut(rng, patterns[style.pattern], size), style.wall, style.joint, style.contrast))
    canvas.masonry(wall)
    roofline.draw(canvas, rng, style, Rectangle(wall.left, wall.top - roof * tall, wall.right, wall.top))
    _draw_wall(canvas, rng, style, wall)

    unit = 1 / side_px
    ridge = None
    if roofline.ridge is not None:
        across, up = roofline.ridge
        ridge = (across * wide / 2 * unit, (1 + up * roof) * tall * unit)
    return Landmark(
        front=texture_of(canvas.finished(MARGIN)),
        side=texture_of(_draw_side(rng, style, patterns, tall)),
        width=wide * unit,
        height=(size[1] - 2 * MARGIN) * unit,
        eaves=tall * unit,
        depth=style.depth * tall * unit,
        ridge=ridge,
        roof=style.roof,
    )


def _draw_wall(canvas: Canvas, rng: np.random.Generator, style: LandmarkStyle, wall: Rectangle) -> None:
    brush = canvas.brush
    borders = [wall.left + wall.width * place for place in style.bays]
    if style.quoins:
        _draw_quoins(canvas, style, wall)
    if style.pilasters:
        half = wall.width * 0.012
        for x in borders:
            brush.bounds(x - half, wall.top, x + half, wall.bottom, style.trim)
            brush.bounds(x + half, wall.top, x + 1.6 * half, wall.bottom, SHADOW)
    bottom = wall.bottom
    for number, storey in enumerate(style.storeys):
        top = bottom - wall.height * storey.height
        for bay, kind in enumerate(storey.rhythm):
            cell = Rectangle(borders[bay], top, borders[bay + 1], bottom)
            if number == 0 and bay == style.door:
                half = min(0.42, 0.4 * cell.height / cell.width)
                name = storey.openings[0].outline
                outline = OUTLINES["arch" if name in UNDIVIDED else name]
                draw_door(brush, style, outline, cell.part(0.5 - half, 0.18, 0.5 + half, 1.0))
            elif kind >= 0:
                opening = storey.openings[kind]
                half, tall = opening.width / 2, opening.height / 2
                draw_opening(brush, rng, style, opening, cell.part(0.5 - half, 0.54 - tall, 0.5 + half, 0.54 + tall))
        if storey.course and number + 1 < len(style.storeys):
            thickness = max(wall.height * 0.012, 1)
            brush.bounds(wall.left, top - thickness, wall.right, top + thickness, style.trim)
            brush.bounds(wall.left, top + thickness, wall.right, top + 2 * thickness, SHADOW)
        bottom = top
    for name in style.ornaments:
        ORNAMENTS[name](brush, rng, style, wall)
    brush.box(wall.part(0.0, 0.975, 1.0, 1.0), scaled(style.wall, 0.55))


def _draw_quoins(canvas: Canvas, style: LandmarkStyle, wall: Rectangle) -> None:
    count = 14
    for stone in range(count):
        top, bottom, length = stone / count, (stone + 0.85) / count, 0.06 if stone % 2 else 0.035
        canvas.brush.box(wall.part(0.0, top, length, bottom), style.trim)
        canvas.brush.box(wall.part(1 - length, top, 1.0, bottom), style.trim)


def _draw_side(
    rng: np.random.Generator, style: LandmarkStyle, patterns: Mapping[str, Image.Image], wall_height: float
) -> Image.Image:
    """Returns a plainer wall of the same style, at half the resolution; its depth is the style's."""
    height = max(round(wall_height / 2), SMALLEST_SIDE_PX)
    width = max(round(height * style.depth), SMALLEST_SIDE_PX)
    colours = cut(rng, patterns[style.pattern], (width + 2 * MARGIN, height + 2 * MARGIN))
    canvas = Canvas(tinted(colours, scaled(style.wall, SIDE_SHADE), scaled(style.joint, SIDE_SHADE), style.contrast))
    wall = Rectangle(MARGIN, MARGIN, MARGIN + width - 1, MARGIN + height - 1)
    canvas.masonry(wall)
    bays = max(round(style.depth / style.width * (len(style.bays) - 1)), 1)
    bottom = 1.0
    for storey in style.storeys:
        top, opening = bottom - storey.height, storey.openings[0]
        for bay in range(bays):
            cell = wall.part(bay / bays, top, (bay + 1) / bays, bottom)
            half, tall = opening.width / 2, opening.height / 2
            draw_opening(canvas.brush, rng, style, opening, cell.part(0.5 - half, 0.5 - tall, 0.5 + half, 0.5 + tall))
        bottom = top
    return canvas.finished(MARGIN)
