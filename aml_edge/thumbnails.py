"""Small pictures that a page carries inside itself, and where the pictures of an index's ids lie."""

from __future__ import annotations

import base64
import io
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from aml_edge.datasets.metadata import stays_inside
from aml_edge.decoding import decode_upright_rgb, read_upright_rgb
from aml_edge.errors import ImageError
from aml_edge.image_loading import ImageItem

LONGEST_SIDE_PX = 320
"""Twice what a page shows, for screens of fine pixels."""

JPEG_QUALITY = 80


@dataclass(frozen=True)
class Thumbnail:
    """A small picture, upright.

    Args:
        data_uri: a JPEG file, ``data:image/jpeg;base64,…``, without the metadata of the picture it shows.
        width_px, height_px: its own.
        full_width_px, full_height_px: of the picture it shows.
    """

    data_uri: str
    width_px: int
    height_px: int
    full_width_px: int
    full_height_px: int


def thumbnail_of(item: ImageItem) -> Thumbnail:
    """Returns a small picture of a whole image; its box is not cut out.

    Raises:
        ImageError: it cannot be read.
    """
    if item.stored is None:
        return _reduced(read_upright_rgb(item.path))
    return _reduced(decode_upright_rgb(item.read(), item.name))


def picture_file(root: Path, name: str) -> Path:
    """Returns the file below a folder that an id of an index names.

    The id may be anyone's: none leads out of the folder. A linked file is taken and a linked folder is not, as
    `aml_edge.datasets.folder.list_images` does where an index is built.

    Raises:
        ImageError: the id leads elsewhere, or to no file.
    """
    path = root / name
    if not stays_inside(name):
        raise ImageError(name, "its id is no path inside the folder of images")
    folder = PurePosixPath(name).parent
    if os.path.realpath(path.parent) != os.path.normpath(os.path.join(os.path.realpath(root), folder)):
        raise ImageError(name, "it lies in a linked folder")
    try:
        is_file = path.is_file()
    except OSError as problem:  # a name that is too long, or a folder that may not be read
        raise ImageError(name, problem.strerror or type(problem).__name__) from None
    if not is_file:
        raise ImageError(name, "there is no such file")
    return path


def _reduced(image: Image.Image) -> Thumbnail:
    small = image.copy()
    small.thumbnail((LONGEST_SIDE_PX, LONGEST_SIDE_PX), Image.Resampling.LANCZOS)
    small.info = {}  # a comment would be written, too
    file = io.BytesIO()
    small.save(file, "JPEG", quality=JPEG_QUALITY, optimize=True)
    data_uri = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
    return Thumbnail(data_uri, *small.size, *image.size)
