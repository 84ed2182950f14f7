"""Which bytes each image of an index had when the teacher embedded it: `images.sha256`, and images compared with it.

One line an image in row order, as `sha256sum` writes it, so that `sha256sum -c` in the folder of the images checks them
as well. A name with a backslash or a carriage return has it escaped, and its line begins with a backslash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aml_edge.errors import ImageBatchError, TeacherIndexError
from aml_edge.files import file_sha256
from aml_edge.image_loading import ImageItem
from aml_edge.index.record import RECORD_FILE, damaged
from aml_edge.index.teacher_index import TeacherIndex
from aml_edge.progress import Progress, SilentProgress
from aml_edge.read_ahead import read_ahead

IMAGES_FILE = "images.sha256"
HASHING_WORKERS = 4
"""Threads; a disk far away is waited for more than the processor."""
_ESCAPES = (("\\", "\\\\"), ("\n", "\\n"), ("\r", "\\r"))
_LISTED = 5


@dataclass(frozen=True)
class ImageComparison:
    """Image files beside those that an index was built from.

    Args:
        different: ids of those that have other bytes.
        unreadable: (file, reason) of those that cannot be read.
    """

    different: tuple[str, ...]
    unreadable: tuple[tuple[Path, str], ...]


def encode_image_hashes(ids: Sequence[str], hashes: Sequence[str]) -> bytes:
    """Returns the bytes of `images.sha256`: of each image its SHA-256, 64 hex digits, and its id."""
    return "".join(_line(one, sha256) for one, sha256 in zip(ids, hashes, strict=True)).encode()


def read_image_hashes(index: TeacherIndex) -> tuple[str, ...] | None:
    """Returns the SHA-256 of each image's bytes in row order, or None where an older index does not say them.

    Raises:
        TeacherIndexError: the file is missing, is not the one that the index was built with, or contradicts the ids.
    """
    if index.images_sha256 is None:
        return None
    file = index.path / IMAGES_FILE
    try:
        content = file.read_bytes()
    except OSError as problem:
        raise damaged(file, f"cannot be read: {problem}") from None
    if hashlib.sha256(content).hexdigest() != index.images_sha256:
        raise damaged(file, f"is not the one that {RECORD_FILE} was written for (another SHA-256)")
    lines = content.decode(errors="replace").split("\n")[:-1]
    hashes = tuple(line.removeprefix("\\")[:64] for line in lines)
    if len(hashes) != len(index.ids) or encode_image_hashes(index.ids, hashes) != content:
        raise damaged(file, "does not have a line for each id, in their order")
    return hashes


def compare_images(
    ids: Sequence[str], items: Sequence[ImageItem], hashes: Sequence[str], progress: Progress | None = None
) -> ImageComparison:
    """Returns which images have other bytes than the SHA-256s of the same places say; each file is read once."""
    different, unreadable = [], []
    with (progress or SilentProgress()).task("checking images", len(items)) as task:
        found = read_ahead(_sha256_or_reason, (item.path for item in items), workers=HASHING_WORKERS)
        for one, item, expected, (sha256, reason) in zip(ids, items, hashes, found, strict=True):
            if reason is not None:
                unreadable.append((item.path, reason))
            elif sha256 != expected:
                different.append(one)
            task.advance()
    return ImageComparison(tuple(different), tuple(unreadable))


def require_same_images(
    index: TeacherIndex, ids: Sequence[str], items: Sequence[ImageItem], *, progress: Progress | None = None
) -> None:
    """Raises unless images have the bytes that the index was built from; nothing is known where it is an older one.

    Args:
        index: that holds all of them.
        ids, items: the images.
        progress: where the work is announced, one step an image.

    Raises:
        TeacherIndexError: images have other bytes, or are not in the index; some are named.
        ImageBatchError: images cannot be read; all of them are listed.
    """
    hashes = read_image_hashes(index)
    if hashes is None:
        return
    expected = [hashes[row] for row in index.rows_of(ids)]
    found = compare_images(ids, items, expected, progress)
    if found.unreadable:
        raise ImageBatchError(found.unreadable, len(items))
    if found.different:
        raise TeacherIndexError(
            f"the index {index.path} was built from other images: {len(found.different)} of {len(ids)} have other "
            f"bytes now ({listed(found.different)}); build it again from these, or give those that it was built from."
        )


def listed(ids: Sequence[str]) -> str:
    """Returns the first few of some ids, for a message."""
    return ", ".join(ids[:_LISTED]) + (", …" if len(ids) > _LISTED else "")


def _line(one: str, sha256: str) -> str:
    escaped = one
    for character, escape in _ESCAPES:
        escaped = escaped.replace(character, escape)
    return f"{'' if escaped == one else chr(92)}{sha256}  {escaped}\n"


def _sha256_or_reason(path: Path) -> tuple[str | None, str | None]:
    try:
        return file_sha256(path), None
    except FileNotFoundError:
        return None, "there is no such file"
    except OSError as problem:
        return None, problem.strerror or type(problem).__name__
