"""What a data set is and what is wrong with it, found without stopping at the first thing that is."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from aml_edge.datasets.class_folder import class_names, read_class_folder
from aml_edge.datasets.dataset_folders import datasets_below, is_dataset
from aml_edge.datasets.description import DatasetDescription
from aml_edge.datasets.folder import list_images
from aml_edge.datasets.image_inspection import look_at, problem_with
from aml_edge.datasets.labelled_images import NamedSplit
from aml_edge.datasets.layouts import LAYOUTS, DatasetKind, find_layout
from aml_edge.datasets.retrieval_dataset import RetrievalDataset
from aml_edge.datasets.sfm import TRAIN, VALIDATION, read_sfm
from aml_edge.datasets.side_inspection import (
    ground_truth_counts,
    query_problems,
    split_counts,
    split_problems,
    trained_and_tested,
    unlisted,
)
from aml_edge.errors import DatasetError
from aml_edge.image_loading import ImageItem
from aml_edge.progress import Progress, SilentProgress


@dataclass(frozen=True)
class _Contents:
    """What the metadata of a data set says.

    Args:
        root, name, kind: of the data set.
        dataset: its test set.
        splits: of its training set.
        problems: that reading them met.
    """

    root: Path
    name: str
    kind: DatasetKind
    dataset: RetrievalDataset | None = None
    splits: tuple[NamedSplit, ...] = ()
    problems: tuple[str, ...] = ()


def inspect(root: Path, *, decode: bool = False, progress: Progress | None = None) -> tuple[DatasetDescription, ...]:
    """Returns what is in a folder: a data set, the data sets in folders below it, classes of images, or plain images.

    Args:
        root: the folder.
        decode: whether every image is decoded, which finds truncated ones; else only its header is read.
        progress: where to tell that it goes on.

    Raises:
        DatasetError: it is a file, it holds no image, or metadata that cannot be read.
        UsageError: there is no such folder.
        UnsafePickleError: metadata that wants a type that it does not need.
    """
    quiet = progress or SilentProgress()
    roots = (root,) if is_dataset(root) else datasets_below(root)
    if roots:
        return tuple(_described(_read(one), decode=decode, progress=quiet) for one in roots)
    items = [ImageItem(root / name) for name in list_images(root)]
    if not items:
        known = "; ".join(f"{layout.kind} by {layout.known_by}" for layout in LAYOUTS.values())
        raise DatasetError(
            f"{root} holds no image and no data set; give a folder that does. Data sets are known by what they hold: "
            f"{known}."
        )
    name = root.resolve().name
    if class_names(root):
        contents = _Contents(root, name, DatasetKind.CLASSES, read_class_folder(root).test_set(name))
        return (_described(contents, decode=decode, progress=quiet),)
    seen = look_at(items, decode=decode, progress=quiet)
    return (DatasetDescription(root, name, DatasetKind.FOLDER, seen.counts, None, (), seen.problems),)


def _read(root: Path) -> _Contents:
    layout = find_layout(root)
    assert layout is not None
    files, testing, training = layout.metadata(root), layout.testing, layout.training
    if layout.kind in (DatasetKind.REVISITED, DatasetKind.SFM) and len(files) > 1:
        named = ", ".join(path.name for path in files)
        raise DatasetError(f"{root} holds the metadata of several data sets ({named}); move all but one away.")
    if layout.kind is DatasetKind.SFM:
        return _read_sfm(files[0])
    dataset = testing.read(root) if testing is not None and testing.find(root) else None
    splits = training.read(root) if training is not None and training.find(root) else ()
    name = str(layout.kind) if dataset is None else dataset.name
    return _Contents(root, name, layout.kind, dataset, splits)


def _read_sfm(path: Path) -> _Contents:
    """Returns what is in a training set in the SfM layout; that of validation may be missing or broken."""
    splits, problems = [read_sfm(path, TRAIN)], []
    try:
        splits.append(read_sfm(path, VALIDATION))
    except DatasetError as problem:
        problems.append(str(problem))
    named = tuple(split.named_split for split in splits)
    return _Contents(path.parent, splits[0].name, DatasetKind.SFM, None, named, tuple(problems))


def _described(contents: _Contents, *, decode: bool, progress: Progress) -> DatasetDescription:
    dataset, splits = contents.dataset, contents.splits
    tested = () if dataset is None else (dataset.query_items, dataset.database_items)
    items = chain(*tested, *(split.images.items for split in splits))
    seen = look_at(items, decode=decode, progress=progress)
    problems = [*contents.problems, *seen.problems]
    if dataset is not None:
        problems += query_problems(dataset, seen.sizes)
        problems += trained_and_tested(dataset, splits)
    if contents.kind is DatasetKind.REVISITED and dataset is not None:
        folder = contents.root / "jpg"
        names = list_images(folder) if folder.is_dir() else ()
        stray = unlisted(folder, names, [*dataset.query_items, *dataset.database_items])
        problems += problem_with(stray, "files in jpg/ that are neither query nor database")
    problems += split_problems(splits)
    return DatasetDescription(
        root=contents.root,
        name=contents.name,
        kind=contents.kind,
        images=seen.counts,
        ground_truth=None if dataset is None else ground_truth_counts(dataset),
        splits=tuple(map(split_counts, splits)),
        problems=tuple(problems),
    )
