"""What a synthetic landmark looks like, decided: families share palettes and vocabulary, members arrange them anew.

Colour alone must not tell landmarks apart, so a family's walls are few; what tells them apart is how storeys, bays,
openings, rooflines and ornaments are arranged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aml_edge.datasets.synthetic.colours import Colour, choice, scaled, varied


@dataclass(frozen=True)
class Family:
    """What landmarks of one style draw from.

    Args:
        walls, trims, roofs: colours.
        patterns: names of `synthetic_patterns.PATTERNS`.
        openings: names of `synthetic_brush.OUTLINES`.
        surrounds: names of `synthetic_openings.SURROUNDS`.
        rooflines: names of `synthetic_rooflines.ROOFLINES`.
    """

    walls: tuple[Colour, ...]
    trims: tuple[Colour, ...]
    roofs: tuple[Colour, ...]
    patterns: tuple[str, ...]
    openings: tuple[str, ...]
    surrounds: tuple[str, ...]
    rooflines: tuple[str, ...]


SANDSTONE, BRICK, CREAM, OCHRE, GREY = (188, 164, 124), (148, 88, 70), (216, 206, 188), (200, 156, 104), (158, 156, 150)
SLATE, TILE, COPPER = (88, 92, 102), (160, 92, 66), (104, 148, 128)
PALE, DARK, WARM = (226, 218, 202), (96, 88, 82), (196, 176, 146)

FAMILIES = (
    Family(
        walls=(SANDSTONE, GREY, CREAM),
        trims=(PALE, WARM),
        roofs=(SLATE, COPPER),
        patterns=("ashlar", "blocks", "rubble"),
        openings=("pointed", "twin", "round", "arch"),
        surrounds=("frame", "hood"),
        rooflines=("gable", "towers", "spire", "battlements"),
    ),
    Family(
        walls=(BRICK, BRICK, OCHRE),
        trims=(PALE, WARM, DARK),
        roofs=(SLATE, TILE),
        patterns=("brick", "long brick"),
        openings=("arch", "rectangle", "segment", "twin"),
        surrounds=("lintel", "frame", "hood"),
        rooflines=("steps", "gable", "parapet", "mansard", "tower"),
    ),
    Family(
        walls=(CREAM, OCHRE, SANDSTONE),
        trims=(PALE, PALE, WARM),
        roofs=(SLATE, COPPER, TILE),
        patterns=("stucco", "blocks"),
        openings=("rectangle", "arch", "round", "segment"),
        surrounds=("pediment", "frame", "hood"),
        rooflines=("pediment", "dome", "balustrade", "mansard", "scrolls"),
    ),
    Family(
        walls=(OCHRE, CREAM, BRICK),
        trims=(PALE, DARK),
        roofs=(TILE, TILE, SLATE),
        patterns=("stucco", "boards", "rubble"),
        openings=("rectangle", "segment", "arch"),
        surrounds=("shutters", "lintel", "frame"),
        rooflines=("gable", "hip", "tower", "steps"),
    ),
    Family(
        walls=(GREY, CREAM, BRICK),
        trims=(DARK, PALE, GREY),
        roofs=(SLATE, DARK),
        patterns=("panels", "long brick", "boards"),
        openings=("rectangle", "wide", "slit"),
        surrounds=("none", "lintel", "frame"),
        rooflines=("flat", "parapet", "sawtooth", "setback"),
    ),
)


@dataclass(frozen=True)
class OpeningStyle:
    """A kind of window.

    Args:
        outline: a name of `synthetic_brush.OUTLINES`.
        surround: a name of `synthetic_openings.SURROUNDS`.
        width, height: shares of the bay and of the storey.
        panes: columns and rows of glass.
        balcony: whether a railing stands before it.
    """

    outline: str
    surround: str
    width: float
    height: float
    panes: tuple[int, int]
    balcony: bool


@dataclass(frozen=True)
class Storey:
    """A row of openings.

    Args:
        height: share of the wall's height.
        openings: the kinds that alternate.
        rhythm: which kind each bay has, or −1 for a blind bay.
        course: whether a moulding runs above it.
    """

    height: float
    openings: tuple[OpeningStyle, OpeningStyle]
    rhythm: tuple[int, ...]
    course: bool


@dataclass(frozen=True)
class LandmarkStyle:
    """Everything that is decided before a landmark is drawn; lengths are shares of the wall's height.

    Args:
        wall, joint, trim, roof, glass, accent: colours.
        pattern, contrast: the wall's pattern and how much its shades differ.
        width, depth: of the walls.
        storeys: from the ground up.
        bays: borders of the bays across the width, 0 to 1, the same on every storey.
        door: the bay of the ground floor that has the door.
        roofline: a name of `synthetic_rooflines.ROOFLINES`.
        roof_height: how much higher than usual the roofline is.
        ornaments: names of `synthetic_ornaments.ORNAMENTS`.
        pilasters: whether the bays are parted by pilasters.
        quoins: whether the corners are of other stone.
    """

    wall: Colour
    joint: Colour
    trim: Colour
    roof: Colour
    glass: Colour
    accent: Colour
    pattern: str
    contrast: float
    width: float
    depth: float
    storeys: tuple[Storey, ...]
    bays: tuple[float, ...]
    door: int
    roofline: str
    roof_height: float
    ornaments: tuple[str, ...]
    pilasters: bool
    quoins: bool


ORNAMENT_NAMES = ("sign", "clock", "ivy", "mural", "banner", "relief", "stains", "rose", "statue")
ACCENTS: tuple[Colour, ...] = ((176, 52, 44), (44, 78, 128), (60, 104, 72), (206, 164, 60), (90, 52, 92), (48, 48, 52))
GLASSES: tuple[Colour, ...] = ((44, 50, 60), (62, 74, 88), (36, 34, 34), (78, 88, 92))


def decide_style(rng: np.random.Generator) -> LandmarkStyle:
    """Returns a landmark's style: a family, and decisions within it."""
    family = choice(rng, FAMILIES)
    wall = varied(rng, choice(rng, family.walls), 14)
    bays = int(rng.integers(3, 9))
    mirrored = rng.random() < 0.7
    count = int(rng.integers(2, 6))
    heights = rng.uniform(0.8, 1.25, count)
    heights[0] *= rng.uniform(1.0, 1.5)
    heights /= heights.sum()
    kinds = [_opening(rng, family) for _ in range(3)]
    storeys = [_storey(rng, float(height), kinds, bays, mirrored=mirrored) for height in heights]
    return LandmarkStyle(
        wall=wall,
        joint=varied(rng, scaled(wall, choice(rng, (0.6, 1.25))), 8),
        trim=varied(rng, choice(rng, family.trims), 10),
        roof=varied(rng, choice(rng, family.roofs), 12),
        glass=varied(rng, choice(rng, GLASSES), 8),
        accent=varied(rng, choice(rng, ACCENTS), 16),
        pattern=choice(rng, family.patterns),
        contrast=float(rng.uniform(0.22, 0.5)),
        width=float(np.clip(bays * rng.uniform(0.18, 0.3), 0.6, 1.75)),
        depth=float(rng.uniform(0.45, 1.1)),
        storeys=tuple(storeys),
        bays=_bay_borders(rng, bays, mirrored=mirrored),
        door=bays // 2 if mirrored else int(rng.integers(bays)),
        roofline=choice(rng, family.rooflines),
        roof_height=float(rng.uniform(0.75, 1.25)),
        ornaments=tuple(
            ORNAMENT_NAMES[place] for place in rng.permutation(len(ORNAMENT_NAMES))[: int(rng.integers(1, 4))]
        ),
        pilasters=bool(rng.random() < 0.35),
        quoins=bool(rng.random() < 0.35),
    )


