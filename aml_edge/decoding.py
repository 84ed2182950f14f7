"""From an image file to upright RGB pixels: decode, turn as EXIF says, convert any mode to RGB.

- Only the first picture of a file counts. Colour profiles are not applied.
- What is transparent lies on `BACKGROUND`.
- 16-bit grey is scaled to 8 bits, white to white. 32-bit and floating-point grey say nowhere what white is: refused.
- Pillow's limit on pixels (`PIL.Image.MAX_IMAGE_PIXELS`) is kept, and what Pillow only warns of is refused too.
- Formats that Pillow reads by running another program, such as EPS, are not read.
"""

from __future__ import annotations

import functools
import io
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from aml_edge.errors import ImageError, ImageName

FORMATS: Mapping[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg"),
    "MPO": (".mpo",),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "JPEG2000": (".jp2",),
    "AVIF": (".avif",),
}
"""What is read, by Pillow's name for it, each with the suffixes of its files. The suffix decides nothing here."""

BACKGROUND = (255, 255, 255)
"""What transparent pixels lie on, RGB."""

SMALLEST_SIDE_PX = 2
"""An image of one pixel, or one pixel wide, shows nothing: it is a placeholder or a mistake."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF's orientation → what makes the picture upright; 1 is upright."""

_LYING = (5, 6, 7, 8)
"""Orientations in which width and height are exchanged."""

_LARGEST_16_BITS = 65535

Taken = TypeVar("Taken")


def read_upright_rgb(path: Path) -> Image.Image:
    """Returns the picture in a file: upright, mode RGB, at least two pixels a side.

    Raises:
        ImageError: there is no such file, it is empty, truncated, no image, too large or too small.
    """
    return _read(path, path, lambda image: _to_rgb(path, _upright(_decoded(image))))


def decode_upright_rgb(content: bytes, name: ImageName) -> Image.Image:
    """Returns the picture in a file's bytes, as `read_upright_rgb` does.

    Args:
        content: all bytes of the file.
        name: of the file or of what held its bytes, for a message.

    Raises:
        ImageError: they are none, truncated, no image, or one that is too large or too small.
    """
    return _read(name, content, lambda image: _to_rgb(name, _upright(_decoded(image))))


def read_upright_size(path: Path) -> tuple[int, int]:
    """Returns width and height of the picture in a file, upright, from its header; what follows is not read.

    Raises:
        ImageError: there is no such file, it is empty, no image, too large or too small.
    """
    return _read(path, path, _upright_size)


def require_file(path: Path) -> None:
    """Raises `ImageError` where opening a path would wait for another process, as a pipe's does."""
    if stat.S_ISFIFO(path.stat().st_mode):
        raise ImageError(path, "it is a pipe, no file")


def _read(path: ImageName, source: Path | bytes, take: Callable[[Image.Image], Taken]) -> Taken:
    try:
        if isinstance(source, Path):
            require_file(source)
        if (len(source) if isinstance(source, bytes) else os.stat(source).st_size) == 0:
            raise ImageError(path, "the file is empty")
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(file, formats=_formats()) as image:
            _require_size(path, image.width, image.height)
            return take(image)
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(path, f"it has more than {Image.MAX_IMAGE_PIXELS} pixels, Pillow's limit") from None
    except UnidentifiedImageError:
        raise ImageError(path, "it is no image, or of a format that is not read") from None
    except Exception as problem:  # damaged files raise anything: OSError, SyntaxError, ValueError, struct.error, …
        raise ImageError(path, _in_words(problem)) from None


@functools.cache
def _formats() -> tuple[str, ...]:
    """Returns those of `FORMATS` that this Pillow knows."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _require_size(path: ImageName, width: int, height: int) -> None:
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        raise ImageError(path, f"{width}×{height} px are more than {Image.MAX_IMAGE_PIXELS} pixels, Pillow's limit")
    if min(width, height) < SMALLEST_SIDE_PX:
        raise ImageError(path, f"it has {width}×{height} px, but an image has at least {SMALLEST_SIDE_PX} a side")


def _decoded(image: Image.Image) -> Image.Image:
    image.load()
    return image


def _upright(image: Image.Image) -> Image.Image:
    """Returns the picture turned as EXIF says; asked after decoding, when Pillow has turned a TIFF by itself."""
    turn = _TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _upright_size(image: Image.Image) -> tuple[int, int]:
    lies = image.format != "TIFF" and _orientation(image) in _LYING  # a TIFF's size comes upright from Pillow
    return (image.height, image.width) if lies else image.size


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # EXIF that cannot be parsed says nothing of orientation; viewers show such a picture as it is
        orientation = None
    return orientation if isinstance(orientation, int) else 1


def _to_rgb(path: ImageName, image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        image = _eight_bits(path, image)
    if image.mode == "F":
        raise ImageError(path, "its pixels are floating-point numbers, which say nowhere what white is")
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        flat = Image.new("RGB", image.size, BACKGROUND)
        flat.paste(layered, mask=layered.getchannel("A"))
        return flat
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy it


def _eight_bits(path: ImageName, image: Image.Image) -> Image.Image:
    """Returns grey of 16 bits, which Pillow holds as I;16 or I, as L or LA of 8 bits: v × 255 / 65535, rounded."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > _LARGEST_16_BITS:
        raise ImageError(path, "its pixels are 32-bit numbers, which say nowhere what white is")
    grey = Image.fromarray(((values * 255 + _LARGEST_16_BITS // 2) // _LARGEST_16_BITS).astype(np.uint8))
    transparent = image.info.get("transparency")
    if not isinstance(transparent, int):
        return grey
    alpha = Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8))
    return Image.merge("LA", (grey, alpha))


def _in_words(problem: Exception) -> str:
    if isinstance(problem, FileNotFoundError):
        return "there is no such file"
    if isinstance(problem, MemoryError):
        return "decoding it needs more memory than there is"
    if isinstance(problem, OSError) and problem.strerror:
        return problem.strerror
    reason = str(problem).strip().partition("\n")[0]
    return f"it is damaged ({reason or type(problem).__name__})"
