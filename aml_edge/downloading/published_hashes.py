"""Whether a file has the hash that was published for it, whichever kind of hash that is.

MD5 tells whether a file came whole and is the one that was put there; it is no proof against somebody who makes two
files with one MD5. Our own record of each file has its SHA-256.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class HashDifference:
    """A hash that is another one than the published one, both as far as the latter goes."""

    algorithm: str
    found: str
    published: str


def difference(file: Path, found_sha256: str, *, sha256: str, md5: str) -> HashDifference | None:
    """Returns what differs, or None where nothing does.

    Args:
        file: on disk.
        found_sha256: its SHA-256, 64 hex digits.
        sha256: the published one's first digits; empty where none is known.
        md5: the published one, 32 hex digits; empty where none is known.
    """
    if not found_sha256.startswith(sha256):
        return HashDifference("SHA-256", found_sha256[: len(sha256)], sha256)
    if md5 and (found := file_md5(file)) != md5:
        return HashDifference("MD5", found, md5)
    return None


def file_md5(path: Path) -> str:
    """Returns the MD5 of a file's bytes as 32 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
