"""`load_test_set`: the test set in a folder, whichever of the known layouts it has."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

from aml_edge.datasets.class_folder import class_names, read_class_folder
from aml_edge.datasets.dataset_folders import require_no_datasets
from aml_edge.datasets.image_files import require_files
from aml_edge.datasets.layouts import find_layout
from aml_edge.datasets.retrieval_dataset import RetrievalDataset
from aml_edge.errors import DatasetError, UsageError
from aml_edge.progress import Progress


def load_test_set(root: Path, subset: str | None = None, *, progress: Progress | None = None) -> RetrievalDataset:
    """Returns the test set in a folder: one of a published layout, or a folder of classes.

    Args:
        root: the folder.
        subset: of its queries, where they are published in parts: ``"public"`` or ``"private"`` of Google Landmarks.
        progress: where a long search for images is announced.

    Raises:
        DatasetError: the folder has no known layout, its ground truth contradicts itself, or images are missing.
        UsageError: there is no such folder, or no such subset.
        UnsafePickleError: its ground truth wants a type that it does not need.
    """
    layout = find_layout(root)
    testing = None if layout is None else layout.testing
    subsets = {} if testing is None else testing.subsets
    if subset is not None and subset not in subsets:
        there = ", ".join(subsets) or "none"
        raise UsageError(f"`subset` is {subset!r}, but the subsets of {root} are: {there}; leave it out, or name one.")
    if layout is None:
        return _of_classes(root)
    if testing is None or not testing.find(root):
        raise DatasetError(f"{root} ({layout.kind}) has no queries; give a data set to test on.")
    dataset = testing.read(root) if subset is None else subsets[subset](root)
    require_files(root, chain(dataset.query_items, dataset.database_items), progress=progress)
    return dataset


def _of_classes(root: Path) -> RetrievalDataset:
    if not class_names(root):
        require_no_datasets(root)
        raise DatasetError(
            f"{root} holds no test set: no files of a known layout, nor each image in the folder of its class, "
            "CLASS/IMAGE; `aml-edge data info` says what a folder is."
        )
    return read_class_folder(root).test_set(root.resolve().name)
