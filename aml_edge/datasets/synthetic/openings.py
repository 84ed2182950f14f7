"""Windows and doors of synthetic landmarks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from aml_edge.datasets.synthetic.brush import OUTLINES, SHADOW, Brush, Outline, Rectangle, arch
from aml_edge.datasets.synthetic.colours import scaled
from aml_edge.datasets.synthetic.style import LandmarkStyle, OpeningStyle

CURTAINS = ((0.12, 2.6), (0.3, 1.5), (1.0, 1.0))
"""Up to which lot a window's glass is how much lighter: what makes one window unlike the next."""


def draw_opening(
    brush: Brush, rng: np.random.Generator, style: LandmarkStyle, opening: OpeningStyle, box: Rectangle
) -> None:
    """Draws a window into `box`, its surround outside it."""
    outline = OUTLINES[opening.outline]
    thickness = max(box.width * 0.1, 1.0)
    SURROUNDS[opening.surround](brush, style, outline, box, thickness)
    lot = rng.random()
    light = next(light for bound, light in CURTAINS if lot < bound)
    brush.shape(outline, box, scaled(style.glass, light))
    brush.polygon(
        [(box.left, box.bottom), (box.left, box.top + box.height * 0.45), (box.right, box.bottom)], (190, 205, 220, 40)
    )
    _draw_panes(brush, style, opening, box)
    brush.line((box.left, box.top + 1), (box.left, box.bottom), SHADOW, thickness / 2)
    sill = Rectangle(box.left - thickness, box.bottom, box.right + thickness, box.bottom + thickness)
    brush.box(sill, style.trim)
    brush.bounds(sill.left, sill.bottom, sill.right, sill.bottom + 0.8 * thickness, SHADOW)
    if opening.balcony:
        _draw_balcony(brush, style, box, thickness)


def draw_door(brush: Brush, style: LandmarkStyle, outline: Outline, box: Rectangle) -> None:
    """Draws a portal standing on the ground: stepped frame, two leaves, steps."""
    for step, shade in enumerate((1.0, 0.75, 0.9)):
        brush.shape(outline, box.grown(-step * box.width * 0.07), scaled(style.trim, shade))
    leaves = box.part(0.2, 0.2 * box.width / box.height, 0.8, 1.0)
    brush.shape(outline, leaves, scaled(style.accent, 0.7))
    brush.line((leaves.middle, leaves.top), (leaves.middle, leaves.bottom), scaled(style.accent, 0.35))
    brush.box(box.part(-0.15, 0.95, 1.15, 1.0), scaled(style.trim, 0.85))


Surround = Callable[[Brush, LandmarkStyle, Outline, Rectangle, float], None]
"""Draws around an opening; the last argument is a thickness in px."""


def _none(brush: Brush, style: LandmarkStyle, outline: Outline, box: Rectangle, thickness: float) -> None:
    brush.box(box.grown(1), scaled(style.wall, 0.7))


def _frame(brush: Brush, style: LandmarkStyle, outline: Outline, box: Rectangle, thickness: float) -> None:
    brush.shape(outline, box.grown(thickness), style.trim)


def _lintel(brush: Brush, style: LandmarkStyle, outline: Outline, box: Rectangle, thickness: float) -> None:
    brush.bounds(
        box.left - 1.5 * thickness, box.top - 2.2 * thickness, box.right + 1.5 * thickness, box.top, style.trim
    )


def _hood(brush: Brush, style: LandmarkStyle, outline: Outline, box: Rectangle, thickness: float) -> None:
    hood = Rectangle(box.left - 2 * thickness, box.top - 2.5 * thickness, box.right + 2 * thickness, box.bottom)
    brush.shape(arch, hood, style.trim)
    brush.shape(outline, box.grown(0.7 * thickness), scaled(style.trim, 0.72))


def _pediment(brush: Brush, style: LandmarkStyle, outline: Outline, box: Rectangle, thickness: float) -> None:
    _frame(brush, style, outline, box, thickness)
    for inset, shade in ((0.0, 1.0), (0.5 * thickness, 0.7)):
        left, right = box.left - 2.2 * thickness + 3 * inset, box.right + 2.2 * thickness - 3 * inset
        foot, peak = box.top - 1.4 * thickness - inset, box.top - 4 * thickness + 2 * inset
        brush.polygon([(left, foot), (right, foot), (box.middle, peak)], scaled(style.trim, shade))


def _shutters(brush: Brush, style: LandmarkStyle, outline: Outline, box: Rectangle, thickness: float) -> None:
    _frame(brush, style, outline, box, 0.6 * thickness)
    width = box.width * 0.36
    for left in (box.left - width - 0.6 * thickness, box.right + 0.6 * thickness):
        brush.bounds(left, box.top, left + width, box.bottom, style.accent)
        for slat in range(1, 6):
            y = box.top + box.height * slat / 6
            brush.line((left, y), (left + width, y), scaled(style.accent, 0.65))


SURROUNDS: Mapping[str, Surround] = {
    "none": _none,
    "frame": _frame,
    "lintel": _lintel,
    "hood": _hood,
    "pediment": _pediment,
    "shutters": _shutters,
}

UNDIVIDED = ("round", "slit")
"""Outlines without panes."""

SQUARE_HEADED = ("rectangle", "wide", "segment")


def _draw_panes(brush: Brush, style: LandmarkStyle, opening: OpeningStyle, box: Rectangle) -> None:
    if opening.outline in UNDIVIDED:
        return
    width = box.width * 0.05
    columns, rows = opening.panes
    top = box.top + box.height * (0.05 if opening.outline in SQUARE_HEADED else 0.22)
    for column in range(1, columns):
        x = box.left + box.width * column / columns
        brush.line((x, top), (x, box.bottom), style.trim, width)
    for row in range(1, rows):
        y = top + (box.bottom - top) * row / rows
        brush.line((box.left, y), (box.right, y), style.trim, width)


def _draw_balcony(brush: Brush, style: LandmarkStyle, box: Rectangle, thickness: float) -> None:
    rail = Rectangle(
        box.left - 2 * thickness, box.bottom - 0.36 * box.height, box.right + 2 * thickness, box.bottom + thickness
    )
    iron = scaled(style.accent, 0.4)
    brush.bounds(rail.left, rail.bottom - thickness, rail.right, rail.bottom, scaled(style.trim, 0.8))
    brush.bounds(rail.left, rail.bottom, rail.right, rail.bottom + 1.5 * thickness, SHADOW)
    brush.line((rail.left, rail.top), (rail.right, rail.top), iron)
    bars = max(int(rail.width / 4), 2)
    for bar in range(bars + 1):
        x = rail.left + rail.width * bar / bars
        brush.line((x, rail.top), (x, rail.bottom), iron)
