"""Unpacks an archive that somebody else made: whole or not at all, and nowhere but into its own folder.

No member is trusted: names that lead elsewhere, links, devices, pipes, sparse and encrypted files are refused, each by
name; so is an archive that holds too much. Files are made with the permissions of new files. They go to a folder
beside the final one, which is renamed when all is there; what a killed process leaves is removed by the next one.
"""

from __future__ import annotations

import gzip
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from aml_edge.downloading.archive_members import BrokenArchiveError, Content, Member, MemberRefusedError
from aml_edge.downloading.http_transfer import in_units
from aml_edge.downloading.member_writing import MemberWriter, require_room
from aml_edge.downloading.placement import Placement
from aml_edge.downloading.tar_reading import BLOCK_BYTES, is_tar, tar_members
from aml_edge.downloading.zip_reading import ZIP_BEGINNINGS, zip_bytes, zip_members
from aml_edge.errors import ArchiveError
from aml_edge.progress import Progress, ProgressTask, SilentProgress

GZIP_BEGINNING = b"\x1f\x8b"
_DAMAGED = (BrokenArchiveError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, struct.error, ValueError)
_UNREADABLE = (NotImplementedError, RuntimeError, IndexError, OverflowError, MemoryError)
"""What zipfile raises, besides, for archives that no honest tool writes."""


@dataclass(frozen=True)
class ArchiveLimits:
    """How much an archive may hold.

    Args:
        most_ratio: bytes that one byte of the archive may unpack to; photographs unpack to about one.
        always_bytes: that may be unpacked whatever the ratio.
        most_files: members of any kind.
    """

    most_ratio: float = 20.0
    always_bytes: int = 100_000_000
    most_files: int = 5_000_000


LIMITS = ArchiveLimits()


@dataclass(frozen=True)
class Extracted:
    """What came out of an archive: files, their bytes, and members that the layout has no place for."""

    files: int
    size_bytes: int
    left_out: int


def extract(
    archive: Path,
    folder: Path,
    placement: Placement,
    *,
    limits: ArchiveLimits = LIMITS,
    progress: Progress | None = None,
) -> Extracted:
    """Unpacks a tar, tar.gz or zip archive into a new folder, which is there only once all of it is.

    Args:
        archive: read, never changed.
        folder: must not exist; its parent is made.
        placement: where each file goes, relative to the folder.
        limits: of what is unpacked.
        progress: gets a step for each kilobyte: of the archive or, where it is a zip archive, of what is in it.

    Raises:
        ArchiveError: the archive is damaged, holds what it must not or too much, or there is no room for it.
        OSError: it cannot be read, or the folder cannot be written.
    """
    staging = folder.with_name(f".{folder.name}.extracting")
    if staging.exists():
        shutil.rmtree(staging)
    staging.mkdir(parents=True)
    try:
        with _said_of(archive):
            most_bytes = int(max(limits.always_bytes, limits.most_ratio * archive.stat().st_size))
            least_bytes = _least_bytes(archive, most_bytes)
            require_room(least_bytes, staging)
            with (progress or SilentProgress()).task(f"unpacking {archive.name}, kB", least_bytes // 1000) as task:
                writer = MemberWriter(staging, placement, most_bytes)
                for number, member in enumerate(_members(archive, most_bytes, task)):
                    if number >= limits.most_files:
                        raise BrokenArchiveError(f"holds more than {limits.most_files} members")
                    writer.write(member)
            if writer.files == 0:
                raise BrokenArchiveError("holds nothing that belongs to the data set")
        staging.rename(folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return Extracted(writer.files, writer.size_bytes, writer.left_out)


class _Watched:
    """A stream that counts what it gives, refuses to give too much, and tells how far its file has been read."""

    def __init__(self, stream: Content, file: BinaryIO, most_bytes: int, task: ProgressTask) -> None:
        self._stream, self._file, self._left, self._task = stream, file, most_bytes, task
        self._most_bytes, self._said = most_bytes, 0

    def read(self, size: int, /) -> bytes:
        """Returns up to `size` bytes, none at the end."""
        block = self._stream.read(size)
        self._left -= len(block)
        if self._left < 0:
            raise BrokenArchiveError(f"unpacks to more than {in_units(self._most_bytes)}")
        done = self._file.tell() // 1000
        self._task.advance(done - self._said)
        self._said = done
        return block


def _members(archive: Path, most_bytes: int, task: ProgressTask) -> Iterator[Member]:
    with archive.open("rb") as file:
        start = file.read(BLOCK_BYTES)
        file.seek(0)
        if start.startswith(GZIP_BEGINNING):
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield from tar_members(_Watched(cast(Content, unpacked), file, most_bytes, task))
        elif start.startswith(ZIP_BEGINNINGS):
            done = 0
            for member in zip_members(archive):
                yield member
                task.advance((done + member.size_bytes) // 1000 - done // 1000)
                done += member.size_bytes
        elif is_tar(start):
            yield from tar_members(_Watched(file, file, most_bytes, task))
        else:
            raise BrokenArchiveError("is neither a tar nor a tar.gz nor a zip archive")


def _least_bytes(archive: Path, most_bytes: int) -> int:
    """Returns what an archive takes at least: what a zip archive says, else its own size, since photographs stay."""
    with archive.open("rb") as file:
        start = file.read(BLOCK_BYTES)
    if not start.startswith(ZIP_BEGINNINGS):
        return archive.stat().st_size
    unpacked = zip_bytes(archive)
    if unpacked > most_bytes:
        raise BrokenArchiveError(f"unpacks to more than {in_units(most_bytes)}")
    return unpacked


@contextmanager
def _said_of(archive: Path) -> Iterator[None]:
    """Turns what a reader says into a sentence about the archive."""
    try:
        yield
    except MemberRefusedError as refused:
        raise ArchiveError(
            f"{archive}: member {refused.member[:200]!a} {refused.rule}; nothing of the archive was kept. Do not trust "
            "it; get it again from where it was published."
        ) from None
    except (*_DAMAGED, *_UNREADABLE) as problem:
        raise ArchiveError(f"{archive} {_clause(problem)}") from None


def _clause(problem: Exception) -> str:
    said = str(problem)
    if isinstance(problem, BrokenArchiveError):
        return said if said.endswith(".") else f"{said}; nothing of it was kept: get it again."
    if isinstance(problem, EOFError):
        return "is cut off; nothing of it was kept: get it again."
    reason = " ".join(said.split())[:200]
    return f"is damaged ({type(problem).__name__}: {reason}); nothing of it was kept: get it again."
