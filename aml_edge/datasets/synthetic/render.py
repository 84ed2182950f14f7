"""One view of a synthetic landmark: sky, ground, neighbours, the landmark, what stands before it, light, grain."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from aml_edge.datasets.synthetic.camera import (
    Camera,
    aim,
    front_plane,
    landmark_outline,
    roof_slope,
    sees_side,
    side_plane,
)
from aml_edge.datasets.synthetic.colours import choice, scaled
from aml_edge.datasets.synthetic.landmark import Landmark
from aml_edge.datasets.synthetic.patterns import cut
from aml_edge.datasets.synthetic.scenery import Scenery
from aml_edge.datasets.synthetic.texture import Homography, Texture, warp
from aml_edge.datasets.synthetic.views import Light, View

ASPECT = 0.75
HAZE_GREY = 0.78

HEIGHTS = {"people": 0.2, "vehicle": 0.17, "post": 0.5}
"""Of sprites, as shares of the landmark's walls; those not named here take the view's cover."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, px."""

Shade = Callable[[tuple[int, int]], Image.Image]
"""Gives an RGBa picture of a size to multiply with."""


def picture_size(image_side_px: int, *, portrait: bool) -> tuple[int, int]:
    """Returns width and height of a view; the longest side is `image_side_px`."""
    short = max(round(image_side_px * ASPECT), 1)
    return (short, image_side_px) if portrait else (image_side_px, short)


def landmark_box(view: View, landmark: Landmark, size: tuple[int, int]) -> Box:
    """Returns the box around the landmark within a picture of `size`, at least one pixel wide and high."""
    return _box(aim(view.pose, landmark, size), landmark, size)


def render(
    rng: np.random.Generator, view: View, landmark: Landmark, scenery: Scenery, size: tuple[int, int]
) -> Image.Image:
    """Returns the view of the landmark as an RGB picture of `size`; `rng` decides what surrounds it."""
    camera = aim(view.pose, landmark, size)
    foot = camera.project(0, 0, 0)[1]
    ground = Standing(foot, foot - camera.project(0, landmark.eaves, 0)[1])

    image = cut(rng, choice(rng, scenery.skies), size)
    _put_ground(rng, image, scenery, camera.horizon)
    _put_neighbours(rng, image, view, scenery, Standing((camera.horizon + foot) / 2, ground.height))
    _put_landmark(rng, image, view.light, camera, landmark, scenery)
    box = _box(camera, landmark, size)
    _put_row(rng, image, view, scenery, box)
    _put_sprites(rng, image, view, scenery, ground, box)
    image = lit(image, view.light)
    if view.blur > 1:
        image = image.reduce(view.blur).resize(size, Image.Resampling.BILINEAR)
    return ImageChops.add(image, cut(rng, scenery.grain[view.grain], size), 1, -128)


def _box(camera: Camera, landmark: Landmark, size: tuple[int, int]) -> Box:
    points = landmark_outline(camera, landmark)
    left, right = _span([x for x, _ in points], size[0])
    top, bottom = _span([y for _, y in points], size[1])
    return left, top, right, bottom


def _span(places: list[float], length: int) -> tuple[float, float]:
    """From the least to the greatest place, whole pixels, within 0 to `length` and never empty."""
    low = min(max(math.floor(min(places)), 0), length - 1)
    return float(low), float(min(max(math.ceil(max(places)), low + 1), length))


@dataclass(frozen=True)
class Standing:
    """Where something stands in the picture: y of its foot and the height of the landmark's walls there, px."""

    foot: float
    height: float


def _put_ground(rng: np.random.Generator, image: Image.Image, scenery: Scenery, horizon: float) -> None:
    ground = choice(rng, scenery.grounds)
    left, top = int(rng.integers(0, ground.width - image.width + 1)), math.floor(horizon)
    if top < image.height:
        visible = max(top, 0)
        image.paste(ground.crop((left, visible - top, left + image.width, image.height - top)), (0, visible))


def _put_neighbours(
    rng: np.random.Generator, image: Image.Image, view: View, scenery: Scenery, ground: Standing
) -> None:
    for _ in range(view.neighbours):
        height = min(max(ground.height * rng.uniform(0.5, 1.1), 0.2 * image.height), 1.2 * image.height)
        picture = choice(rng, scenery.neighbours).at(height)
        image.paste(picture, (int(rng.uniform(-0.5, 1) * image.width), int(ground.foot) - picture.height), picture)


def _put_landmark(
    rng: np.random.Generator,
    image: Image.Image,
    light: Light,
    camera: Camera,
    landmark: Landmark,
    scenery: Scenery,
) -> None:
    if sees_side(camera, landmark):
        slope = roof_slope(camera, landmark)
        if slope:
            ImageDraw.Draw(image).polygon(slope, fill=scaled(landmark.roof, light.side))
        grey = round(255 * light.side)
        _put_texture(
            image,
            landmark.side,
            side_plane(camera, landmark),
            lambda size: Image.new("RGBa", size, (grey, grey, grey, 255)),
        )
    shade = partial(cut, rng, choice(rng, scenery.shadows)) if light.shadow else None
    _put_texture(image, landmark.front, front_plane(camera, landmark), shade)


def _put_texture(image: Image.Image, texture: Texture, plane: Homography, shade: Shade | None) -> None:
    warped = warp(texture, plane, image.size)
    if warped is not None:
        pixels = warped.pixels
        if shade is not None:
            pixels = ImageChops.multiply(pixels, shade(pixels.size))
        image.paste(pixels, warped.corner, pixels)


def _put_sprites(
    rng: np.random.Generator, image: Image.Image, view: View, scenery: Scenery, ground: Standing, box: Box
) -> None:
    for kind in view.in_front:
        nearer = rng.uniform(1.0, 1.3)
        share = HEIGHTS.get(kind, view.cover * rng.uniform(0.8, 1.1))
        picture = choice(rng, scenery.sprites[kind]).at(min(share * ground.height * nearer, 1.3 * image.height))
        foot = min(ground.foot + (nearer - 1) * 0.4 * ground.height, image.height * rng.uniform(0.97, 1.05))
        x = rng.uniform(box[0], box[2]) - picture.width / 2
        image.paste(picture, (round(x), round(foot) - picture.height), picture)


def _put_row(rng: np.random.Generator, image: Image.Image, view: View, scenery: Scenery, box: Box) -> None:
    """Houses side by side, from before the landmark's left edge to behind its right one."""
    if not view.row:
        return
    x, foot = box[0] - rng.uniform(0.0, 0.3) * (box[2] - box[0]), round(box[3])
    while x < box[2]:
        picture = choice(rng, scenery.neighbours).at((box[3] - box[1]) * view.row * rng.uniform(0.9, 1.1))
        image.paste(picture, (round(x), foot - picture.height), picture)
        x += picture.width


def lit(image: Image.Image, light: Light) -> Image.Image:
    """Returns the picture in that light."""
    if light.grey:
        image = image.convert("L").convert("RGB")
    ramp = (np.arange(256) / 255) ** light.gamma
    curves = ramp * np.array(light.cast)[:, None] * light.gain  # (3, 256)
    curves = curves * (1 - light.haze) + HAZE_GREY * light.haze * min(light.gain, 1)
    return image.point(np.clip(curves * 255 + 0.5, 0, 255).astype(np.uint8).ravel().tolist())
