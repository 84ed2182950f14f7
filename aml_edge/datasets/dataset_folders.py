"""Which folders hold a data set in a published layout."""

from __future__ import annotations

import os
from pathlib import Path

from aml_edge.datasets.layouts import LAYOUTS
from aml_edge.errors import DatasetError


def is_dataset(root: Path) -> bool:
    """Returns whether a folder has a published layout, its metadata unread."""
    return any(layout.metadata(root) for layout in LAYOUTS.values())


def datasets_below(root: Path) -> tuple[Path, ...]:
    """Returns the data sets in the folders below one, however deep, sorted; what is inside of one is not looked at.

    Names that begin with a dot are left out, and linked folders are not entered.
    """
    found = []
    for folder, subfolders, _ in os.walk(root):
        here = Path(folder)
        inside = [name for name in subfolders if not name.startswith(".")]
        datasets = [name for name in inside if is_dataset(here / name)]
        found += [here / name for name in datasets]
        subfolders[:] = [name for name in inside if name not in datasets]
    return tuple(sorted(found))


def require_no_datasets(root: Path) -> None:
    """Refuses a folder of data sets: their images would be mixed, and those of the SfM layout, without suffix, lost."""
    datasets = datasets_below(root)
    if datasets:
        listed = ", ".join(str(folder) for folder in datasets[:5])
        raise DatasetError(f"{root} holds data sets, not images; give one of them: {listed}.")
