"""What stands above the walls of synthetic landmarks: gables, towers, domes and the like."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from aml_edge.datasets.synthetic.brush import OUTLINES, SHADOW, Points, Rectangle, circle, pointed
from aml_edge.datasets.synthetic.canvas import Canvas
from aml_edge.datasets.synthetic.colours import choice, scaled
from aml_edge.datasets.synthetic.style import LandmarkStyle

DrawRoofline = Callable[[Canvas, np.random.Generator, LandmarkStyle, Rectangle], None]


@dataclass(frozen=True)
class Roofline:
    """How a roofline is drawn.

    Args:
        draw: draws it into a box that stands on the wall's top and is as wide.
        height: of the box, as a share of the wall's height.
        ridge: where the roof's ridge runs backwards, as shares of the half width and of the height; None for flat.
    """

    draw: DrawRoofline
    height: float
    ridge: tuple[float, float] | None = None


def _cornice(canvas: Canvas, style: LandmarkStyle, box: Rectangle) -> None:
    """A moulding along the lower edge of the box."""
    thickness = max(box.width * 0.018, 2)
    upper, lower = box.bottom - thickness, box.bottom + thickness / 2
    canvas.box(Rectangle(box.left - thickness, upper, box.right + thickness, lower), style.trim)
    canvas.brush.bounds(box.left, lower, box.right, lower + thickness, SHADOW)


def _coping(canvas: Canvas, style: LandmarkStyle, block: Rectangle, thickness: float) -> None:
    """A block of masonry with a slab of other stone on it."""
    canvas.masonry(block)
    canvas.box(Rectangle(block.left - 2, block.top, block.right + 2, block.top + max(thickness, 2)), style.trim)


def _eye(canvas: Canvas, style: LandmarkStyle, name: str, box: Rectangle, frame: float = 0.0) -> None:
    """A window in the roofline."""
    if frame:
        canvas.brush.shape(OUTLINES[name], box.grown(frame), style.trim)
    canvas.brush.shape(OUTLINES[name], box, style.glass)


def _triangle(box: Rectangle) -> Points:
    return [(box.left, box.bottom), (box.middle, box.top), (box.right, box.bottom)]


def _trapezoid(box: Rectangle, inset: float) -> Points:
    return [(box.left, box.bottom), (box.left + inset, box.top), (box.right - inset, box.top), (box.right, box.bottom)]


def _flat(canvas: Canvas, rng: np.random.Generator, style: LandmarkStyle, box: Rectangle) -> None:
    _cornice(canvas, style, box)
    for _ in range(int(rng.integers(0, 4))):  # plant on the roof
        left, top, width = rng.uniform(0.05, 0.8), rng.uniform(0, 0.7), rng.uniform(0.03, 0.15)
        canvas.box(box.part(left, top, left + width, 1.0), scaled(style.roof, rng.uniform(0.7, 1.3)))


def _parapet(canvas: Canvas, rng: np.random.Generator, style: LandmarkStyle, box: Rectangle) -> None:
    step, half = rng.uniform(0.4, 0.7), rng.uniform(0.12, 0.3)
    _coping(canvas, style, box.part(0.0, step, 1.0, 1.0), 0.1 * box.height)
    _coping(canvas, style, box.part(0.5 - half, 0.0, 0.5 + half, 1.0), 0.12 * box.height)
    _cornice(canvas, style, box)


def _balustrade(canvas: Canvas, rng: np.random.Generator, style: LandmarkStyle, box: Rectangle) -> None:
    count = int(rng.integers(8, 22))
    for post in range(count + 1):
        place, main = post / count, post % 4 == 0
        half = (0.3 if main else 0.16) / count
        canvas.box(box.part(place - half, 0.2 if main else 0.5, place + half, 1.0), style.trim)
        if main:
            canvas.shape(circle, box.part(place - 1.2 * half, 0.0, place + 1.2 * half, 0.3), style.trim)
    canvas.box(box.part(0.0, 0.4, 1.0, 0.55), style.trim)
    _cornice(canvas, style, box)


def _battlements(canvas: Canvas, rng: np.random.Generator, style: LandmarkStyle, box: Rectangle) -> None:
    count = int(rng.integers(5, 13))
    canvas.masonry(box.part(0.0, 0.55, 1.0, 1.0))
    for merlon in range(count):
        canvas.masonry(box.part((merlon + 0.19) / count, 0.0, (merlon + 0.81) / count, 0.6))
    canvas.brush.line((box.left, box.bottom), (box.right, box.bottom), SHADOW, 2)


def _gable(canvas: Canvas, rng: np.random.Generator, style: LandmarkStyle, box: Rectangle) -> None:
    thickness = max(box.width * 0.03, 2)
    canvas.part(
        _triangle(Rectangle(box.left - thickness, box.top - thickness, box.right + thickness, box.bottom)), style.trim
    )
    inner = Rectangle(box.left + thickness, box.top + thickness, box.right - thickness, box.bottom)
    canvas.brush.polygon(_triangle(inner), scaled(style.wall, 0.95))
    half = box.height * rng.uniform(0.16, 0.26)
    middle = box.bottom - box.height * 0.3
    window = Rectangle(box.middle - half, middle - half, box.middle + half, middle + half)
    _eye(canvas, style, style.storeys[-1].openings[0].outline, window, half * 0.25)


def _steps(canvas: Canvas, rng: np.random.Generator, style: LandmarkStyle, box: Rectangle) -> None:
    count = int(rng.integers(3, 7))
    for step in range(count):
        inset = step / count / 2
        _coping(canvas, style, box.part(inset, 1 - (step + 1) / count, 1 - inset, 1.0), box.height * 0.04)
        canvas.brush.box(
            box.part(inset + 0.3 / count, 1 - (step + 0.9) / count, 1 - inset - 0.3 / count, 1.0), (0, 0, 0, 10)
        )
    _eye(canvas, style, "arch", box.part(0.43, 0.5, 0.57, 0.92))


def _scrolls(canvas: Canvas, rng: np.random.Generator, style: LandmarkStyle, box: Rectangle) -> None:
    waist = rng.uniform(0.3, 0.5)
    quarter = [math.pi / 2 * step / 7 for step in range(8)]
    curve = [(1 - (1 - waist) * math.sin(angle), 0.7 * step / 7) for step, angle in enumerate(quarter)]
    curve += [(waist * math.cos(angle), 0.7 + 0.3 * math.sin(angle)) for angle in quarter]
    for size, colour in ((1.0, style.trim), (0.9, style.wall)):
        right = [(box.middle + x * size * box.width / 2, box.bottom - y * size * box.height) for x, y in curve]
        canvas.part(right + [(2 * box.middle - x, y) for x, y in reversed(right)], colour)
    _eye(canvas, style, "round", box.part(0.42, 0.3, 0.58, 0.75))
    _cornice(canvas, style, box)


def _pediment(canvas: Canvas, rng: np.random.Generator, style: LandmarkStyle, box: Rectangle) -> None:
    half = choice(rng, (0.22, 0.35, 0.5))
    outer = box.part(0.5 - half, 0.0, 0.5 + half, 1.0)
    canvas.part(_triangle(outer), style.trim)
    canvas.brush.polygon(_triangle(outer.part(0.09, 0.16, 0.91, 0.91)), scaled(style.wall, 0.78))
    for figure in range(int(rng.integers(1, 6))):
        x, radius = outer.middle + outer.width * rng.uniform(-0.2, 0.2), box.height * rng.uniform(0.06, 0.16)
        canvas.brush.ellipse(
            x, box.bottom - box.height * 0.13 - radius, radius, radius, scaled(style.trim, 0.8 + 0.05 * figure)
        )
    _cornice(canvas, style, box)


def _mansard(canvas: Canvas, rng: np.random.Generator, style: LandmarkStyle, box: Rectangle) -> None:
    canvas.tiled(_trapezoid(box, box.width * rng.uniform(0.05, 0.1)), style.roof)
    count, name = int(rng.integers(2, 6)), choice(rng, ("arch", "rectangle", "round", "pointed"))
    for dormer in range(count):
        place = (dormer + 1) / (count + 1)
        _eye(canvas, style, name, box.part(place - 0.05, 0.25, place + 0.05, 0.88), box.width * 0.012)
    _cornice(canvas, style, box)


def _hip(canvas: Canvas, rng: np.random.Generator, style: LandmarkStyle, box: Rectangle) -> None:
    for _ in range(int(rng.integers(1, 4))):  # chimneys
        place = rng.uniform(0.2, 0.8)
        canvas.box(box.part(place - 0.025, -0.2, place + 0.025, 1.0), scaled(style.wall, 0.8))
    canvas.tiled(_trapezoid(box.part(-0.03, 0.0, 1.03, 1.0), box.width * 0.35), style.roof)
    canvas.brush.box(box.part(0.0, 1.0, 1.0, 1.08), SHADOW)


def _dome(canvas: Canvas, rng: np.random.Generator, style: LandmarkStyle, box: Rectangle) -> None:
    radius = min(box.width * rng.uniform(0.2, 0.32), box.height * 0.42)
    drum = Rectangle(box.middle - radius * 0.9, box.bottom - box.height * 0.25, box.middle + radius * 0.9, box.bottom)
    canvas.masonry(drum)
    count = int(rng.integers(3, 8))
    for window in range(count):
        place = 0.1 + 0.8 * (window + 0.5) / count
        canvas.brush.box(drum.part(place - 0.04, 0.2, place + 0.04, 0.8), style.glass)
    power = rng.uniform(0.55, 1.4)
    angles = [math.pi * step / 20 for step in range(21)]
    shell = [(box.middle + radius * math.cos(a), drum.top - radius * max(math.sin(a), 0) ** power) for a in angles]
    canvas.tiled(shell, style.roof)
    for rib in (-0.7, -0.35, 0.0, 0.35, 0.7):
        canvas.brush.line((box.middle + rib * radius, drum.top), (box.middle, drum.top - radius), (255, 255, 255, 50))
    half, top = radius * 0.16, drum.top - radius
    canvas.box(Rectangle(box.middle - half, top - radius * 0.3, box.middle + half, top + radius * 0.08), style.trim)
    canvas.part(_triangle(Rectangle(box.middle - half, box.top, box.middle + half, top - radius * 0.28)), style.roof)
    _cornice(canvas, style, box)


def _draw_tower(canvas: Canvas, rng: np.random.Generator, style: LandmarkStyle, tower: Rectangle) -> None:
    cap = rng.uniform(0.15, 0.5)
    _coping(canvas, style, tower.part(0.0, cap, 1.0, 1.0), tower.height * 0.04)
    canvas.tiled(_triangle(tower.part(-0.08, 0.0, 1.08, cap)), style.roof)
    tall = min(1.66 * tower.width / tower.height, 0.4)
    _eye(canvas, style, style.storeys[-1].openings[1].outline, tower.part(0.24, cap + 0.12, 0.76, cap + 0.12 + tall))


def _tower(canvas: Canvas, rng: np.random.Generator, style: LandmarkStyle, box: Rectangle) -> None:
    canvas.tiled(_trapezoid(box.part(0.0, 0.64, 1.0, 1.0), box.width * 0.06), style.roof)
    half, place = rng.uniform(0.09, 0.15), choice(rng, (0.16, 0.5, 0.84))
    tower = box.part(place - half, 0.0, place + half, 1.0)
    canvas.brush.box(tower, style.wall)
    _draw_tower(canvas, rng, style, tower)


def _towers(canvas: Canvas, rng: np.random.Generator, style: LandmarkStyle, box: Rectangle) -> None:
    width = 2 * rng.uniform(0.1, 0.15)
    _gable(canvas, rng, style, box.part(width, 0.55, 1 - width, 1.0))
    state = rng.bit_generator.state
    _draw_tower(canvas, rng, style, box.part(0.0, 0.0, width, 1.0))
    rng.bit_generator.state = state  # the second tower is the twin of the first
    _draw_tower(canvas, rng, style, box.part(1 - width, 0.0, 1.0, 1.0))


def _spire(canvas: Canvas, rng: np.random.Generator, style: LandmarkStyle, box: Rectangle) -> None:
    _gable(canvas, rng, style, box.part(0.0, 0.7, 1.0, 1.0))
    half, foot = rng.uniform(0.1, 0.16), 1 - rng.uniform(0.35, 0.55)
    tower = box.part(0.5 - half, foot, 0.5 + half, 1.0)
    canvas.masonry(tower)
    canvas.tiled(_triangle(box.part(0.5 - 1.1 * half, 0.0, 0.5 + 1.1 * half, foot)), style.roof)
    canvas.brush.shape(pointed, tower.part(0.25, 0.1, 0.75, 0.7), style.glass)


def _sawtooth(canvas: Canvas, rng: np.random.Generator, style: LandmarkStyle, box: Rectangle) -> None:
    count, lean = int(rng.integers(3, 8)), choice(rng, (0.0, 0.5, 1.0))
    for tooth in range(count):
        left, right = box.left + box.width * tooth / count, box.left + box.width * (tooth + 1) / count
        peak, middle = left + (right - left) * lean, (box.top + box.bottom) / 2
        canvas.part([(left, box.bottom), (peak, box.top), (right, box.bottom)], style.roof)
        pane = [((left + peak) / 2, middle + 1), (peak, box.top + 3), ((right + peak) / 2, box.bottom - 3)]
        canvas.brush.polygon(pane, scaled(style.glass, 1.6))


def _setback(canvas: Canvas, rng: np.random.Generator, style: LandmarkStyle, box: Rectangle) -> None:
    levels, left, right = int(rng.integers(1, 4)), 0.0, 1.0
    for level in range(levels):
        left, right = left + rng.uniform(0.05, 0.16), right - rng.uniform(0.05, 0.16)
        block = box.part(left, 1 - (level + 1) / levels, right, 1 - level / levels)
        _coping(canvas, style, block, 2)
        band = block.part(0.03, 0.3, 0.97, 0.75)
        canvas.brush.box(band, style.glass)
        bars = int(rng.integers(4, 14))
        for bar in range(bars + 1):
            x = band.left + band.width * bar / bars
            canvas.brush.line((x, band.top), (x, band.bottom), style.trim)
    _cornice(canvas, style, box)


ROOFLINES: Mapping[str, Roofline] = {
    "flat": Roofline(_flat, 0.1),
    "parapet": Roofline(_parapet, 0.16),
    "balustrade": Roofline(_balustrade, 0.12),
    "battlements": Roofline(_battlements, 0.12),
    "gable": Roofline(_gable, 0.42, (0.0, 1.0)),
    "steps": Roofline(_steps, 0.42, (0.0, 0.9)),
    "scrolls": Roofline(_scrolls, 0.36, (0.0, 0.7)),
    "pediment": Roofline(_pediment, 0.24),
    "mansard": Roofline(_mansard, 0.28, (0.86, 1.0)),
    "hip": Roofline(_hip, 0.3, (0.36, 1.0)),
    "dome": Roofline(_dome, 0.62),
    "tower": Roofline(_tower, 0.72, (0.88, 0.36)),
    "towers": Roofline(_towers, 0.62, (0.0, 0.45)),
    "spire": Roofline(_spire, 0.9, (0.0, 0.3)),
    "sawtooth": Roofline(_sawtooth, 0.18),
    "setback": Roofline(_setback, 0.26),
}
