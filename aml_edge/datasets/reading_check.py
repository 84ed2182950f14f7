"""Whether a folder is a data set that can be read, all images there; and what it then holds, in a few numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aml_edge.datasets.image_files import require_files
from aml_edge.datasets.labelled_images import NamedSplit
from aml_edge.datasets.layouts import DatasetKind, find_layout
from aml_edge.errors import DatasetError
from aml_edge.progress import Progress


@dataclass(frozen=True)
class SplitSize:
    """A split that can be trained on, and its images."""

    name: str
    images: int


@dataclass(frozen=True)
class ReadableDataset:
    """What a data set holds.

    Args:
        kind: its layout.
        queries, database: of the test set; None where it has none.
        splits: to train on.
    """

    kind: DatasetKind
    queries: int | None
    database: int | None
    splits: tuple[SplitSize, ...]

    def describe(self) -> str:
        """Returns it in words, e.g. ``"revisited: 70 queries, 4993 database images"``."""
        test = [] if self.queries is None else [f"{self.queries} queries", f"{self.database} database images"]
        splits = [f"{split.images} images {split.name!r}" for split in self.splits]
        return f"{self.kind}: {', '.join([*test, *splits])}"


def require_readable(root: Path, progress: Progress) -> ReadableDataset:
    """Returns what the data set in a folder holds.

    Raises:
        DatasetError: it has no known layout, contradicts itself, or images are missing.
        UnsafePickleError: its metadata wants a type that it does not need.
    """
    layout = find_layout(root)
    if layout is None:
        raise DatasetError(f"{root} has no known layout; what was published there may have changed.")
    queries = database = None
    if layout.testing is not None and layout.testing.find(root):
        dataset = layout.testing.read(root)
        queries, database = len(dataset.query_items), len(dataset.database_items)
        require_files(root, (*dataset.query_items, *dataset.database_items), progress=progress)
    splits: tuple[NamedSplit, ...] = ()
    if layout.training is not None and layout.training.find(root):
        splits = layout.training.read(root)
        for split in splits:
            require_files(root, split.images.items, progress=progress)
    sizes = tuple(SplitSize(split.name, len(split.images.ids)) for split in splits)
    return ReadableDataset(layout.kind, queries, database, sizes)
