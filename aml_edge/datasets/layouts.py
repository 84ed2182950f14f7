"""The known layouts of data sets, and `load_test_set`: the test set in a folder, whichever of them it has."""

from __future__ import annotations

from pathlib import Path

from aml_edge.datasets.retrieval_dataset import RetrievalDataset
from aml_edge.datasets.revisited import load_revisited


def load_test_set(root: Path) -> RetrievalDataset:
    """Returns the test set in a folder.

    Raises:
        DatasetError: the folder has no known layout, its ground truth contradicts itself, or images are missing.
        UsageError: there is no such folder.
        UnsafePickleError: its ground truth wants a type that it does not need.
    """
    return load_revisited(root)
