"""What a data set is and what is wrong with it, found without stopping at the first thing that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from aml_edge.datasets.dataset_folders import datasets_below, is_dataset
from aml_edge.datasets.folder import list_images
from aml_edge.datasets.retrieval_dataset import RetrievalDataset
from aml_edge.datasets.revisited import ground_truth_files, read_revisited
from aml_edge.datasets.sfm import TRAIN, SfmDataset, read_sfm, sfm_files
from aml_edge.decoding import read_upright_rgb, read_upright_size
from aml_edge.errors import DatasetError, ImageError
from aml_edge.image_loading import ImageItem
from aml_edge.pixels import Box
from aml_edge.progress import Progress, SilentProgress

VALIDATION = "val"
Size = tuple[int, int]


class DatasetKind(StrEnum):
    """How a data set is laid out."""

    REVISITED = "revisited"
    SFM = "SfM"
    FOLDER = "folder"


@dataclass(frozen=True)
class Spread:
    """How many there are of something, one count each: a query's easy images, a cluster's images."""

    least: int
    median: float
    most: int
    total: int


@dataclass(frozen=True)
class ImageCounts:
    """The image files of a data set.

    Args:
        count: files that the data set names.
        size_bytes: of those that are there.
        smallest, largest: width and height, px, by area; None where no image can be read.
        common: the most frequent sizes with their counts.
    """

    count: int
    size_bytes: int
    smallest: Size | None
    largest: Size | None
    common: tuple[tuple[Size, int], ...]


@dataclass(frozen=True)
class GroundTruthCounts:
    """A test set's queries and answers.

    Args:
        queries, database: images.
        easy, hard, junk: of a query.
        distractors: database images that are no query's answer.
    """

    queries: int
    database: int
    easy: Spread
    hard: Spread
    junk: Spread
    distractors: int


@dataclass(frozen=True)
class SplitCounts:
    """A split of a training set."""

    split: str
    images: int
    clusters: int
    cluster_images: Spread
    pairs: int


@dataclass(frozen=True)
class DatasetDescription:
    """What a data set is.

    Args:
        root: its folder.
        name: what it calls itself.
        kind: its layout.
        images: all of them, the queries included.
        ground_truth: of a test set.
        splits: of a training set.
        problems: what is wrong, each in one sentence; empty where nothing was found.
    """

    root: Path
    name: str
    kind: DatasetKind
    images: ImageCounts
    ground_truth: GroundTruthCounts | None
    splits: tuple[SplitCounts, ...]
    problems: tuple[str, ...]


def inspect(root: Path, *, decode: bool = False, progress: Progress | None = None) -> tuple[DatasetDescription, ...]:
    """Returns what is in a folder: a data set, the data sets in folders below it, or plain images.

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
        return tuple(_describe(one, decode=decode, progress=quiet) for one in roots)
    items = [ImageItem(root / name) for name in list_images(root)]
    if not items:
        raise DatasetError(f"{root} holds no image and no data set; give a folder that does.")
    counts, _, problems = _look_at(items, decode=decode, progress=quiet)
    return (DatasetDescription(root, root.resolve().name, DatasetKind.FOLDER, counts, None, (), tuple(problems)),)


def _describe(root: Path, *, decode: bool, progress: Progress) -> DatasetDescription:
    files = (*ground_truth_files(root), *sfm_files(root))
    if len(files) > 1:
        named = ", ".join(path.name for path in files)
        raise DatasetError(f"{root} holds the metadata of several data sets ({named}); move all but one away.")
    if sfm_files(root):
        return _describe_sfm(files[0], decode=decode, progress=progress)
    return _describe_revisited(read_revisited(files[0]), decode=decode, progress=progress)


def _describe_revisited(dataset: RetrievalDataset, *, decode: bool, progress: Progress) -> DatasetDescription:
    items = (*dataset.query_items, *dataset.database_items)
    counts, sizes, problems = _look_at(items, decode=decode, progress=progress)
    answers = dataset.ground_truth
    named = {row for answer in answers for row in (*answer.easy, *answer.hard, *answer.junk)}
    ground_truth = GroundTruthCounts(
        queries=len(dataset.query_items),
        database=len(dataset.database_items),
        easy=_spread([len(answer.easy) for answer in answers]),
        hard=_spread([len(answer.hard) for answer in answers]),
        junk=_spread([len(answer.junk) for answer in answers]),
        distractors=len(dataset.database_items) - len(named),
    )
    outside = [item for item in dataset.query_items if item.box and not _fits(item.box, sizes.get(item.path))]
    problems += _problem(outside, "queries with a box that reaches outside their image")
    unanswered = [
        item for item, answer in zip(dataset.query_items, answers, strict=True) if not (answer.easy or answer.hard)
    ]
    problems += _problem(unanswered, "queries with neither easy nor hard images, which never count")
    database = {item.path for item in dataset.database_items}
    problems += _problem(
        [item for item in dataset.query_items if item.path in database], "queries that are in the database too"
    )
    problems += _problem(_unlisted(dataset.root / "jpg", items), "files in jpg/ that are neither query nor database")
    return DatasetDescription(
        dataset.root, dataset.name, DatasetKind.REVISITED, counts, ground_truth, (), tuple(problems)
    )


