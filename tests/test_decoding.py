"""Every kind of image file against what its format says, and every kind of broken file."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from aml_edge.decoding import FORMATS, decode_upright_rgb, read_upright_rgb, read_upright_size
from aml_edge.errors import ImageError

Array = npt.NDArray[np.generic]

ORIENTATIONS: dict[int, Callable[[int, int, int, int], tuple[int, int]]] = {
    1: lambda row, column, height, width: (row, column),
    2: lambda row, column, height, width: (row, width - 1 - column),
    3: lambda row, column, height, width: (height - 1 - row, width - 1 - column),
    4: lambda row, column, height, width: (height - 1 - row, column),
    5: lambda row, column, height, width: (column, row),
    6: lambda row, column, height, width: (column, width - 1 - row),
    7: lambda row, column, height, width: (height - 1 - column, width - 1 - row),
    8: lambda row, column, height, width: (height - 1 - column, row),
}
"""EXIF 2.3, tag 274: orientation → where the upright picture (height × width) shows the stored row and column.

E.g. 6: "the 0th row is the visual right-hand side, and the 0th column is the visual top".
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file without suffix: the content alone says what it is."""
    return tmp_path / "picture"


@pytest.fixture
def upright() -> npt.NDArray[np.uint8]:
    """(3, 2, 3), every pixel another colour."""
    return np.arange(18, dtype=np.uint8).reshape(3, 2, 3) * 10


def read(path: Path) -> npt.NDArray[np.uint8]:
    image = read_upright_rgb(path)
    assert image.mode == "RGB"
    return np.asarray(image)


def reason_of(path: Path) -> str:
    """Returns why a file is refused, after a look at the whole message."""
    with pytest.raises(ImageError) as caught:
        read_upright_rgb(path)
    ((named, reason),) = caught.value.failures
    assert named == path
    assert str(caught.value) == f"{path} cannot be read as an image: {reason}; replace it or leave it out."
    assert "\n" not in str(caught.value)
    return reason


def encoded(image: Image.Image, image_format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, image_format, **options)
    return stream.getvalue()


@pytest.mark.parametrize("orientation", [*ORIENTATIONS, 0, 9, 77])
@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "WEBP"])
def test_every_exif_orientation_is_turned_upright(
    path: Path, upright: npt.NDArray[np.uint8], orientation: int, image_format: str
) -> None:
    """TIFF too, which Pillow turns by itself and others must not turn again."""
    height, width, _ = upright.shape
    shown_at = ORIENTATIONS.get(orientation, ORIENTATIONS[1])  # what EXIF does not know counts as upright
    stored = np.empty((width, height, 3) if 5 <= orientation <= 8 else upright.shape, np.uint8)
    for row, column in np.ndindex(stored.shape[:2]):
        stored[row, column] = upright[shown_at(row, column, height, width)]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(path, image_format, exif=exif, lossless=True)
    np.testing.assert_array_equal(read(path), upright)
    assert read_upright_size(path) == (width, height)


def test_exif_that_cannot_be_parsed_counts_as_upright(path: Path) -> None:
    plain = encoded(Image.new("RGB", (8, 4), (200, 100, 50)), "JPEG")
    for content in (b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0garbage, not a TIFF header"):
        block = b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content
        path.write_bytes(plain[:2] + block + plain[2:])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert read(path).shape == (4, 8, 3)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000"])
def test_every_common_format_is_read_whatever_the_file_is_called(path: Path, image_format: str) -> None:
    assert image_format in FORMATS
    gradient = np.linspace(0, 255, 32).astype(np.uint8)
    colours = np.stack(np.broadcast_arrays(gradient[:, None], gradient[None], np.uint8(128)), axis=-1)
    Image.fromarray(colours).save(path, image_format)
    pixels = read(path)
    assert pixels.shape == (32, 32, 3)
    largest_loss = {"JPEG": 12, "WEBP": 12, "GIF": 40}.get(image_format, 0)
    assert np.abs(pixels.astype(int) - colours).max() <= largest_loss


GREY_16 = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
"""0 × 257, 1 × 257, …, 255 × 257: in 8 bits 0, 1, …, 255 exactly."""


@pytest.mark.parametrize(
    ("image_format", "stored_as"),
    [("PNG", "<u2"), ("TIFF", "<u2"), ("TIFF", ">u2"), ("TIFF", "<i4")],
)
def test_grey_of_16_bits_is_scaled_and_not_clipped(path: Path, image_format: str, stored_as: str) -> None:
    Image.fromarray(GREY_16.astype(stored_as)).save(path, image_format)
    with Image.open(path) as image:
        assert image.mode in ("I;16", "I;16B", "I")
    np.testing.assert_array_equal(read(path)[..., 0], np.arange(256).reshape(16, 16))


def test_grey_of_16_bits_in_a_netpbm_file(path: Path) -> None:
    path.write_bytes(b"P5 16 16 65535\n" + GREY_16.astype(">u2").tobytes())
    np.testing.assert_array_equal(read(path)[..., 1], np.arange(256).reshape(16, 16))


def test_grey_of_16_bits_is_rounded_to_the_nearest(path: Path) -> None:
    values = np.array([[0, 128, 129, 385], [386, 32767, 32768, 65535]], np.uint16)
    Image.fromarray(values).save(path, "PNG")
    assert read(path)[..., 2].tolist() == [[0, 0, 1, 1], [2, 127, 128, 255]]


@pytest.mark.parametrize("values", [[[0, 65536], [1, 2]], [[-1, 3], [1, 2]]])
def test_grey_of_32_bits_is_refused(path: Path, values: list[list[int]]) -> None:
    Image.fromarray(np.array(values, np.int32)).save(path, "TIFF")
    assert reason_of(path) == "its pixels are 32-bit numbers, which say nowhere what white is"


def test_floating_point_grey_is_refused(path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.float32)).save(path, "TIFF")
    assert reason_of(path) == "its pixels are floating-point numbers, which say nowhere what white is"


def test_one_bit_is_black_and_white(path: Path) -> None:
    bits = np.array([[True, False, True], [False, True, False]])
    for image_format in ("PNG", "TIFF", "PPM"):
        Image.fromarray(bits).save(path, image_format)
        np.testing.assert_array_equal(read(path)[..., 0], np.where(bits, 255, 0))


@pytest.mark.parametrize(
    ("ink", "colour"),
    [
        ((0, 0, 0, 0), (255, 255, 255)),
        ((255, 0, 0, 0), (0, 255, 255)),
        ((0, 255, 0, 0), (255, 0, 255)),
        ((0, 0, 255, 0), (255, 255, 0)),
        ((0, 0, 0, 255), (0, 0, 0)),
        ((0, 51, 102, 51), (204, 163, 122)),  # 255 × (1 − ink) × (1 − black): 204, 163.2, 122.4
    ],
)
@pytest.mark.parametrize("image_format", ["JPEG", "TIFF"])
def test_ink_becomes_light(path: Path, ink: tuple[int, ...], colour: tuple[int, int, int], image_format: str) -> None:
    Image.new("CMYK", (16, 16), ink).save(path, image_format)
    assert np.abs(read(path).astype(int) - colour).max() <= 2  # JPEG rounds the inks first


def over_white(colour: tuple[int, int, int], alpha: int) -> npt.NDArray[np.float64]:
    return (np.array(colour) * alpha + 255.0 * (255 - alpha)) / 255


@pytest.mark.parametrize("alpha", [0, 1, 100, 254, 255])
def test_transparent_pixels_lie_on_white(path: Path, alpha: int) -> None:
    Image.new("RGBA", (4, 3), (200, 100, 7, alpha)).save(path, "PNG")
    assert np.abs(read(path) - over_white((200, 100, 7), alpha)).max() <= 0.5 + 1e-9
    Image.merge("LA", (Image.new("L", (4, 3), 90), Image.new("L", (4, 3), alpha))).save(path, "PNG")
    assert np.abs(read(path) - over_white((90, 90, 90), alpha)).max() <= 0.5 + 1e-9


def test_premultiplied_colours_are_divided_first(path: Path) -> None:
    """A TIFF says with ExtraSamples 1 that its colours are multiplied with alpha; Pillow writes only 2, not so."""
    whole = encoded(Image.new("RGBA", (4, 3), (100, 50, 20, 128)), "TIFF")
    tag = struct.pack("<HHI", 338, 3, 1)
    before, _, after = whole.partition(tag + b"\2")
    path.write_bytes(before + tag + b"\1" + after)
    assert np.abs(read(path) - over_white((199, 100, 40), 128)).max() <= 1  # 100 × 255 / 128 = 199.2


@pytest.fixture
def palette_image() -> Image.Image:
    """(2, 3), mode P, places 0 to 5 of a palette with distinct colours."""
    image = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3)).convert("L")
    image.putpalette([value for place in range(6) for value in (place * 40, 255 - place * 40, 7)])
    return image


def test_palettes_are_looked_up(path: Path, palette_image: Image.Image) -> None:
    expected = [[place * 40, 255 - place * 40, 7] for place in range(6)]
    for image_format in ("PNG", "GIF", "BMP", "TIFF"):
        palette_image.save(path, image_format)
        assert read(path).reshape(-1, 3).tolist() == expected


def test_one_transparent_place_of_a_palette(path: Path, palette_image: Image.Image) -> None:
    expected = [[place * 40, 255 - place * 40, 7] for place in range(6)]
    expected[2] = [255, 255, 255]
    for image_format in ("PNG", "GIF"):
        palette_image.save(path, image_format, transparency=2)
        assert read(path).reshape(-1, 3).tolist() == expected


def test_a_palette_with_alpha(path: Path, palette_image: Image.Image) -> None:
    alphas = [0, 51, 102, 153, 204, 255]
    palette_image.save(path, "PNG", transparency=bytes(alphas))
    for place, (pixel, alpha) in enumerate(zip(read(path).reshape(-1, 3), alphas, strict=True)):
        assert np.abs(pixel - over_white((place * 40, 255 - place * 40, 7), alpha)).max() <= 0.5 + 1e-9


@pytest.mark.parametrize(
    ("image", "transparency"),
    [
        (Image.new("L", (3, 2), 10), 10),
        (Image.new("RGB", (3, 2), (1, 2, 3)), (1, 2, 3)),
        (Image.new("1", (3, 2), 0), 0),
        (Image.fromarray(np.full((2, 3), 1000, np.uint16)), 1000),
    ],
    ids=["L", "RGB", "1", "I;16"],
)
def test_one_transparent_colour(path: Path, image: Image.Image, transparency: object) -> None:
    image.putpixel((0, 0), (50, 50, 50) if image.mode == "RGB" else 50 if image.mode == "L" else 1)
    image.save(path, "PNG", transparency=transparency)
    pixels = read(path)
    assert pixels[0, 0].tolist() == {"L": [50] * 3, "RGB": [50] * 3, "1": [255] * 3, "I;16": [0] * 3}[image.mode]
    assert pixels[1, 2].tolist() == [255, 255, 255]


def test_the_first_picture_of_an_animation_counts(path: Path) -> None:
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "lime", "blue")]
    for image_format in ("GIF", "WEBP", "TIFF", "PNG"):
        frames[0].save(path, image_format, save_all=True, append_images=frames[1:], lossless=True)
        assert read(path).reshape(-1, 3)[0].tolist() == [255, 0, 0]


def test_a_missing_file_is_named(path: Path) -> None:
    assert reason_of(path) == "there is no such file"
    assert reason_of(path / "below a file that is none") == "there is no such file"


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    assert reason_of(tmp_path) in ("Is a directory", "the file is empty")


def test_an_empty_file_is_named(path: Path) -> None:
    path.write_bytes(b"")
    assert reason_of(path) == "the file is empty"


@pytest.mark.parametrize(
    "content",
    [b"\0", b"hello, this is text", b"%PDF-1.7\n", b"GIF", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\xff" * 999],
)
def test_other_files_are_no_images(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert reason_of(path) == "it is no image, or of a format that is not read"


def test_a_format_that_runs_another_program_is_not_read(path: Path) -> None:
    """Pillow hands EPS to Ghostscript."""
    Image.new("RGB", (8, 8)).save(path, "EPS")
    assert reason_of(path) == "it is no image, or of a format that is not read"


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000"])
def test_truncated_files_never_give_half_a_picture(path: Path, image_format: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (24, 16, 3), dtype=np.uint8)
    whole = encoded(Image.fromarray(noise), image_format)
    path.write_bytes(whole)
    pixels, refused = read(path), 0
    for length in np.unique(np.linspace(1, len(whole) - 1, 80).astype(int)):
        path.write_bytes(whole[:length])
        try:
            np.testing.assert_array_equal(read(path), pixels)  # only a check sum or an end mark is missing
        except ImageError as error:
            refused += length < 0.95 * len(whole)
            assert error.failures[0][1].startswith(("it is damaged (", "it is no image"))
    assert refused >= 75


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000"])
def test_damaged_files_give_pixels_or_our_error(path: Path, image_format: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (24, 16, 3), dtype=np.uint8)
    whole = encoded(Image.fromarray(noise), image_format)
    random = np.random.default_rng(1)
    refused = 0
    for place, value in zip(random.integers(0, min(len(whole), 300), 80), random.integers(0, 256, 80), strict=True):
        path.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
        try:
            assert read(path).ndim == 3
        except ImageError as error:
            refused += 1
            assert str(error).startswith(f"{path} cannot be read as an image: ")
    assert refused > 0


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 50), (50, 1)])
def test_images_one_pixel_wide_are_refused(path: Path, width: int, height: int) -> None:
    Image.new("RGB", (width, height)).save(path, "PNG")
    assert reason_of(path) == f"it has {width}×{height} px, but an image has at least 2 a side"


def test_two_pixels_a_side_are_an_image(path: Path) -> None:
    Image.new("RGB", (2, 2), (1, 2, 3)).save(path, "PNG")
    assert read(path).tolist() == [[[1, 2, 3]] * 2] * 2


def bomb(width: int, height: int) -> bytes:
    """Returns a small PNG that claims, and inflates to, a large size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * ((width + 1) * height), 9) if width * height < 10**7 else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_what_pillow_warns_of_is_refused(path: Path) -> None:
    """Up to twice its limit Pillow warns only: as an error, as a warning and when warnings are switched off."""
    path.write_bytes(bomb(10_000, 10_000))
    assert reason_of(path) == "it has more than 89478485 pixels, Pillow's limit"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert reason_of(path) == "10000×10000 px are more than 89478485 pixels, Pillow's limit"


