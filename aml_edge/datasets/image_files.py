"""Image files that a data set's metadata names: whether they are there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aml_edge.errors import DatasetError
from aml_edge.image_loading import ImageItem


def require_files(root: Path, items: Sequence[ImageItem]) -> None:
    """Raises `DatasetError` that counts the missing files and names the first."""
    paths = dict.fromkeys(item.path for item in items)
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise DatasetError(
            f"{len(missing)} of {len(paths)} images of {root} are missing, the first is {missing[0]}; "
            "put them there, or get the data set again."
        )