def _describe_sfm(path: Path, *, decode: bool, progress: Progress) -> DatasetDescription:
    splits, problems = [read_sfm(path, TRAIN)], []
    try:
        splits.append(read_sfm(path, VALIDATION))
    except DatasetError as problem:
        problems.append(str(problem))
    counts, _, found = _look_at([item for split in splits for item in split.items], decode=decode, progress=progress)
    problems += found
    for split in splits:
        problems += _pair_problems(split)
    trained = set(splits[0].items)
    problems += _problem(
        [item for split in splits[1:] for item in split.items if item in trained], "images in both splits"
    )
    return DatasetDescription(
        path.parent, splits[0].name, DatasetKind.SFM, counts, None, tuple(map(_split_counts, splits)), tuple(problems)
    )


def _split_counts(dataset: SfmDataset) -> SplitCounts:
    clusters = Counter(dataset.clusters)
    return SplitCounts(
        dataset.split, len(dataset.ids), len(clusters), _spread(list(clusters.values())), len(dataset.query_rows)
    )


def _pair_problems(dataset: SfmDataset) -> list[str]:
    pairs = list(zip(dataset.query_rows, dataset.positive_rows, strict=True))
    apart = [dataset.items[query] for query, other in pairs if dataset.clusters[query] != dataset.clusters[other]]
    alone = [dataset.items[query] for query, other in pairs if query == other]
    return [
        *_problem(apart, f"queries of {dataset.split} with a positive of another cluster"),
        *_problem(alone, f"queries of {dataset.split} that are their own positive"),
    ]


def _look_at(
    items: Sequence[ImageItem], *, decode: bool, progress: Progress
) -> tuple[ImageCounts, dict[Path, Size], list[str]]:
    """Returns counts, the size of each image that can be read, and what is wrong with the others."""
    paths = list(dict.fromkeys(item.path for item in items))
    sizes: dict[Path, Size] = {}
    size_bytes, missing, broken = 0, [], []
    with progress.task("looking at images", len(paths)) as task:
        for path in paths:
            if path.is_file():
                size_bytes += path.stat().st_size
                try:
                    sizes[path] = read_upright_rgb(path).size if decode else read_upright_size(path)
                except ImageError as problem:
                    broken.append((path, problem.failures[0][1]))
            else:
                missing.append(path)
            task.advance()
    problems = []
    if missing:
        problems.append(f"{len(missing)} of {len(paths)} images cannot be found, the first is {missing[0]}.")
    if broken:
        path, reason = broken[0]
        problems.append(f"{len(broken)} of {len(paths)} images cannot be read, the first is {path}: {reason}.")
    common = Counter(sizes.values()).most_common(3)
    counts = ImageCounts(
        count=len(paths),
        size_bytes=size_bytes,
        smallest=min(sizes.values(), key=_area, default=None),
        largest=max(sizes.values(), key=_area, default=None),
        common=tuple(common),
    )
    return counts, sizes, problems


def _area(size: Size) -> tuple[int, int]:
    return size[0] * size[1], size[0]


def _fits(box: Box, size: Size | None) -> bool:
    """Whether a box lies in its image, up to a pixel; one that cannot be read is another problem."""
    return size is None or (min(box[:2]) >= -1 and box[2] <= size[0] + 1 and box[3] <= size[1] + 1)


def _unlisted(folder: Path, items: Sequence[ImageItem]) -> list[ImageItem]:
    listed = {item.path for item in items}
    there = [folder / name for name in list_images(folder)] if folder.is_dir() else []
    return [ImageItem(path) for path in there if path not in listed]


def _problem(items: Sequence[ImageItem], what: str) -> list[str]:
    return [f"{what}: {len(items)}, the first is {items[0].path}."] if items else []


def _spread(counts: Sequence[int]) -> Spread:
    if not counts:
        return Spread(0, 0.0, 0, 0)
    ordered, middle = sorted(counts), len(counts) // 2
    median = float(ordered[middle]) if len(counts) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return Spread(ordered[0], median, ordered[-1], sum(ordered))
