"""Noise and one colour are told from pictures."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import pytest
import skimage.data
from PIL import Image

from aml_edge.quantization.image_content import ImageContent, content_of, neighbour_correlation

Images = list[npt.NDArray[np.uint8]]

PICTURES = (
    "astronaut",
    "coffee",
    "hubble_deep_field",
    "page",
    "text",
    "grass",
    "gravel",
    "brick",
    "colorwheel",
    "moon",
)
"""Some of the hardest of scikit-image's: stars, letters, textures."""


def noise(side: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def as_jpeg(image: npt.NDArray[np.uint8], quality: int) -> npt.NDArray[np.uint8]:
    content = io.BytesIO()
    Image.fromarray(image).save(content, "JPEG", quality=quality)
    return np.asarray(Image.open(content).convert("RGB"))


def slow_correlation(grey: npt.NDArray[np.uint8]) -> float:
    """Pearson's, by NumPy, of the neighbours in one direction and in the other."""
    right = np.corrcoef(
        [grey[y, x] for y in range(grey.shape[0]) for x in range(grey.shape[1] - 1)],
        [grey[y, x + 1] for y in range(grey.shape[0]) for x in range(grey.shape[1] - 1)],
    )[0, 1]
    below = np.corrcoef(
        [grey[y, x] for y in range(grey.shape[0] - 1) for x in range(grey.shape[1])],
        [grey[y + 1, x] for y in range(grey.shape[0] - 1) for x in range(grey.shape[1])],
    )[0, 1]
    return float(max(right, below))


@pytest.mark.parametrize("name", PICTURES)
def test_scikit_images_pictures_are_pictures(name: str) -> None:
    picture = np.asarray(Image.fromarray(getattr(skimage.data, name)()).convert("RGB"))
    assert content_of(picture) is ImageContent.PICTURE


def test_small_and_turned_photographs_are_pictures(photographs: Images) -> None:
    for photograph in photographs:
        assert content_of(photograph) is ImageContent.PICTURE
        assert content_of(np.rot90(photograph).copy()) is ImageContent.PICTURE


@pytest.mark.parametrize("side", [32, 64, 224, 1500])
def test_noise_is_noise_at_any_size(side: int) -> None:
    assert content_of(noise(side)) is ImageContent.NOISE


@pytest.mark.parametrize("quality", [95, 75, 50])
def test_noise_that_was_compressed_is_noise(quality: int) -> None:
    assert content_of(as_jpeg(noise(128), quality)) is ImageContent.NOISE


def test_noise_that_was_reduced_is_noise() -> None:
    reduced = Image.fromarray(noise(512)).resize((200, 200), Image.Resampling.BILINEAR)
    assert content_of(np.asarray(reduced)) is ImageContent.NOISE


def test_grey_black_and_white_and_normal_noise_is_noise() -> None:
    generator = np.random.default_rng(1)
    grey = generator.integers(0, 256, (96, 96, 1), dtype=np.uint8).repeat(3, 2)
    salt = (255 * (generator.random((96, 96, 1)) < 0.05)).astype(np.uint8).repeat(3, 2)
    normal = generator.normal(128, 30, (96, 96, 3)).clip(0, 255).astype(np.uint8)
    assert {content_of(one) for one in (grey, salt, normal)} == {ImageContent.NOISE}


def test_a_halftone_is_a_picture() -> None:
    astronaut = Image.fromarray(skimage.data.astronaut()).convert("1").convert("RGB")
    assert neighbour_correlation(np.asarray(astronaut.convert("L"))) < 0.5
    assert content_of(np.asarray(astronaut)) is ImageContent.PICTURE


def test_stripes_are_a_picture() -> None:
    bars = np.random.default_rng(2).integers(0, 256, (1, 96, 1), dtype=np.uint8).repeat(96, 0).repeat(3, 2)
    assert content_of(bars) is ImageContent.PICTURE


@pytest.mark.parametrize("colour", [0, 128, 255])
def test_one_colour_is_told(colour: int) -> None:
    plain = np.full((40, 60, 3), colour, np.uint8)
    assert content_of(plain) is ImageContent.ONE_COLOUR
    assert content_of(as_jpeg(plain, 75)) is ImageContent.ONE_COLOUR


def test_a_difference_that_nobody_sees_is_one_colour() -> None:
    steps = np.full((40, 60, 3), 100, np.uint8)
    steps[:, 30:] += 7
    assert content_of(steps) is ImageContent.ONE_COLOUR
    steps[:, 30:] += 1
    assert content_of(steps) is ImageContent.PICTURE


def test_the_smallest_image_can_be_looked_at() -> None:
    assert content_of(np.array([[[0] * 3, [0] * 3], [[255] * 3, [255] * 3]], np.uint8)) is ImageContent.PICTURE


def test_correlation_is_pearsons_of_neighbours(photographs: Images) -> None:
    grey = photographs[0][:16, :20, 1]
    assert neighbour_correlation(grey) == pytest.approx(slow_correlation(grey), abs=1e-12)
    alternating = np.indices((8, 8)).sum(0) % 2
    assert neighbour_correlation(alternating) == pytest.approx(-1.0)
    assert neighbour_correlation(np.zeros((4, 4))) == 1.0
