"""Writes the members of an archive below a folder: new files in their places, and never over another one."""

from __future__ import annotations

import filecmp
import gzip
import shutil
from pathlib import Path, PurePosixPath

from aml_edge.downloading.archive_members import BrokenArchiveError, Member, MemberRefusedError, safe_parts
from aml_edge.downloading.http_transfer import in_units
from aml_edge.downloading.placement import Placement

_COPY_BYTES = 1 << 20


class MemberWriter:
    """Writes members below a folder, and counts.

    Args:
        root: the folder, in which nothing but this writer writes.
        placement: where each file goes.
        most_bytes: of all files together.
    """

    def __init__(self, root: Path, placement: Placement, most_bytes: int) -> None:
        self._root, self._placement, self._most_bytes = root, placement, most_bytes
        self._written: set[PurePosixPath] = set()
        self.files = self.size_bytes = self.left_out = 0

    def write(self, member: Member) -> None:
        """Writes a file to its place; a folder is made with the first file in it."""
        parts = safe_parts(member.name)
        if member.is_folder:
            return
        if not parts:
            raise MemberRefusedError(member.name, "is a file without a name")
        place = self._placement.place_of(parts)
        if place is None:
            self.left_out += 1
            return
        if self.size_bytes + member.size_bytes > self._most_bytes:
            raise BrokenArchiveError(f"unpacks to more than {in_units(self._most_bytes)}")
        require_room(member.size_bytes, self._root)
        if place in self._written:
            self._require_same(member, place)
            return
        self._copy(member, self._root / place)
        self._written.add(place)
        self.files += 1
        self.size_bytes += member.size_bytes

    def _copy(self, member: Member, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stream = path.open("xb")
        except (FileExistsError, NotADirectoryError):
            rule = "would take the place of another member; their names may differ only in case"
            raise MemberRefusedError(member.name, rule) from None
        try:
            with stream:
                while block := member.content.read(_COPY_BYTES):
                    stream.write(block)
        except OSError as problem:
            if problem.filename is None and not isinstance(problem, gzip.BadGzipFile):
                problem.filename = str(path)
            raise

    def _require_same(self, member: Member, place: PurePosixPath) -> None:
        """Lets a file that occurs twice pass where both are the same."""
        again = self._root / f".again-{len(self._written)}"
        self._copy(member, again)
        same = filecmp.cmp(again, self._root / place, shallow=False)
        again.unlink()
        if not same:
            raise MemberRefusedError(member.name, "occurs twice with different content")


def require_room(size_bytes: int, folder: Path) -> None:
    """Raises `BrokenArchiveError` where the folder's disk has less room than that."""
    free = shutil.disk_usage(folder).free
    if size_bytes > free:
        raise BrokenArchiveError(
            f"needs {in_units(size_bytes)} or more, but {folder.parent} has {in_units(free)} free; free some space, "
            "or choose a folder on another disk."
        )