def _opening(rng: np.random.Generator, family: Family) -> OpeningStyle:
    outline = choice(rng, family.openings)
    return OpeningStyle(
        outline=outline,
        surround=choice(rng, family.surrounds),
        width=float(rng.uniform(0.7, 0.92) if outline == "wide" else rng.uniform(0.34, 0.68)),
        height=float(rng.uniform(0.5, 0.8)),
        panes=(int(rng.integers(1, 4)), int(rng.integers(1, 5))),
        balcony=bool(rng.random() < 0.2),
    )


def _storey(
    rng: np.random.Generator, height: float, kinds: Sequence[OpeningStyle], bays: int, *, mirrored: bool
) -> Storey:
    first, second = (kinds[int(place)] for place in rng.permutation(len(kinds))[:2])
    weights = rng.dirichlet((2.0, 1.0, 0.35))
    rhythm = rng.choice([0, 1, -1], bays, p=weights)
    if mirrored:
        rhythm[bays - bays // 2 :] = rhythm[: bays // 2][::-1]
    if (rhythm < 0).all():
        rhythm[:] = 0
    return Storey(height, (first, second), tuple(rhythm.tolist()), bool(rng.random() < 0.5))


def _bay_borders(rng: np.random.Generator, bays: int, *, mirrored: bool) -> tuple[float, ...]:
    widths = rng.uniform(0.7, 1.3, bays) if rng.random() < 0.6 else np.ones(bays)
    if mirrored:
        widths += widths[::-1].copy()
    borders = np.concatenate([[0.0], np.cumsum(widths)])
    return tuple((borders / borders[-1] * 0.94 + 0.03).tolist())
