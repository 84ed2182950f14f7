"""Reads a zip archive: its files and folders, and no other kind of member.

Source: PKWARE, APPNOTE.TXT 6.3.10, sections 4.3 (layout) and 4.4 (fields); Info-ZIP for Unix modes in the upper half
of the external attributes.
"""

from __future__ import annotations

import errno
import stat
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO

from aml_edge.downloading.archive_members import BrokenArchiveError, Member, MemberRefusedError

ZIP_BEGINNINGS = (b"PK\x03\x04", b"PK\x05\x06")
"""The first member's header, or the end of an archive without members."""
_ENCRYPTED = 0x1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_END, _END_BYTES, _LONGEST_COMMENT = b"PK\x05\x06", 22, 65535
_MOST_DIRECTORY_BYTES = 256_000_000
"""All of the directory is kept in memory: this is two million members with names of 80 letters."""


class _Checked:
    """The content of a member, which must be as long as the archive says; the checksum is zipfile's matter."""

    def __init__(self, content: IO[bytes], size_bytes: int) -> None:
        self._content, self._left = content, size_bytes

    def read(self, size: int, /) -> bytes:
        """Returns up to `size` bytes, none at the end."""
        block = self._content.read(size)
        self._left -= len(block)
        if not block and self._left:
            raise BrokenArchiveError("is cut off")
        return block


def zip_members(path: Path) -> Iterator[Member]:
    """Yields the members in the order of the directory.

    Raises:
        MemberRefusedError: a member is neither file nor folder, encrypted, or compressed in an unusual way.
        BrokenArchiveError: the archive is damaged.
        zipfile.BadZipFile, and whatever else zipfile raises: the same.
    """
    with _opened(path) as archive:
        for info in archive.infolist():
            _require_plain(info)
            if info.is_dir():
                yield Member(info.filename, 0, True, BytesIO())
                continue
            with _content(archive, info) as content:
                yield Member(info.filename, info.file_size, False, _Checked(content, info.file_size))


def zip_bytes(path: Path) -> int:
    """Returns how much an archive says that it unpacks to; raises as `zip_members`."""
    with _opened(path) as archive:
        return sum(info.file_size for info in archive.infolist())


def _opened(path: Path) -> zipfile.ZipFile:
    _require_small_directory(path)
    with _places_inside():
        return zipfile.ZipFile(path)


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    with _places_inside():
        return archive.open(info)


@contextmanager
def _places_inside() -> Iterator[None]:
    """Tells a place before the file's beginning, which zipfile asks the system for, from a file that cannot be read."""
    try:
        yield
    except OSError as problem:
        if problem.errno == errno.EINVAL:
            raise BrokenArchiveError("names a place outside of itself") from None
        raise


def _require_plain(info: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        raise MemberRefusedError(info.filename, "is a symbolic link; only files and folders are extracted")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise MemberRefusedError(info.filename, "is a device or a pipe; only files and folders are extracted")
    if info.flag_bits & _ENCRYPTED:
        raise MemberRefusedError(info.filename, "is encrypted")
    if info.compress_type not in _METHODS:
        raise MemberRefusedError(info.filename, f"is compressed by method {info.compress_type}; only 0 and 8 are read")


def _require_small_directory(path: Path) -> None:
    """Raises `BrokenArchiveError` where the directory, as the archive's end says, is too large to be honest."""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - _END_BYTES - _LONGEST_COMMENT))
        tail = stream.read()
    place = tail.rfind(_END)
    if place < 0 or len(tail) < place + _END_BYTES:
        raise BrokenArchiveError("is cut off")
    size: int = struct.unpack_from("<I", tail, place + 12)[0]
    if size == 0xFFFFFFFF:
        at = tail.rfind(b"PK\x06\x06", 0, place)
        size = struct.unpack_from("<Q", tail, at + 40)[0] if 0 <= at <= len(tail) - 56 else size
    if size > _MOST_DIRECTORY_BYTES:
        raise BrokenArchiveError(f"has a directory of {size / 1e6:.1f} MB, which is too large")
