"""A facade while it is drawn: colours, and the silhouette that will cut them out."""

from __future__ import annotations

from PIL import Image, ImageDraw

from aml_edge.datasets.synthetic.brush import Brush, Outline, Points, Rectangle, rectangle
from aml_edge.datasets.synthetic.colours import Colour

TILE_COURSES = 12


class Canvas:
    """A facade being drawn; what no part has covered stays transparent.

    Args:
        colours: RGB, covered with the wall's pattern; the canvas draws on it.
    """

    def __init__(self, colours: Image.Image) -> None:
        self.colours = colours
        self.brush = Brush(colours)
        self._silhouette = Image.new("L", colours.size)
        self._cut = ImageDraw.Draw(self._silhouette)

    def masonry(self, box: Rectangle) -> None:
        """Adds a box made of the wall itself."""
        self._cut.polygon(rectangle(box)[0], fill=255)

    def box(self, box: Rectangle, colour: Colour) -> None:
        """Adds a box."""
        self.part(rectangle(box)[0], colour)

    def part(self, points: Points, colour: Colour) -> None:
        """Adds an outline."""
        self._cut.polygon(points, fill=255)
        self.brush.polygon(points, colour)

    def shape(self, outline: Outline, box: Rectangle, colour: Colour) -> None:
        """Adds every part of an outline that is put into a box."""
        for points in outline(box):
            self.part(points, colour)

    def tiled(self, points: Points, colour: Colour) -> None:
        """Adds an outline covered with courses of tiles."""
        self.part(points, colour)
        top, bottom = min(y for _, y in points), max(y for _, y in points)
        for course in range(1, TILE_COURSES):
            y = top + (bottom - top) * course / TILE_COURSES
            crossings = _crossings(points, y)
            if crossings:
                self.brush.line((crossings[0], y), (crossings[-1], y), (0, 0, 0, 38))

    def finished(self, margin: int) -> Image.Image:
        """Returns the facade as RGBA, transparent along `margin` px of its upper edge."""
        self._silhouette.paste(0, (0, 0, self.colours.width, margin))
        facade = self.colours.copy()
        facade.putalpha(self._silhouette)
        return facade


def _crossings(points: Points, y: float) -> list[float]:
    """Where a horizontal line crosses the outline, from left to right."""
    found = []
    for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
        if y0 <= y < y1 or y1 <= y < y0:
            found.append(x0 + (x1 - x0) * (y - y0) / (y1 - y0))
    return sorted(found)
