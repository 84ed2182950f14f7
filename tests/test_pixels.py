"""Fitting against a slow, obvious definition, against closed forms, and against stored pixels of real photographs."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from aml_edge.errors import ImageError, UsageError
from aml_edge.pixels import Box, Pixels, fit_image, load_pixels, read_fitted_size
from aml_edge.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Fit, Preprocessing

PHOTOGRAPHS = Path(__file__).parent / "data" / "photographs"
NATIVE_SIDE, SQUARE_SIDE = 96, 48
GOLDEN_BOX: Box = (20.5, 10.2, 92.0, 70.7)
ROUNDED_BOX = (slice(10, 71), slice(20, 92))
"""Rows and columns of the box: 20.5 goes to the even 20."""

ROUNDING = 1
"""Levels. Pillow rounds after the columns and again after the rows, in fixed point; the slow definition rounds once."""

Floats = npt.NDArray[np.float64]


def slow_weights(source: int, result: int) -> Floats:
    """Returns (result, source): how much of each source pixel goes into each pixel of a resized line.

    A triangle around the pixel's middle, as wide as two source pixels, or as two of the result's where those are wider.
    """
    scale = source / result
    reach = max(scale, 1.0)
    weights = np.zeros((result, source))
    for place in range(result):
        middle = (place + 0.5) * scale
        for pixel in range(source):
            weights[place, pixel] = max(0.0, 1 - abs(pixel + 0.5 - middle) / reach)
    normalised: Floats = weights / weights.sum(axis=1, keepdims=True)
    return normalised


def slow_resize(pixels: Pixels, width: int, height: int) -> Pixels:
    """Returns (height, width, 3), rounded once, halves up."""
    down, across = slow_weights(pixels.shape[0], height), slow_weights(pixels.shape[1], width)
    resized = np.stack([down @ pixels[..., channel].astype(float) @ across.T for channel in range(3)], axis=-1)
    return np.floor(resized + 0.5 + 1e-9).astype(np.uint8)  # halves go up on every machine


def slow_golden(upright: Pixels) -> dict[str, Pixels]:
    """Returns all fits of an upright picture that is wider than high, or higher than wide, written out by hand."""
    height, width = upright.shape[:2]
    longest, shortest = max(height, width), min(height, width)
    native = np.array([width, height]) * NATIVE_SIDE / longest
    cut = upright[ROUNDED_BOX]
    box = np.array([cut.shape[1], cut.shape[0]]) * NATIVE_SIDE / longest
    inner = np.array([width, height]) * SQUARE_SIDE / longest
    inner_width, inner_height = (int(np.floor(size + 0.5)) for size in inner)
    letterbox = np.empty((SQUARE_SIDE, SQUARE_SIDE, 3), np.uint8)
    letterbox[:] = (124, 116, 104)  # ImageNet's mean × 255: 123.675, 116.28, 103.53
    top, left = (SQUARE_SIDE - inner_height) // 2, (SQUARE_SIDE - inner_width) // 2
    letterbox[top : top + inner_height, left : left + inner_width] = slow_resize(upright, inner_width, inner_height)
    top, left = (height - shortest) // 2, (width - shortest) // 2
    middle = upright[top : top + shortest, left : left + shortest]
    return {
        "native": slow_resize(upright, *(int(np.floor(size + 0.5)) for size in native)),
        "box": slow_resize(cut, *(int(np.floor(size + 0.5)) for size in box)),
        "squash": slow_resize(upright, SQUARE_SIDE, SQUARE_SIDE),
        "letterbox": letterbox,
        "center-crop": slow_resize(middle, SQUARE_SIDE, SQUARE_SIDE),
    }


def golden_photographs() -> dict[str, Callable[[Pixels], Pixels]]:
    """Returns the stored files, each with what makes its stored pixels upright RGB."""
    return {
        "colour.jpg": lambda stored: stored,
        "turned.jpg": lambda stored: np.rot90(stored, k=-1),  # EXIF 6: turn it clockwise
        "grey.png": lambda stored: np.repeat(stored[..., None], 3, axis=-1),
    }


def preprocessing_of(fit: str) -> Preprocessing:
    square = fit in (Fit.SQUASH, Fit.LETTERBOX, Fit.CENTER_CROP)
    return Preprocessing(SQUARE_SIDE, Fit(fit)) if square else Preprocessing(NATIVE_SIDE)


def levels_apart(left: Pixels, right: Pixels) -> int:
    assert left.shape == right.shape
    return int(np.abs(left.astype(int) - right.astype(int)).max())


@pytest.mark.parametrize("name", golden_photographs())
@pytest.mark.parametrize("fit", ["native", "box", "squash", "letterbox", "center-crop"])
def test_photographs_come_out_as_stored(name: str, fit: str) -> None:
    with np.load((PHOTOGRAPHS / name).with_suffix(".npz")) as stored:
        expected = stored[fit]
    box = GOLDEN_BOX if fit == "box" else None
    pixels = load_pixels(PHOTOGRAPHS / name, preprocessing_of(fit), box)
    assert pixels.dtype == np.uint8
    assert levels_apart(pixels, expected) <= ROUNDING
    # a filter or an offset that is off by a little moves the mean of the differences, rounding does not
    assert abs((pixels.astype(float) - expected).mean()) < 0.05
    assert np.abs(pixels.astype(float) - expected).mean() < 0.25


@pytest.mark.parametrize("name", golden_photographs())
def test_stored_pixels_are_those_of_the_slow_definition(name: str) -> None:
    """So the stored ones can be made again, and a change of the decoder alone is seen."""
    with Image.open(PHOTOGRAPHS / name) as image:
        upright = golden_photographs()[name](np.asarray(image))
    with np.load((PHOTOGRAPHS / name).with_suffix(".npz")) as stored:
        for fit, pixels in slow_golden(upright).items():
            assert levels_apart(pixels, stored[fit]) == 0


def test_the_photographs_are_what_they_should_be() -> None:
    with Image.open(PHOTOGRAPHS / "colour.jpg") as colour, Image.open(PHOTOGRAPHS / "turned.jpg") as turned:
        assert (colour.mode, colour.size, colour.getexif().get(0x0112)) == ("RGB", (180, 120), None)
        assert (turned.mode, turned.size, turned.getexif().get(0x0112)) == ("RGB", (161, 107), 6)
    with Image.open(PHOTOGRAPHS / "grey.png") as grey:
        assert (grey.mode, grey.size) == ("L", (131, 87))


def test_a_photograph_gives_the_tensor_that_the_definition_gives() -> None:
    import torch

    from aml_edge.networks.normalisation import Normalise

    with np.load(PHOTOGRAPHS / "turned.npz") as stored:
        expected = ((stored["native"] / 255.0 - IMAGENET_MEAN) / IMAGENET_STD).transpose(2, 0, 1)
    pixels = load_pixels(PHOTOGRAPHS / "turned.jpg", Preprocessing(NATIVE_SIDE))
    tensor = Normalise(IMAGENET_MEAN, IMAGENET_STD)(torch.from_numpy(pixels)[None])
    assert tensor.shape == (1, 3, 96, 64)
    one_level = ROUNDING / 255 / min(IMAGENET_STD)
    np.testing.assert_allclose(tensor[0].numpy(), expected, atol=one_level + 1e-6)


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    side=st.integers(1, 60),
    seed=st.integers(0, 2**16),
)
def test_every_size_is_resized_as_the_slow_definition_says(size: tuple[int, int], side: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    squashed = fit_image(pixels, Preprocessing(side, Fit.SQUASH))
    assert levels_apart(squashed, slow_resize(pixels, side, side)) <= ROUNDING
    native = fit_image(pixels, Preprocessing(side))
    if side >= max(size):
        np.testing.assert_array_equal(native, pixels)
    else:
        assert max(native.shape[:2]) == side
        assert levels_apart(native, slow_resize(pixels, native.shape[1], native.shape[0])) <= ROUNDING


def test_reducing_averages_and_does_not_pick() -> None:
    """Antialias: stripes of one pixel become grey, where picking pixels would give black or white."""
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    inner = fit_image(stripes, Preprocessing(8, Fit.SQUASH))[:, 1:-1]  # at the edges the triangle is cut
    assert levels_apart(inner, np.full((8, 6, 3), 127, np.uint8)) <= 1


@pytest.mark.parametrize(
    ("size", "side", "fitted"),
    [
        ((1024, 768), 362, (362, 272)),  # 271.5, halves up
        ((768, 1024), 362, (272, 362)),
        ((1000, 333), 100, (100, 33)),
        ((1000, 2), 100, (100, 1)),  # 0.2, at least one
        ((362, 100), 362, (362, 100)),
        ((361, 100), 362, (361, 100)),  # never enlarged
    ],
)
def test_native_keeps_the_aspect(size: tuple[int, int], side: int, fitted: tuple[int, int]) -> None:
    width, height = size
    pixels = fit_image(np.zeros((height, width, 3), np.uint8), Preprocessing(side))
    assert (pixels.shape[1], pixels.shape[0]) == fitted


@pytest.mark.parametrize(
    ("box", "side", "fitted"),
    [
        ((0, 0, 400, 300), 200, (200, 150)),  # the whole image
        ((100, 50, 300, 150), 200, (100, 50)),  # 200 × 200 / 400
        ((100, 50, 103, 299), 200, (2, 125)),  # 249 × 200 / 400 = 124.5
        ((100, 50, 300, 150), 400, (200, 100)),  # never enlarged
        ((100, 50, 300, 150), 1024, (200, 100)),
        ((0, 0, 1, 1), 100, (1, 1)),  # 0.25, at least one
    ],
)
def test_a_cut_out_is_reduced_as_the_whole_would_be(
    box: Box, side: int, fitted: tuple[int, int], tmp_path: Path
) -> None:
    """The published rule: longest side = side × the cut-out's longest / the image's longest."""
    Image.new("RGB", (400, 300)).save(tmp_path / "x.png")
    pixels = load_pixels(tmp_path / "x.png", Preprocessing(side), box)
    assert (pixels.shape[1], pixels.shape[0]) == fitted


@pytest.mark.parametrize("fit", [Fit.SQUASH, Fit.LETTERBOX, Fit.CENTER_CROP])
@pytest.mark.parametrize("size", [(5, 9), (9, 5), (64, 64), (1, 1), (1, 300), (300, 2)])
def test_square_fits_give_the_square(fit: Fit, size: tuple[int, int]) -> None:
    pixels = fit_image(np.full((*size, 3), 7, np.uint8), Preprocessing(32, fit))
    assert pixels.shape == (32, 32, 3)
    assert pixels[15, 15].tolist() == [7, 7, 7]


def test_letterbox_pads_both_ends_with_the_mean_colour() -> None:
    image = np.full((20, 40, 3), 255, np.uint8)
    padded = fit_image(image, Preprocessing(40, Fit.LETTERBOX, mean=(0.1, 0.5, 0.9), std=(1, 1, 1)))
    assert [padded[row, 0].tolist() for row in (0, 9, 10, 29, 30, 39)] == [
        [26, 128, 230],  # 25.5 and 229.5 to the even, 127.5 too
        [26, 128, 230],
        [255, 255, 255],
        [255, 255, 255],
        [26, 128, 230],
        [26, 128, 230],
    ]
    upright = fit_image(image.transpose(1, 0, 2), Preprocessing(40, Fit.LETTERBOX, mean=(0.1, 0.5, 0.9), std=(1, 1, 1)))
    np.testing.assert_array_equal(upright, padded.transpose(1, 0, 2))


def test_center_crop_keeps_the_middle_only() -> None:
    image = np.zeros((10, 30, 3), np.uint8)
    image[:, 10:20] = 200
    np.testing.assert_array_equal(
        fit_image(image, Preprocessing(10, Fit.CENTER_CROP)), np.full((10, 10, 3), 200, np.uint8)
    )


def test_a_long_strip_is_not_blown_up_before_it_is_cut() -> None:
    """Else 2 × 60000 pixels would become 300 × 9 000 000."""
    strip = np.zeros((2, 60_000, 3), np.uint8)
    assert fit_image(strip, Preprocessing(300, Fit.CENTER_CROP)).shape == (300, 300, 3)


def test_files_and_arrays_go_the_same_way(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    for fit in Fit:
        preprocessing = Preprocessing(33, fit)
        np.testing.assert_array_equal(load_pixels(tmp_path / "x.png", preprocessing), fit_image(pixels, preprocessing))


def test_what_is_returned_is_the_callers_own() -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    fitted = fit_image(pixels, Preprocessing(8))
    fitted[:] = 1
    assert pixels.max() == 0


def test_boxes_are_cut_from_the_upright_image(tmp_path: Path) -> None:
    upright = np.zeros((40, 20, 3), np.uint8)
    upright[30:, :5] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.ascontiguousarray(np.rot90(upright))).save(tmp_path / "x.png", exif=exif)
    assert load_pixels(tmp_path / "x.png", Preprocessing(40), (0, 30, 5, 40)).min() == 255
    assert load_pixels(tmp_path / "x.png", Preprocessing(40), (5, 0, 20, 30)).max() == 0


def test_a_box_ends_where_the_image_ends(tmp_path: Path) -> None:
    Image.new("RGB", (30, 20), (9, 9, 9)).save(tmp_path / "x.png")
    pixels = load_pixels(tmp_path / "x.png", Preprocessing(30), (-5, 10.4, 12.6, 20.7))
    assert pixels.shape == (10, 13, 3)
    assert pixels.min() == 9  # and is not padded with black


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((30, 0, 40, 10), "its box (30, 0, 40, 10) holds no pixel of 30×20"),
        ((-9, -9, 0, 0), "its box (-9, -9, 0, 0) holds no pixel of 30×20"),
        ((5, 5, 5, 9), "its box (5, 5, 5, 9) holds no pixel of 30×20"),
        ((9, 9, 5, 5), "its box (9, 9, 5, 5) holds no pixel of 30×20"),
        ((0.6, 0, 0.9, 9), "its box (0.6, 0, 0.9, 9) holds no pixel of 30×20"),
        ((0, 0, float("nan"), 9), "its box (0, 0, nan, 9) is not of four finite numbers"),
        ((0, 0, float("inf"), 9), "its box (0, 0, inf, 9) is not of four finite numbers"),
    ],
)
def test_boxes_without_a_pixel_are_refused(box: Box, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.new("RGB", (30, 20)).save(path)
    with pytest.raises(ImageError) as caught:
        load_pixels(path, Preprocessing(30), box)
    assert str(caught.value) == f"{path} cannot be read as an image: {reason}; replace it or leave it out."


@pytest.mark.parametrize("fit", Fit)
@pytest.mark.parametrize("box", [None, (3.4, 2, 17, 99), (0, 0, 2, 2)])
@pytest.mark.parametrize("orientation", [1, 6])
@given(st.integers(2, 70), st.integers(2, 70), st.integers(1, 50))
@settings(max_examples=15, deadline=None)
def test_the_fitted_size_is_known_from_the_header(
    fit: Fit, box: Box | None, orientation: int, width: int, height: int, side: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    preprocessing = Preprocessing(side, fit)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.png"
        Image.new("L", (width, height)).save(path, exif=exif)
        try:
            pixels = load_pixels(path, preprocessing, box)
        except ImageError as refusal:
            with pytest.raises(ImageError, match=re.escape(str(refusal))):
                read_fitted_size(path, preprocessing, box)
        else:
            assert read_fitted_size(path, preprocessing, box) == (pixels.shape[1], pixels.shape[0])


@pytest.mark.parametrize(
    ("image", "shown"),
    [
        (np.zeros((4, 4), np.uint8), r"uint8 of shape \(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), r"uint8 of shape \(4, 4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), r"uint8 of shape \(0, 4, 3\)"),
        (np.zeros((4, 4, 3), np.float32), r"float32 of shape \(4, 4, 3\)"),
    ],
)
def test_other_arrays_are_refused(image: Pixels, shown: str) -> None:
    with pytest.raises(UsageError, match=rf"`image` is {shown}; it must be uint8 of \(H, W, 3\), H and W > 0\."):
        fit_image(image, Preprocessing(8))


def test_a_record_comes_back() -> None:
    preprocessing = Preprocessing(224, Fit.LETTERBOX, (0.5, 0.25, 0.125), (1.0, 0.5, 0.25))
    assert Preprocessing.from_json(preprocessing.to_json()) == preprocessing
    assert preprocessing.fitted(Fit.SQUASH, 99) == Preprocessing(99, Fit.SQUASH, (0.5, 0.25, 0.125), (1.0, 0.5, 0.25))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_side_px": 0}, "`image_side_px` is 0; an image has at least one pixel."),
        ({"image_side_px": "9"}, "has the wrong type"),
        ({"colour_order": "BGR"}, "`colour_order` is 'BGR'; only 'RGB' exists."),
        ({"std": [1.0, 0.0, 1.0]}, "`std` is (1.0, 0.0, 1.0); a standard deviation is positive."),
        ({"mean": [1.0, 2.0]}, "[1.0, 2.0] must be three numbers, one a channel."),
        ({"fit": "stretch"}, "`fit` is 'stretch'; it must be one of native, squash, letterbox, center-crop."),
        ({"more": 1}, "a preprocessing has the fields"),
    ],
)
def test_broken_records_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Preprocessing.from_json(Preprocessing().to_json() | change)
    assert message in str(caught.value)
