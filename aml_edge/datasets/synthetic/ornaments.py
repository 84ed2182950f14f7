"""What makes one facade unlike its neighbour: signs, clocks, ivy, murals, banners, reliefs, stains."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from aml_edge.datasets.synthetic.brush import SHADOW, Brush, Rectangle, arch, circle
from aml_edge.datasets.synthetic.colours import choice, scaled, varied
from aml_edge.datasets.synthetic.style import ACCENTS, LandmarkStyle

Ornament = Callable[[Brush, np.random.Generator, LandmarkStyle, Rectangle], None]
"""Draws onto a wall's box."""


def _sign(brush: Brush, rng: np.random.Generator, style: LandmarkStyle, wall: Rectangle) -> None:
    width, height = wall.width * rng.uniform(0.25, 0.7), wall.height * rng.uniform(0.05, 0.08)
    left = wall.left + (wall.width - width) * rng.random()
    top = wall.bottom - wall.height * style.storeys[0].height - height / 2
    brush.bounds(left, top, left + width, top + height, style.accent)
    x, ink = left + height * 0.4, scaled(style.trim, 1.05)
    while x < left + width - height * 0.9:  # letters of no alphabet
        letter = height * rng.uniform(0.25, 0.6)
        brush.bounds(x, top + height * 0.2, x + max(letter * 0.3, 1), top + height * 0.8, ink)
        if rng.random() < 0.6:
            y = top + height * rng.uniform(0.2, 0.7)
            brush.bounds(x, y, x + letter, y + max(height * 0.12, 1), ink)
        if rng.random() < 0.5:
            brush.bounds(x + letter * 0.7, top + height * 0.2, x + letter, top + height * 0.8, ink)
        x += letter + height * rng.uniform(0.15, 0.5)


def _clock(brush: Brush, rng: np.random.Generator, style: LandmarkStyle, wall: Rectangle) -> None:
    radius = wall.height * rng.uniform(0.05, 0.08)
    x, y = wall.left + wall.width * choice(rng, (0.25, 0.5, 0.75)), wall.top + radius * rng.uniform(1.4, 3)
    for size, colour in ((1.25, style.trim), (1.05, style.accent), (0.9, scaled(style.trim, 1.1))):
        brush.ellipse(x, y, radius * size, radius * size, colour)
    for length in (0.5, 0.8):
        angle = rng.uniform(0, 2 * math.pi)
        end = (x + radius * length * math.cos(angle), y + radius * length * math.sin(angle))
        brush.line((x, y), end, (20, 20, 20), 2)


def _rose(brush: Brush, rng: np.random.Generator, style: LandmarkStyle, wall: Rectangle) -> None:
    radius = wall.height * rng.uniform(0.1, 0.16)
    x, y = wall.middle, wall.top + wall.height * rng.uniform(0.2, 0.4)
    for size, colour in ((1.2, style.trim), (1.0, style.glass)):
        brush.ellipse(x, y, radius * size, radius * size, colour)
    petals = int(rng.integers(5, 13))
    for petal in range(petals):
        spoke, between = 2 * math.pi * petal / petals, 2 * math.pi * (petal + 0.5) / petals
        brush.line((x, y), (x + radius * math.cos(spoke), y + radius * math.sin(spoke)), style.trim, radius * 0.09)
        centre = (x + 0.62 * radius * math.cos(between), y + 0.62 * radius * math.sin(between))
        brush.ellipse(*centre, radius * 0.16, radius * 0.16, style.accent)
    brush.ellipse(x, y, radius * 0.25, radius * 0.25, style.trim)


def _ivy(brush: Brush, rng: np.random.Generator, style: LandmarkStyle, wall: Rectangle) -> None:
    x, reach = wall.left + wall.width * rng.random(), wall.height * rng.uniform(0.4, 0.9)
    spread = wall.width * rng.uniform(0.05, 0.14)
    greens = [varied(rng, (62, 88, 44), 18) for _ in range(6)]
    leaves = np.stack([rng.standard_normal(70), rng.uniform(0.6, 1, 70), rng.uniform(0.012, 0.035, 70)], axis=1)
    for leaf, (aside, high, size) in enumerate(leaves.tolist()):
        up = leaf / len(leaves)
        radius = wall.height * size
        brush.ellipse(
            x + spread * (1 - 0.5 * up) * aside, wall.bottom - reach * up * high, radius, radius, greens[leaf % 6]
        )


