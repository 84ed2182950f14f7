"""A brush that draws what does not vanish: shapes in fractions of pixels, on pictures of any size."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from PIL import Image, ImageDraw

from aml_edge.datasets.synthetic.colours import Colour

Points = list[tuple[float, float]]
"""A closed outline, px."""

SHADOW = (0, 0, 0, 90)
ARC_STEPS = 14


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A box in px; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """Px."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Px."""
        return self.bottom - self.top

    @property
    def middle(self) -> float:
        """The x of the middle."""
        return (self.left + self.right) / 2

    def grown(self, by: float) -> Rectangle:
        """Returns the box with every side moved outwards."""
        return Rectangle(self.left - by, self.top - by, self.right + by, self.bottom + by)

    def part(self, left: float, top: float, right: float, bottom: float) -> Rectangle:
        """Returns a part of the box, given in shares of its width and height from its upper left corner."""
        width, height = self.width, self.height
        return Rectangle(
            self.left + width * left, self.top + height * top, self.left + width * right, self.top + height * bottom
        )


class Brush:
    """Draws on an image: on RGB, colours with alpha are blended; on any other, they replace what was there.

    Shapes without extent are left out, where Pillow would raise.
    """

    def __init__(self, image: Image.Image) -> None:
        self._draw = ImageDraw.Draw(image, "RGBA" if image.mode == "RGB" else None)

    def box(self, box: Rectangle, colour: Colour) -> None:
        """Fills a box."""
        self.bounds(box.left, box.top, box.right, box.bottom, colour)

    def bounds(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """Fills the box between four edges."""
        if right >= left and bottom >= top:
            self._draw.rectangle((left, top, right, bottom), fill=colour)

    def rounded(self, box: Rectangle, radius: float, colour: Colour) -> None:
        """Fills a box with round corners."""
        if box.width >= 2 and box.height >= 2:
            self._draw.rounded_rectangle((box.left, box.top, box.right, box.bottom), radius, fill=colour)

    def polygon(self, points: Points, colour: Colour) -> None:
        """Fills an outline."""
        self._draw.polygon(points, fill=colour)

    def shape(self, outline: Outline, box: Rectangle, colour: Colour) -> None:
        """Fills every part of an outline that is put into a box."""
        if box.width > 0 and box.height > 0:
            for part in outline(box):
                self._draw.polygon(part, fill=colour)

    def ellipse(self, x: float, y: float, across: float, down: float, colour: Colour) -> None:
        """Fills an ellipse around (x, y) with these half axes."""
        if across > 0 and down > 0:
            self._draw.ellipse((x - across, y - down, x + across, y + down), fill=colour)

    def line(self, start: tuple[float, float], end: tuple[float, float], colour: Colour, width: float = 1) -> None:
        """Draws a line, at least one pixel wide."""
        self._draw.line((start, end), fill=colour, width=max(round(width), 1))


def _head(curve: Callable[[float], float]) -> Points:
    """A curve above −1 … 1, as points from 0 to 1."""
    return [(t, curve(t)) for t in (2 * step / ARC_STEPS - 1 for step in range(ARC_STEPS + 1))]


_ROUND = _head(lambda t: math.sqrt(max(1 - t * t, 0)))
_FLAT = _head(lambda t: 1 - t * t)
_POINTED = _head(lambda t: math.sqrt(max(4 - (1 + abs(t)) ** 2, 0)) / math.sqrt(3))
_CIRCLE = [(math.cos(2 * math.pi * step / 18), math.sin(2 * math.pi * step / 18)) for step in range(18)]


def _headed(box: Rectangle, head: Points, rise: float) -> list[Points]:
    rise = min(rise, box.height * 0.8)
    middle, half, foot = box.middle, box.width / 2, box.top + rise
    return [
        [(box.left, box.bottom), *[(middle + t * half, foot - rise * up) for t, up in head], (box.right, box.bottom)]
    ]


def rectangle(box: Rectangle) -> list[Points]:
    """Square-headed."""
    return [[(box.left, box.top), (box.right, box.top), (box.right, box.bottom), (box.left, box.bottom)]]


def arch(box: Rectangle) -> list[Points]:
    """Round-headed."""
    return _headed(box, _ROUND, box.width / 2)


def segment(box: Rectangle) -> list[Points]:
    """With a flat arch."""
    return _headed(box, _FLAT, box.width / 6)


def pointed(box: Rectangle) -> list[Points]:
    """With a pointed arch: two circles about the opposite springers."""
    return _headed(box, _POINTED, box.width * 0.87)


def circle(box: Rectangle) -> list[Points]:
    """A disc in the middle of the box."""
    radius = min(box.width, box.height) / 2
    x, y = box.middle, (box.top + box.bottom) / 2
    return [[(x + radius * cos, y + radius * sin) for cos, sin in _CIRCLE]]


def twin(box: Rectangle) -> list[Points]:
    """Two narrow arches under one eye."""
    eye = box.part(0.38, 0.0, 0.62, min(0.24 * box.width / box.height, 0.2))
    return [*arch(box.part(0.0, 0.2, 0.44, 1.0)), *arch(box.part(0.56, 0.2, 1.0, 1.0)), *circle(eye)]


def slit(box: Rectangle) -> list[Points]:
    """A narrow upright."""
    return rectangle(box.part(0.28, 0.0, 0.72, 1.0))


Outline = Callable[[Rectangle], list[Points]]
"""Puts a shape into a box."""

OUTLINES: Mapping[str, Outline] = {
    "rectangle": rectangle,
    "wide": rectangle,
    "arch": arch,
    "segment": segment,
    "pointed": pointed,
    "round": circle,
    "twin": twin,
    "slit": slit,
}
"""Of windows and doors."""
