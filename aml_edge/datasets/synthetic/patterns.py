"""Grey fields from which synthetic surfaces are cut: noise, and the patterns of walls.

They are made once a process and cut at random for every surface, since drawing them is what would cost most.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from PIL import Image

from aml_edge.datasets.synthetic.colours import Colour

Field = npt.NDArray[np.float32]
"""(H, W) float32, mean about 0, most values within −1 and 1."""

JOINT = 255
"""The grey value of a pattern that means "mortar", not a shade."""


def smooth_noise(rng: np.random.Generator, side: int, cells: int, octaves: int = 3) -> Field:
    """Returns (side, side) noise whose coarsest octave has `cells` cells a side; each octave is twice as fine."""
    field = np.zeros((side, side), dtype=np.float32)
    for octave in range(octaves):
        count = min(cells << octave, side)
        grid = rng.standard_normal((count, count), dtype=np.float32)
        resized = Image.fromarray(grid).resize((side, side), Image.Resampling.BICUBIC)
        field += np.asarray(resized) * np.float32(0.5 ** (octave + 1))
    return field


def wall_patterns(rng: np.random.Generator, side: int) -> dict[str, Image.Image]:
    """Returns every pattern of `PATTERNS` as a (side, side) grey image: shades 0 to 254, `JOINT` for mortar."""
    grain = 0.1 * rng.standard_normal((side, side), dtype=np.float32) + 0.25 * smooth_noise(rng, side, 6, 4)
    return {name: _grey(draw(rng, side) + grain) for name, draw in PATTERNS.items()}


def tinted(pattern: Image.Image, colour: Colour, joint: Colour, contrast: float) -> Image.Image:
    """Returns the pattern in RGB: shades of `colour`, from 1 − contrast to 1 + contrast of it, joints in `joint`."""
    shades = np.linspace(1 - contrast, 1 + contrast, 256)[:, None] * np.array(colour)
    shades[JOINT] = joint
    paletted = pattern.copy()
    paletted.putpalette(np.clip(shades, 0, 255).astype(np.uint8).tobytes())
    return paletted.convert("RGB")


def cut(rng: np.random.Generator, image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Returns a random window of `size`, which is at most the image's, mirrored or not."""
    width, height = size
    x, y = int(rng.integers(0, image.width - width + 1)), int(rng.integers(0, image.height - height + 1))
    window = image.crop((x, y, x + width, y + height))
    return window.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else window


def _grey(field: Field) -> Image.Image:
    joints = np.isinf(field)
    shades = np.clip(np.where(joints, 0, field) * 110 + 127, 0, JOINT - 1).astype(np.uint8)
    return Image.fromarray(np.where(joints, np.uint8(JOINT), shades))


def _courses(rng: np.random.Generator, side: int, height: float, width: float, jitter: float) -> Field:
    """Courses of blocks; joints are infinite."""
    rows = _steps(rng, side, height, jitter)
    field = np.empty((side, side), dtype=np.float32)
    for row, (top, bottom) in enumerate(pairwise(rows)):
        shift = int(width / 2) * (row % 2) + int(rng.integers(0, 3))
        columns = _steps(rng, side + shift, width, jitter)
        tones = np.repeat(rng.normal(0, 0.35, len(columns) - 1), np.diff(columns))[shift:]
        tones[np.maximum(columns[1:-1] - shift, 0)] = np.inf
        field[top:bottom] = tones[:side]
        field[top] = np.inf
    return field


def _steps(rng: np.random.Generator, length: int, step: float, jitter: float) -> npt.NDArray[np.intp]:
    """Places of cuts from 0 to `length`, about `step` apart."""
    lengths = step * (1 + jitter * rng.uniform(-1, 1, int(length / (step * (1 - jitter))) + 2))
    places = np.rint(np.cumsum(lengths)).astype(np.intp)
    return np.concatenate([[0], places[places < length], [length]])


def _brick(rng: np.random.Generator, side: int) -> Field:
    return _courses(rng, side, side / 72, side / 30, 0.0)


def _long_brick(rng: np.random.Generator, side: int) -> Field:
    return _courses(rng, side, side / 56, side / 14, 0.15)


def _ashlar(rng: np.random.Generator, side: int) -> Field:
    return _courses(rng, side, side / 26, side / 13, 0.3)


def _blocks(rng: np.random.Generator, side: int) -> Field:
    return _courses(rng, side, side / 14, side / 9, 0.1)


def _rubble(rng: np.random.Generator, side: int) -> Field:
    """Irregular stones, mirrored about both middles, which is four times as quick."""
    quarter = _stones(rng, (side + 1) // 2, 15)
    half = np.concatenate([quarter, quarter[:, ::-1]], axis=1)
    return np.concatenate([half, half[::-1]])[:side, :side]


def _stones(rng: np.random.Generator, side: int, cells: int) -> Field:
    """Cells of a jittered grid of points."""
    grid = np.stack(np.meshgrid(np.arange(cells), np.arange(cells), indexing="ij"), axis=-1)
    points = (grid + rng.uniform(0.1, 0.9, (cells, cells, 2))) * (side / cells)
    tones = rng.normal(0, 0.4, (cells, cells)).astype(np.float32)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    own_y, own_x = (y * cells / side).astype(np.intp), (x * cells / side).astype(np.intp)
    nearest = np.full((side, side), np.inf, dtype=np.float32)
    second = nearest.copy()
    tone = np.zeros((side, side), dtype=np.float32)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            cell_y, cell_x = np.clip(own_y + dy, 0, cells - 1), np.clip(own_x + dx, 0, cells - 1)
            point = points[cell_y, cell_x].astype(np.float32)
            distance = np.hypot(y - point[..., 0], x - point[..., 1])
            closer = distance < nearest
            repeated = distance == nearest  # the same point, met again at the border
            second = np.where(closer, nearest, np.where(repeated, second, np.minimum(second, distance)))
            tone = np.where(closer, tones[cell_y, cell_x], tone)
            nearest = np.minimum(nearest, distance)
    tone[second - nearest < side / 200] = np.inf
    return tone


def _stucco(rng: np.random.Generator, side: int) -> Field:
    return 0.5 * smooth_noise(rng, side, 10, 5)


def _panels(rng: np.random.Generator, side: int) -> Field:
    return _courses(rng, side, side / 8, side / 6, 0.0) * 0.5 + 0.3 * smooth_noise(rng, side, 4, 2)


def _boards(rng: np.random.Generator, side: int) -> Field:
    """Horizontal boards, each darker towards its lower edge."""
    count = 44
    place = np.arange(side) * count / side
    tones = rng.normal(0, 0.2, count + 1)[place.astype(np.intp)] + 0.5 - (place % 1)
    return np.repeat(tones.astype(np.float32)[:, None], side, axis=1)


PATTERNS: Mapping[str, Callable[[np.random.Generator, int], Field]] = {
    "brick": _brick,
    "long brick": _long_brick,
    "ashlar": _ashlar,
    "blocks": _blocks,
    "rubble": _rubble,
    "stucco": _stucco,
    "panels": _panels,
    "boards": _boards,
}
