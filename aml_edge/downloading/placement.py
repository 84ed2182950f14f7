"""Where a member of a published archive belongs in the layout that is read: a few rules, as data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

_LITTER = ("__MACOSX", ".DS_Store", "Thumbs.db")
"""What file browsers leave in archives; so are names that begin with ``._``."""


@dataclass(frozen=True)
class Placement:
    """The rules for one archive, or for one file that is no archive.

    Args:
        into: folder of the layout, parts joined by ``/``; empty for the root.
        strip: how many folders at the beginning of a name are left out; what lies above them is not wanted.
        flat: whether all folders are left out.
        suffixes: of the names that are wanted, in lower case; empty where all are.
    """

    into: str = ""
    strip: int = 0
    flat: bool = False
    suffixes: tuple[str, ...] = ()

    def place_of(self, parts: tuple[str, ...]) -> PurePosixPath | None:
        """Returns where a file goes, relative to the data set's root; None where it is not wanted."""
        if any(part in _LITTER or part.startswith("._") for part in parts):
            return None
        kept = parts[-1:] if self.flat else parts[self.strip :]
        if not kept or (self.suffixes and PurePosixPath(kept[-1]).suffix.lower() not in self.suffixes):
            return None
        return PurePosixPath(self.into, *kept)
