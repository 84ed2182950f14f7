"""The part of a file that a download has so far, and beside it what the server said of the whole.

With both another process goes on where one was stopped: with the same version of the file, never with a changed one.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from aml_edge.files import write_text_atomically


@dataclass(frozen=True)
class PartState:
    """Where a part comes from, what the server calls that version, how long the whole is.

    Source: RFC 9110, sections 8.8 (validators) and 13.1.5 (If-Range).
    """

    url: str
    etag: str | None = None
    last_modified: str | None = None
    size_bytes: int | None = None

    @property
    def validator(self) -> str | None:
        """What `If-Range` may carry: a strong ETag, else a date; None where the part cannot be gone on with."""
        strong = self.etag is not None and not self.etag.startswith("W/")
        return self.etag if strong else self.last_modified


def part_of(path: Path) -> Path:
    """Returns where the part of a file lies: beside it."""
    return path.with_name(f"{path.name}.partial")


def state_of(part: Path, url: str) -> PartState | None:
    """Returns the state of a part; None where there is no part, none of this URL, or none that can be gone on with."""
    try:
        recorded = json.loads(_state_path(part).read_text(encoding="utf-8"))
        state = PartState(**recorded)
        fits = state.url == url and isinstance(state.validator, str) and part.is_file()
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return None
    return state if fits else None


def begin_part(part: Path, state: PartState) -> None:
    """Removes an old part and writes the state of a new one: never an old part beside a new state."""
    part.unlink(missing_ok=True)
    write_text_atomically(_state_path(part), json.dumps(asdict(state), indent=2) + "\n")


def part_bytes(part: Path) -> int:
    """Returns how many bytes of the file are there."""
    return part.stat().st_size if part.is_file() else 0


def forget_part(part: Path) -> None:
    """Removes a part and its state."""
    part.unlink(missing_ok=True)
    _state_path(part).unlink(missing_ok=True)


def _state_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")
