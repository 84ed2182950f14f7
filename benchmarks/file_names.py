"""How files are named beside each other."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def short_names(paths: Iterable[Path]) -> dict[Path, str]:
    """Returns by path its name, with as many of its folders as tell all of them apart."""
    distinct = set(paths)
    for count in range(1, max((len(path.parts) for path in distinct), default=0) + 1):
        names = {path: str(Path(*path.parts[-count:])) for path in distinct}
        if len(set(names.values())) == len(distinct):
            return names
    return {path: str(path) for path in distinct}
