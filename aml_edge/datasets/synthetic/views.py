"""How a synthetic landmark is seen: what query, easy, hard and junk mean.

A view starts from a plain one and meets challenges. A query meets none, an easy view one or two mild ones, a hard view
one or two severe ones; a junk view is one in which the landmark cannot be recognised: too small, cut off, or hidden
behind trees or houses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from aml_edge.datasets.synthetic.camera import Pose
from aml_edge.datasets.synthetic.colours import choice


class Difficulty(StrEnum):
    """How hard a view is to recognise."""

    QUERY = "query"
    EASY = "easy"
    HARD = "hard"
    JUNK = "junk"


@dataclass(frozen=True)
class Light:
    """How the picture is lit; a value v of 0 to 1 becomes gain · cast · v^gamma, then haze is mixed in.

    Args:
        gain, gamma, cast: see above; the cast is per channel.
        haze: share of light grey.
        side: brightness of the side walls, 0 to 1.
        shadow: whether a shadow falls on the front.
        grey: whether the colours are lost.
    """

    gain: float
    gamma: float
    cast: tuple[float, float, float]
    haze: float
    side: float
    shadow: bool = False
    grey: bool = False


@dataclass(frozen=True)
class View:
    """Everything that is decided before a view is drawn.

    Args:
        pose: of the camera.
        light: see `Light`.
        in_front: kinds of sprites that stand before the landmark.
        cover: height of the trees and scaffolds among them as a share of the landmark's walls.
        row: height of a row of houses that hides the landmark as a share of all its height, or 0 for none.
        neighbours: how many other buildings there are.
        blur: the picture loses details of fewer pixels than this.
        grain: place in `synthetic_scenery.GRAIN_LEVELS`.
        quality: of the JPEG file.
        portrait: whether the picture is upright.
    """

    pose: Pose
    light: Light
    in_front: tuple[str, ...]
    cover: float
    row: float
    neighbours: int
    blur: int
    grain: int
    quality: int
    portrait: bool


Challenge = Callable[[np.random.Generator, View], View]
"""Makes a view harder."""


def decide_view(rng: np.random.Generator, difficulty: Difficulty, *, upright: bool) -> View:
    """Returns a view of that difficulty of a landmark that is upright or not."""
    view = _plain(rng, upright=upright)
    challenges, least, most = MEETS[difficulty]
    order = rng.permutation(len(challenges))
    for place in order[: int(rng.integers(least, most + 1))].tolist():
        view = challenges[place](rng, view)
    return view


def _plain(rng: np.random.Generator, *, upright: bool) -> View:
    pose = Pose(
        yaw=rng.uniform(-0.3, 0.3),
        pitch=rng.uniform(0.0, 0.12),
        roll=rng.normal(0, 0.015),
        distance=rng.uniform(1.6, 3.5),
        eye=rng.uniform(0.08, 0.3),
        share=rng.uniform(0.62, 0.88),
        shift=(rng.uniform(-0.07, 0.07), rng.uniform(-0.02, 0.06)),
    )
    light = Light(
        gain=rng.uniform(0.85, 1.12),
        gamma=rng.uniform(0.88, 1.15),
        cast=_cast(rng, 0.05),
        haze=rng.uniform(0, 0.08),
        side=rng.uniform(0.6, 1.0),
        shadow=rng.random() < 0.2,
    )
    return View(
        pose=pose,
        light=light,
        in_front=_kinds(rng, ("people", "vehicle", "post", "people"), int(rng.integers(0, 3))),
        cover=0.5,
        row=0.0,
        neighbours=int(rng.integers(0, 4)),
        blur=1,
        grain=int(rng.integers(0, 2)),
        quality=int(rng.integers(75, 93)),
        portrait=upright if rng.random() < 0.8 else not upright,
    )


def _cast(rng: np.random.Generator, spread: float) -> tuple[float, float, float]:
    """From cold to warm, and a little towards green or purple."""
    warmth, tint = rng.normal(0, spread), rng.normal(0, spread / 4)
    return math.exp(warmth), math.exp(tint), math.exp(-warmth)


def _kinds(rng: np.random.Generator, kinds: tuple[str, ...], count: int) -> tuple[str, ...]:
    return tuple(choice(rng, kinds) for _ in range(count))


def _either(rng: np.random.Generator, low: float, high: float) -> float:
    """To the left or to the right."""
    return rng.uniform(low, high) * choice(rng, (-1.0, 1.0))


def _half_turned(rng: np.random.Generator, view: View) -> View:
    return replace(view, pose=replace(view.pose, yaw=_either(rng, 0.3, 0.6)))


def _half_far(rng: np.random.Generator, view: View) -> View:
    return replace(view, pose=replace(view.pose, share=rng.uniform(0.52, 0.68)))


def _half_covered(rng: np.random.Generator, view: View) -> View:
    kinds = _kinds(rng, ("tree", "bare tree", "people", "vehicle"), 2)
    return replace(view, in_front=(*view.in_front, *kinds), cover=rng.uniform(0.4, 0.65))


def _other_light(rng: np.random.Generator, view: View) -> View:
    gain, gamma = rng.uniform(0.6, 1.25), rng.uniform(0.75, 1.4)
    return replace(view, light=replace(view.light, gain=gain, gamma=gamma, cast=_cast(rng, 0.14), shadow=True))


def _turned(rng: np.random.Generator, view: View) -> View:
    return replace(view, pose=replace(view.pose, yaw=_either(rng, 0.6, 1.0), pitch=rng.uniform(0.05, 0.25)))


def _far(rng: np.random.Generator, view: View) -> View:
    shift = (rng.uniform(-0.2, 0.2), rng.uniform(0.0, 0.1))
    pose = replace(view.pose, share=rng.uniform(0.32, 0.46), shift=shift)
    return replace(view, pose=pose, neighbours=view.neighbours + 3)


def _close(rng: np.random.Generator, view: View) -> View:
    shift = (rng.uniform(-0.35, 0.35), rng.uniform(-0.25, 0.35))
    return replace(view, pose=replace(view.pose, share=rng.uniform(1.3, 1.9), shift=shift))


def _covered(rng: np.random.Generator, view: View) -> View:
    kinds = _kinds(rng, ("tree", "tree", "bare tree", "scaffold", "vehicle", "people"), int(rng.integers(3, 6)))
    return replace(view, in_front=(*view.in_front, *kinds), cover=rng.uniform(0.6, 0.85))


def _dark(rng: np.random.Generator, view: View) -> View:
    light = replace(
        view.light,
        gain=rng.uniform(0.36, 0.55),
        gamma=rng.uniform(0.95, 1.25),
        cast=_cast(rng, 0.2),
        side=rng.uniform(0.4, 1.0),
        shadow=True,
    )
    return replace(view, light=light, grain=int(rng.integers(2, 4)))


def _faded(rng: np.random.Generator, view: View) -> View:
    haze, gamma = rng.uniform(0.35, 0.6), rng.uniform(0.7, 1.3)
    light = replace(view.light, haze=haze, gamma=gamma, cast=_cast(rng, 0.1), grey=rng.random() < 0.5)
    return replace(view, light=light, quality=int(rng.integers(45, 75)))


def _blurred(rng: np.random.Generator, view: View) -> View:
    return replace(view, blur=int(rng.integers(2, 4)), quality=int(rng.integers(35, 70)))


def _tiny(rng: np.random.Generator, view: View) -> View:
    shift = (rng.uniform(-0.35, 0.35), rng.uniform(0.0, 0.15))
    pose = replace(view.pose, share=rng.uniform(0.07, 0.12), shift=shift)
    return replace(view, pose=pose, neighbours=view.neighbours + 4)


def _buried(rng: np.random.Generator, view: View) -> View:
    in_front = (*("tree",) * int(rng.integers(10, 13)), "vehicle", "vehicle")
    return replace(view, in_front=in_front, cover=rng.uniform(1.1, 1.35))


def _cut_off(rng: np.random.Generator, view: View) -> View:
    """Only a strip of the front is left at the picture's edge."""
    side = choice(rng, (-1.0, 1.0))
    pose = replace(view.pose, yaw=0.0, share=rng.uniform(0.7, 1.0), shift=(side * 0.5, 0.05))
    pose = replace(pose, slide=side * rng.uniform(0.38, 0.44))
    return replace(view, pose=pose, neighbours=3)


def _hidden(rng: np.random.Generator, view: View) -> View:
    pose = replace(view.pose, yaw=0.0, share=rng.uniform(0.35, 0.6))
    return replace(view, pose=pose, in_front=(), row=rng.uniform(1.05, 1.25))


MILD: tuple[Challenge, ...] = (_half_turned, _half_far, _half_covered, _other_light)
SEVERE: tuple[Challenge, ...] = (_turned, _far, _close, _covered, _dark, _faded, _blurred)
RUINOUS: tuple[Challenge, ...] = (_tiny, _buried, _cut_off, _hidden)

MEETS: Mapping[Difficulty, tuple[tuple[Challenge, ...], int, int]] = {
    Difficulty.QUERY: (MILD, 0, 0),
    Difficulty.EASY: (MILD, 1, 2),
    Difficulty.HARD: (SEVERE, 1, 2),
    Difficulty.JUNK: (RUINOUS, 1, 1),
}
"""The challenges that a view may meet, and how many at least and at most."""
