"""Reads a tar archive as it streams by: its files and folders, and no other kind of member.

Python's own reader is not used: a header can make the one of Python 3.11.7 take as much memory and time as it likes
(CVE-2024-6232), and it says nothing of an archive that was cut between two members. This one keeps 64 KiB at most.

Source: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Interchange Format"; the GNU tar manual, "Basic Tar
Format", for long names and sizes in base 256.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from aml_edge.downloading.archive_members import BrokenArchiveError, Content, Member, MemberRefusedError

BLOCK_BYTES = 512
_MOST_HEADER_BYTES = 1 << 16
"""Of a header that goes before another one; a name and a few figures are all that is wanted of it."""
_COPY_BYTES = 1 << 16
_FILE, _FOLDER, _LONG_NAME, _LONG_LINK, _PAX, _PAX_FOR_ALL = "0", "5", "L", "K", "x", "g"
_FILE_KINDS = (_FILE, "\0", "7")
_REFUSED_KINDS = {
    "1": "is a hard link; only files and folders are extracted",
    "2": "is a symbolic link; only files and folders are extracted",
    "3": "is a device; only files and folders are extracted",
    "4": "is a device; only files and folders are extracted",
    "6": "is a named pipe; only files and folders are extracted",
    "S": "is a sparse file, which could fill a disk",
}
_RECORD = re.compile(rb"([0-9]{1,5}) ([^=\n]{1,200})=")
_CUT = "is cut off"


@dataclass(frozen=True)
class _Header:
    """A header; its name is cut off, within a letter maybe, where another header has the long one."""

    name: bytes
    size_bytes: int
    kind: str

    @property
    def shown(self) -> str:
        """The name, for messages."""
        return self.name.decode(errors="replace")


class _FileContent:
    """The bytes of one file, counted, so that no more of the stream is taken."""

    def __init__(self, stream: Content, size_bytes: int) -> None:
        self._stream, self._left = stream, size_bytes
        self._padding = -size_bytes % BLOCK_BYTES

    def read(self, size: int, /) -> bytes:
        """Returns up to `size` bytes, none at the end."""
        if self._left == 0:
            return b""
        block = self._stream.read(min(size, self._left))
        if not block:
            raise BrokenArchiveError(_CUT)
        self._left -= len(block)
        return block

    def finish(self) -> None:
        """Reads what is left, and what fills the last block."""
        while self.read(_COPY_BYTES):
            pass
        _exactly(self._stream, self._padding)


def tar_members(stream: Content) -> Iterator[Member]:
    """Yields the members in order; what is not read of a member's content is passed over.

    Raises:
        MemberRefusedError: a member is neither file nor folder, or says something of itself that none does.
        BrokenArchiveError: this is no tar archive, or a damaged one, or something follows its end.
    """
    pax: dict[str, str] = {}
    while any(block := _exactly(stream, BLOCK_BYTES)):
        header = _header_of(block)
        if header.kind in (_LONG_NAME, _LONG_LINK, _PAX, _PAX_FOR_ALL):
            pax |= _extension(stream, header)
            continue
        name = pax["path"] if "path" in pax else _text(header.name)
        size_bytes = _decimal(pax["size"]) if "size" in pax else header.size_bytes
        _require_plain(name, header, pax)
        pax = {}
        is_folder = header.kind == _FOLDER or name.endswith("/")
        content = _FileContent(stream, 0 if is_folder else size_bytes)
        yield Member(name, 0 if is_folder else size_bytes, is_folder, content)
        content.finish()
    while rest := stream.read(_COPY_BYTES):
        if any(rest):
            raise BrokenArchiveError("holds something after its end")


def is_tar(start: bytes) -> bool:
    """Returns whether a file that starts so is a tar archive: its first header's checksum is right."""
    try:
        _header_of(start[:BLOCK_BYTES])
    except BrokenArchiveError:
        return False
    return True


def _exactly(stream: Content, size: int) -> bytes:
    blocks = []
    while size > 0:
        block = stream.read(min(size, _COPY_BYTES))
        if not block:
            raise BrokenArchiveError(_CUT)
        blocks.append(block)
        size -= len(block)
    return b"".join(blocks)


def _header_of(block: bytes) -> _Header:
    """Returns the fields of a header whose checksum is right, counted in signed or unsigned bytes, as both occur."""
    counted = block[:148] + b" " * 8 + block[156:]
    wrong = sum(counted) - _number(block[148:156])
    if len(block) < BLOCK_BYTES or (wrong != 0 and wrong != 256 * sum(byte > 127 for byte in counted)):
        raise BrokenArchiveError("is no tar archive, or a damaged one")
    name = _until_zero(block[:100])
    if block[257:263] == b"ustar\0" and (prefix := _until_zero(block[345:500])):
        name = prefix + b"/" + name
    return _Header(name, _number(block[124:136]), chr(block[156]))


def _number(field: bytes) -> int:
    """Returns a number in octal digits or, where its first bit is set, in base 256."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    digits = _until_zero(field).strip(b" ")
    if not re.fullmatch(rb"[0-7]*", digits):
        raise BrokenArchiveError("is no tar archive, or a damaged one")
    return int(digits or b"0", 8)


def _until_zero(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _text(field: bytes) -> str:
    try:
        return _until_zero(field).decode()
    except UnicodeDecodeError:
        raise BrokenArchiveError("has a name that is not in UTF-8") from None


def _decimal(value: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", value):
        raise BrokenArchiveError("has a size that is no number")
    return int(value)


def _extension(stream: Content, header: _Header) -> dict[str, str]:
    """Returns what a header says of the member after it; of all members, none says anything that matters here."""
    if header.size_bytes > _MOST_HEADER_BYTES:
        raise MemberRefusedError(header.shown, f"has a header of more than {_MOST_HEADER_BYTES} bytes")
    content = _exactly(stream, header.size_bytes)
    _exactly(stream, -header.size_bytes % BLOCK_BYTES)
    if header.kind == _LONG_NAME:
        return {"path": _text(content)}
    if header.kind == _LONG_LINK:
        return {}
    records = dict(_pax_records(content))
    if header.kind == _PAX_FOR_ALL and not {"path", "size"}.isdisjoint(records):
        raise MemberRefusedError(header.shown, "gives all members one name or size")
    return records if header.kind == _PAX else {}


def _pax_records(content: bytes) -> Iterator[tuple[str, str]]:
    """Yields (keyword, value); a record is its own length, a space, keyword, an equals sign, value, a line's end."""
    start = 0
    while start < len(content):
        found = _RECORD.match(content, start)
        end = start + int(found[1]) if found else 0
        if found is None or not found.end() < end <= len(content) or content[end - 1] != ord("\n"):
            raise BrokenArchiveError("has a damaged pax header")
        keyword, value = found[2].decode("latin1"), content[found.end() : end - 1]
        yield keyword, _text(value) if keyword in ("path", "size") else ""
        start = end


def _require_plain(name: str, header: _Header, pax: dict[str, str]) -> None:
    if header.kind in _REFUSED_KINDS:
        raise MemberRefusedError(name, _REFUSED_KINDS[header.kind])
    if header.kind not in (*_FILE_KINDS, _FOLDER):
        raise MemberRefusedError(name, f"is of kind {header.kind!a}; only files and folders are extracted")
    if any(keyword.startswith("GNU.sparse") for keyword in pax):
        raise MemberRefusedError(name, _REFUSED_KINDS["S"])
