"""A plain folder of images: what is below it, by suffix."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

from aml_edge.datasets.metadata import is_listable
from aml_edge.decoding import FORMATS
from aml_edge.errors import DatasetError, unusable_path

IMAGE_SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)
"""In lower case; a file's own suffix may be in any case."""


def is_image(name: str) -> bool:
    """Whether a file counts as an image, by its name or path alone: no dot first, and an image's suffix."""
    last = name.rpartition("/")[2]
    return not last.startswith(".") and os.path.splitext(last)[1].lower() in IMAGE_SUFFIXES


def list_images(root: Path) -> tuple[str, ...]:
    """Returns the image files below a folder as sorted paths relative to it, parts joined by ``/``.

    A file counts by its suffix, unread. Names that begin with a dot are left out, files and folders: they are hidden,
    or left by a Mac. Linked files count, linked folders are not entered, so that a circle of links has an end.

    Raises:
        DatasetError: it is a file, a part of it cannot be read, or a name cannot stand in a list of ids.
        UsageError: there is no such folder.
    """
    if not root.is_dir():
        raise unusable_path(root, f"{root} is no folder; give the folder that holds the images.", DatasetError)
    found: list[str] = []
    for folder, subfolders, files in os.walk(root, onerror=_refuse):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        here = Path(folder).relative_to(root)
        found += [(here / name).as_posix() for name in files if is_image(name)]
    unlistable = [one for one in found if not is_listable(one)]
    if unlistable:
        raise DatasetError(f"{root} holds {unlistable[0]!a}, a name that cannot stand in a list of ids; rename it.")
    return tuple(sorted(found))


def _refuse(problem: OSError) -> NoReturn:
    raise DatasetError(f"{problem.filename} cannot be read: {problem.strerror}.")
