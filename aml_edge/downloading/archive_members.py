"""What an archive holds, one member after the other, and how its names are judged: before anything is written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

_NOT_IN_A_NAME = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\\\\:]")
_LONGEST_PART_BYTES = 255
_MOST_PARTS = 32


class MemberRefusedError(Exception):
    """A member that must not be written; not for users, who hear of it with the archive's name.

    Args:
        member: its name in the archive.
        rule: what is wrong with it, a clause that goes on from the name.
    """

    def __init__(self, member: str, rule: str) -> None:
        super().__init__(f"{member}: {rule}")
        self.member, self.rule = member, rule


class BrokenArchiveError(Exception):
    """An archive that is damaged or of no known kind; the message is a clause that goes on from its path."""


class Content(Protocol):
    """The bytes of a member, to be read before the next member is asked for."""

    def read(self, size: int, /) -> bytes:
        """Returns up to `size` bytes, none at the end."""
        ...


@dataclass(frozen=True)
class Member:
    """A file or a folder in an archive.

    Args:
        name: as the archive has it, not yet judged.
        size_bytes: as the archive says.
        is_folder: whether it is one; it has no content then.
        content: of a file.
    """

    name: str
    size_bytes: int
    is_folder: bool
    content: Content


def safe_parts(name: str) -> tuple[str, ...]:
    """Returns the parts of a member's name, which lead to a place inside the folder they are relative to.

    Empty parts and single dots are left out, so that a folder named ``"./"`` has no part at all.

    Raises:
        MemberRefusedError: the name leads elsewhere, on any system, or cannot be one.
    """
    if name.startswith("/"):
        raise MemberRefusedError(name, "has an absolute path")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise MemberRefusedError(name, "leads out of its folder")
    if _NOT_IN_A_NAME.search(name):
        raise MemberRefusedError(name, "has a name with a character that no file of a data set has")
    if len(parts) > _MOST_PARTS or any(len(part.encode()) > _LONGEST_PART_BYTES for part in parts):
        raise MemberRefusedError(name, "has a name that is too long")
    return parts
