"""Image files that a data set's metadata names: inside its folder, and there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from aml_edge.errors import DatasetError


def require_relative_name(name: object, where: str) -> str:
    """Returns a name that leads to a place inside the data set's folder, whatever system reads it.

    Raises:
        DatasetError: it is no text, empty, absolute, leads out of the folder, or cannot stand in a list of ids.
    """
    if not isinstance(name, str):
        raise DatasetError(f"{where} names an image by {type(name).__name__}; a name is text.")
    parts = PurePosixPath(name).parts
    leads_out = not parts or ".." in parts or parts[0] == "/" or any(sign in name for sign in "\\:")
    if leads_out or not name.isprintable():
        raise DatasetError(f"{where} names the image {name[:100]!a}, which is no path inside the data set's folder.")
    return name


def require_files(root: Path, paths: Sequence[Path]) -> None:
    """Raises `DatasetError` that counts the missing files and names the first."""
    missing = [path for path in dict.fromkeys(paths) if not path.is_file()]
    if missing:
        raise DatasetError(
            f"{len(missing)} of {len(set(paths))} images of {root} are missing, the first is {missing[0]}; "
            "get the images again, or put them there."
        )