def _mural(brush: Brush, rng: np.random.Generator, style: LandmarkStyle, wall: Rectangle) -> None:
    width, height = wall.width * rng.uniform(0.2, 0.4), wall.height * rng.uniform(0.16, 0.34)
    left = wall.left + (wall.width - width) * rng.random()
    top = wall.bottom - height * rng.uniform(1.05, 2)
    brush.bounds(left, top, left + width, top + height, (*varied(rng, choice(rng, ACCENTS), 20), 210))
    for _ in range(int(rng.integers(4, 9))):
        corners = rng.random((int(rng.integers(3, 6)), 2)) * (width, height) + (left, top)
        brush.polygon([(x, y) for x, y in corners.tolist()], (*varied(rng, choice(rng, ACCENTS), 40), 220))


def _banner(brush: Brush, rng: np.random.Generator, style: LandmarkStyle, wall: Rectangle) -> None:
    count, emblem = int(rng.integers(1, 4)), varied(rng, choice(rng, ACCENTS), 20)
    width, height = wall.width * 0.07, wall.height * rng.uniform(0.25, 0.45)
    top = wall.top + wall.height * rng.uniform(0.1, 0.35)
    for banner in range(count):
        left = wall.left + wall.width * (banner + 1) / (count + 1) - width / 2
        cloth = Rectangle(left, top, left + width, top + height)
        brush.bounds(left + 2, top + 2, cloth.right + 2, cloth.bottom + 2, SHADOW)
        tails = [(cloth.right, cloth.bottom), (cloth.middle, top + height * 0.9), (left, cloth.bottom)]
        brush.polygon([(left, top), (cloth.right, top), *tails], style.accent)
        brush.shape(circle, cloth.part(0.15, 0.2, 0.85, 0.5), emblem)


def _relief(brush: Brush, rng: np.random.Generator, style: LandmarkStyle, wall: Rectangle) -> None:
    count, top, height = int(rng.integers(5, 16)), rng.uniform(0.04, 0.12), rng.uniform(0.05, 0.08)
    band = wall.part(0.0, top, 1.0, top + height)
    brush.box(band, scaled(style.trim, 0.85))
    for panel, lot in enumerate(rng.random(count).tolist()):
        place = band.part((panel + 0.15) / count, 0.15, (panel + 0.85) / count, 0.85)
        if lot < 0.4:
            brush.shape(circle, place, scaled(style.trim, 0.6))
        elif lot < 0.8:
            brush.box(place, scaled(style.trim, 1.1))


def _stains(brush: Brush, rng: np.random.Generator, style: LandmarkStyle, wall: Rectangle) -> None:
    for _ in range(int(rng.integers(5, 12))):
        x, top = wall.left + wall.width * rng.random(), wall.top + wall.height * rng.uniform(0, 0.5)
        width, length = wall.width * rng.uniform(0.01, 0.05), wall.height * rng.uniform(0.15, 0.5)
        for strip in (1, 2, 3):
            half = width * (4 - strip) / 3
            brush.polygon([(x - half, top), (x + half, top), (x, top + length * strip / 3)], (30, 26, 20, 28))


def _statue(brush: Brush, rng: np.random.Generator, style: LandmarkStyle, wall: Rectangle) -> None:
    count, height = int(rng.integers(1, 4)), wall.height * rng.uniform(0.12, 0.18)
    top = wall.top + wall.height * rng.uniform(0.3, 0.6)
    for number in range(count):
        x, half = wall.left + wall.width * (number + 0.5) / count, height * 0.25
        niche = Rectangle(x - half, top - half, x + half, top + height)
        brush.shape(arch, niche, scaled(style.wall, 0.5))
        brush.ellipse(x, top + half * 0.3, half * 0.3, half * 0.3, style.trim)
        shoulders, foot = top + half * 0.6, top + height
        robe = [
            (x - half * 0.55, foot),
            (x - half * 0.4, shoulders),
            (x + half * 0.4, shoulders),
            (x + half * 0.55, foot),
        ]
        brush.polygon(robe, style.trim)


ORNAMENTS: Mapping[str, Ornament] = {
    "sign": _sign,
    "clock": _clock,
    "ivy": _ivy,
    "mural": _mural,
    "banner": _banner,
    "relief": _relief,
    "stains": _stains,
    "rose": _rose,
    "statue": _statue,
}