def test_what_pillow_refuses_is_refused(path: Path) -> None:
    path.write_bytes(bomb(100_000, 100_000))
    assert reason_of(path) == "it has more than 89478485 pixels, Pillow's limit"


def test_the_limit_is_pillows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(bomb(100, 100))
    assert read(path).shape == (100, 100, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    assert read(path).shape == (100, 100, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 9_999)
    assert reason_of(path) == "it has more than 9999 pixels, Pillow's limit"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert read(path).shape == (100, 100, 3)


def test_too_little_memory_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (4, 4)).save(path, "PNG")

    def full(image: Image.Image) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", full)
    assert reason_of(path) == "decoding it needs more memory than there is"


def test_a_file_that_may_not_be_read_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (4, 4)).save(path, "PNG")

    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("PIL.Image.open", forbidden)
    assert reason_of(path) == "Permission denied"


def test_a_size_needs_the_header_only(path: Path) -> None:
    whole = encoded(Image.new("RGB", (40, 30), (1, 2, 3)), "JPEG")
    path.write_bytes(whole[:-20])
    assert read_upright_size(path) == (40, 30)
    assert "truncated" in reason_of(path)


@pytest.mark.parametrize("content", [b"", b"no image", encoded(Image.new("RGB", (1, 50)), "PNG")])
def test_a_size_is_refused_as_pixels_are(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ImageError) as caught:
        read_upright_size(path)
    assert caught.value.failures == ((path, reason_of(path)),)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP", "GIF"])
def test_bytes_give_the_pixels_of_their_file(path: Path, format: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(noise), format)
    path.write_bytes(content)
    assert np.array_equal(np.asarray(decode_upright_rgb(content, "s3://bucket/a")), read(path))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"no image", "it is no image, or of a format that is not read"),
        (encoded(Image.new("RGB", (1, 50)), "PNG"), "it has 1×50 px, but an image has at least 2 a side"),
    ],
)
def test_bytes_are_refused_under_the_name_of_what_held_them(content: bytes, reason: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode_upright_rgb(content, "s3://bucket/a")
    assert caught.value.failures == (("s3://bucket/a", reason),)
    assert str(caught.value) == (f"s3://bucket/a cannot be read as an image: {reason}; replace it or leave it out.")
