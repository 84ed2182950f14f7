"""Which folders hold a data set in a published layout."""

from __future__ import annotations

import os
from pathlib import Path

from aml_edge.datasets.revisited import ground_truth_files
from aml_edge.datasets.sfm import sfm_files


def is_dataset(root: Path) -> bool:
    """Returns whether a folder is laid out as revisited Oxford or as retrieval-SfM, its metadata unread."""
    return bool(ground_truth_files(root) or sfm_files(root))


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
