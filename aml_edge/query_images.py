"""Which images ask: files, folders with every image below them, and standard input.

Standard input holds the bytes of one image, recognised by the first of them, or else paths, one a line or separated by
NUL as `find -print0` writes them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from aml_edge.datasets.folder import IMAGE_SUFFIXES, list_images
from aml_edge.datasets.metadata import is_listable
from aml_edge.errors import UsageError
from aml_edge.image_loading import ImageItem
from aml_edge.pixels import Box

STANDARD_INPUT = Path("-")
LARGEST_INPUT_BYTES = 1 << 28
"""An image, or a list of a few million paths; what goes on for longer is neither."""

SIGNATURES: Mapping[str, bytes] = {
    "JPEG": rb"\xff\xd8\xff",
    "MPO": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "WEBP": rb"RIFF.{4}WEBPVP8",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "BMP": rb"BM.{4}\0\0\0\0",
    "GIF": rb"GIF8[79]a",
    "PPM": rb"P[1-6][ \t\r\n]+[#0-9]",
    "JPEG2000": rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
    "AVIF": rb"\0\0\0.ftyp",
}
"""How a file of each format of `aml_edge.decoding.FORMATS` begins, as a regular expression."""

_IMAGE = re.compile(b"|".join(SIGNATURES.values()), re.DOTALL)
_LISTED = 5


@dataclass(frozen=True)
class PipedImage:
    """A `StoredImage` that came from standard input."""

    content: bytes
    name: str = "standard input"

    @property
    def signature(self) -> str:
        """Its SHA-256."""
        return hashlib.sha256(self.content).hexdigest()

    def read(self) -> bytes:
        """Returns its bytes."""
        return self.content


def query_items(
    named: Sequence[Path], standard_input: BinaryIO, *, box: Box | None = None, absent_too: bool = False
) -> tuple[ImageItem, ...]:
    """Returns the images that arguments stand for, in their order; the path of one from standard input is ``-``.

    Args:
        named: files, folders, or ``-`` for standard input.
        standard_input: read only where it is named.
        box: what to cut out of the one image that asks.
        absent_too: pass on paths that lead nowhere, for whoever counts what cannot be read.

    Raises:
        UsageError: a path leads nowhere, a folder holds no image, standard input holds neither an image nor paths, or
            there are several images and a box.
        DatasetError: a folder cannot be read, or holds a name that cannot be printed.
    """
    if named.count(STANDARD_INPUT) > 1:
        raise UsageError(f"`-` is given {named.count(STANDARD_INPUT)} times; standard input is read once.")
    items: list[ImageItem] = []
    absent: list[Path] = []
    for argument in named:
        paths = [argument]
        if argument == STANDARD_INPUT:
            content = _read(standard_input)
            if _IMAGE.match(content):
                items.append(ImageItem(STANDARD_INPUT, box, PipedImage(content)))
                continue
            paths = _paths_in(content)
        absent += [path for path in paths if not path.exists()]
        items += [ImageItem(file, box) for path in paths for file in _files(path)]
    if absent and not absent_too:
        raise _absent(absent)
    if box is not None and len(items) > 1:
        raise UsageError(f"`box` is given, but {len(items)} images ask; it is cut out of one.")
    return tuple(items)


def _files(path: Path) -> Iterator[Path]:
    """Yields a path, or where it is a folder the images below it."""
    if not path.is_dir():
        yield path
        return
    names = list_images(path)
    if not names:
        raise UsageError(f"{path} holds no image; files count by suffix: {', '.join(sorted(IMAGE_SUFFIXES))}.")
    yield from (path / name for name in names)


def _read(standard_input: BinaryIO) -> bytes:
    content = standard_input.read(LARGEST_INPUT_BYTES + 1)
    if len(content) > LARGEST_INPUT_BYTES:
        raise UsageError(
            f"standard input holds more than {LARGEST_INPUT_BYTES >> 20} MiB; pipe one image, or paths of images."
        )
    return content


def _paths_in(content: bytes) -> list[Path]:
    """Returns the paths of a list, blank lines left out."""
    separator = b"\0" if b"\0" in content else b"\n"
    try:
        lines = [line.decode().removesuffix("\r") for line in content.split(separator)]
    except UnicodeDecodeError:
        lines = ["\ufffd\0"]  # which is no path
    paths = [line for line in lines if line.strip()]
    if not all(map(is_listable, paths)):
        raise UsageError(
            "standard input holds neither an image of a format that is read nor paths in UTF-8; pipe an image's file, "
            "or its path, one a line."
        )
    if not paths:
        raise UsageError("standard input is empty; pipe an image's file, or paths of images, one a line.")
    return [Path(path) for path in paths]


def _absent(paths: Sequence[Path]) -> UsageError:
    shown = ", ".join(map(str, paths[:_LISTED])) + (f", … ({len(paths)} in all)" if paths[_LISTED:] else "")
    return UsageError(
        f"{shown} {'do' if len(paths) > 1 else 'does'} not exist; name image files, folders of them, or - for "
        "standard input."
    )
