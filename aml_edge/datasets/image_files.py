"""Image files that a data set's metadata names: whether they are there."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from aml_edge.errors import DatasetError
from aml_edge.image_loading import ImageItem
from aml_edge.progress import Progress, SilentProgress

SHARED_FOLDER_FILES = 4
"""A folder with so many of the files or more is listed, which takes as long as asking for a few of them."""
SAID_FROM = 100_000
"""Files from which on looking for them is announced: below that it takes a second."""


def require_files(root: Path, items: Iterable[ImageItem], *, progress: Progress | None = None) -> None:
    """Raises `DatasetError` that counts the missing files and names the first.

    Args:
        root: of the data set, for the message.
        items: that it names.
        progress: where a long search is announced.
    """
    wanted: dict[str, dict[str, int]] = {}  # by folder, the names in it with their place among the items
    for place, item in enumerate(items):
        folder, name = os.path.split(item.path)
        wanted.setdefault(folder, {}).setdefault(name, place)
    count = sum(map(len, wanted.values()))
    teller = SilentProgress() if progress is None or count < SAID_FROM else progress
    absent: list[tuple[int, str]] = []
    with teller.task("looking for images", count) as task:
        for folder, names in wanted.items():
            absent += [(names[name], os.path.join(folder, name)) for name in _absent(folder, names)]
            task.advance(len(names))
    if absent:
        raise DatasetError(
            f"{len(absent)} of {count} images of {root} are missing, the first is {min(absent)[1]}; "
            "put them there, or get the data set again."
        )


def _absent(folder: str, names: Collection[str]) -> Iterator[str]:
    """Yields the names that are no file in a folder; what a listing does not show is asked for once more."""
    listed = _listed(folder) if len(names) >= SHARED_FOLDER_FILES else frozenset()
    for name in names:
        if name not in listed and not os.path.isfile(os.path.join(folder, name)):
            yield name


def _listed(folder: str) -> frozenset[str]:
    """Returns the files of a folder, none where it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if entry.is_file())
    except OSError:
        return frozenset()
