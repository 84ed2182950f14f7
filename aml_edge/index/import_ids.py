"""Which row is which image's: a file of ids beside vectors that have none, or that have others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aml_edge.errors import ForeignIndexError, UsageError
from aml_edge.index.teacher_index import encode_ids
from aml_edge.vectors.source import SourceDescription, VectorBlock

JSON_SUFFIX = ".json"


@dataclass(frozen=True, eq=False)
class GivenIds:
    """Ids from a file.

    Args:
        path: the file.
        names: the id of each row, in order; or by what the source calls a row.
    """

    path: Path
    names: tuple[str, ...] | Mapping[str, str]


def read_ids(path: Path) -> GivenIds:
    """Returns the ids in a file: one a line, or, in a `.json` file, a list, or an object {the source's id: id}.

    Raises:
        UsageError: there is no such file, or it is no list of ids.
        TeacherIndexError: an id cannot be a line, or comes twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
        read = json.loads(text) if path.suffix == JSON_SUFFIX else _lines(text)
    except (OSError, ValueError, RecursionError) as problem:
        raise UsageError(
            f"`ids` is '{path}', which cannot be read: {problem}; give a file of one id a line, in UTF-8."
        ) from None
    names = list(read.values()) if isinstance(read, dict) else read
    if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
        raise UsageError(f"`ids` is '{path}', which holds something else than texts; give a list of ids, or an object.")
    if not names:
        raise UsageError(f"`ids` is '{path}', which names no image; give one id a line.")
    if "" in names:
        place = f"line {names.index('') + 1}" if path.suffix != JSON_SUFFIX else f"entry {names.index('') + 1}"
        raise UsageError(f"`ids` is '{path}', whose {place} is empty; give every row its id.")
    encode_ids(names)
    return GivenIds(path, read if isinstance(read, dict) else tuple(names))


def require_ids(source: SourceDescription, given: GivenIds | None) -> None:
    """Raises `UsageError` unless it is known which row is whose, as far as that shows before any row is read."""
    if given is None:
        if not source.has_ids:
            ways = "give a file of one id a line, in the order of the rows, with --ids"
            other = f", or {source.other_ids}" if source.other_ids else ""
            raise UsageError(f"{source.name} does not say which vector is which image's; {ways}{other}.")
        return
    if isinstance(given.names, tuple) and len(given.names) != source.count:
        transposed = len(given.names) == source.dimension
        step = "it holds one vector a column: save its transpose" if transposed else "give one id a vector"
        raise UsageError(
            f"`ids` is '{given.path}', which names {len(given.names)} images, but {source.name} holds {source.count} "
            f"vectors; {step}."
        )
    if not isinstance(given.names, tuple) and not source.has_ids:
        raise UsageError(
            f"`ids` is '{given.path}', an object by the source's ids, but {source.name} has none; give a list of "
            "ids in the order of the rows."
        )


def _lines(text: str) -> list[str]:
    """Returns lines as `encode_ids` counts them, whichever system wrote them."""
    lines = text.split("\n")
    return [line.removesuffix("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]


class IdAssignment:
    """Gives each block's rows their ids, and remembers all of them.

    Args:
        source: where the blocks come from.
        given: ids from a file, or None for the source's own.
    """

    def __init__(self, source: SourceDescription, given: GivenIds | None) -> None:
        self.ids: list[str] = []
        self._source, self._given = source, given
        self._last_number: int | None = None

    def assign(self, block: VectorBlock) -> tuple[str, ...]:
        """Returns the ids of a block; raises `ForeignIndexError` where one has none, or the order is not known."""
        start, size = len(self.ids), len(block.rows)
        if self._given is None:
            assert block.ids is not None
            ids = block.ids
        elif isinstance(self._given.names, tuple):
            self._require_in_order(block, self._given.path)
            ids = self._given.names[start : start + size]
        else:
            assert block.ids is not None
            ids = tuple(self._translated(one, self._given.path, self._given.names) for one in block.ids)
        self.ids += ids
        return ids

    def _translated(self, one: str, path: Path, names: Mapping[str, str]) -> str:
        if one not in names:
            raise ForeignIndexError(f"{self._source.name} holds {one!r}, which {path} does not name; add it there.")
        return names[one]

    def _require_in_order(self, block: VectorBlock, path: Path) -> None:
        """Refuses a list beside ids of the source's own, unless those are ascending numbers: whose order is it in?"""
        for one in block.ids or ():
            number = int(one) if one.removeprefix("-").isdecimal() else None
            if number is None or (self._last_number is not None and number <= self._last_number):
                which = "no numbers" if number is None else "not in ascending order"
                raise ForeignIndexError(
                    f"{self._source.name} has ids of its own that are {which} ({one!r}), so a list does not say which "
                    f"is whose; leave {path} out, or make it a JSON object of each of them and its image's id."
                )
            self._last_number = number
