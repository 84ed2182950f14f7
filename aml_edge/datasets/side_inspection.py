"""What the two sides of a data set are and what is wrong with them: answers to queries, labels of training images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from aml_edge.datasets.description import GroundTruthCounts, Size, SplitCounts, spread_of
from aml_edge.datasets.image_classes import ClassGroundTruth
from aml_edge.datasets.image_inspection import problem_with
from aml_edge.datasets.labelled_images import NamedSplit
from aml_edge.datasets.retrieval_dataset import RetrievalDataset
from aml_edge.image_loading import ImageItem
from aml_edge.pixels import Box
from aml_edge.protocol import Protocol


def ground_truth_counts(dataset: RetrievalDataset) -> GroundTruthCounts:
    """Returns how many queries there are, and how many answers each has."""
    answers, database = dataset.ground_truth, len(dataset.database_items)
    none = spread_of(())
    if isinstance(answers, ClassGroundTruth):
        sizes = answers.class_sizes
        positives = spread_of([size - 1 for size in sizes for _ in range(size)])
        alone = sizes.count(1)
        return GroundTruthCounts(len(answers), database, positives, none, none, alone, dataset.protocol, len(sizes))
    named = {row for answer in answers for row in (*answer.easy, *answer.hard, *answer.junk)}
    return GroundTruthCounts(
        queries=len(dataset.query_items),
        database=database,
        easy=spread_of([len(answer.easy) for answer in answers]),
        hard=spread_of([len(answer.hard) for answer in answers]),
        junk=spread_of([len(answer.junk) for answer in answers]),
        distractors=database - len(named),
        protocol=dataset.protocol,
    )


def query_problems(dataset: RetrievalDataset, sizes: Mapping[Path, Size]) -> list[str]:
    """Returns what is wrong with the queries.

    Args:
        dataset: whose.
        sizes: of the images that can be read.
    """
    outside = [item for item in dataset.query_items if item.box and not _fits(item.box, sizes.get(Path(item.path)))]
    problems = problem_with(outside, "queries with a box that reaches outside their image")
    unanswered = {
        Protocol.REVISITED: "queries with neither easy nor hard images, which never count",
        Protocol.METRIC_LEARNING: "images that are alone in their class, which never count",
    }.get(dataset.protocol, "queries without a positive, which never count")
    pairs = zip(dataset.query_items, dataset.ground_truth, strict=True)
    problems += problem_with([item for item, truth in pairs if not (truth.easy or truth.hard)], unanswered)
    if not dataset.queries_are_database:
        database = {item.path for item in dataset.database_items}
        there = [item for item in dataset.query_items if item.path in database]
        problems += problem_with(there, "queries that are in the database too")
    return problems


def split_counts(split: NamedSplit) -> SplitCounts:
    """Returns how many images, clusters and pairs a training split has."""
    labels = split.images.labels
    clusters = Counter(() if labels is None else labels.clusters)
    pairs = 0 if labels is None else len(labels.query_rows)
    spread = spread_of(list(clusters.values()))
    return SplitCounts(split.name, len(split.images.ids), len(clusters), spread, pairs)


def split_problems(splits: Sequence[NamedSplit]) -> list[str]:
    """Returns what is wrong with the labels of training splits, and images that are in several."""
    problems = [problem for split in splits for problem in _pair_problems(split)]
    learned = set(splits[0].images.ids) if splits else set()
    others = [pair for split in splits[1:] for pair in zip(split.images.ids, split.images.items, strict=True)]
    twice = [item for one, item in others if one in learned]
    return problems + problem_with(twice, "images in both splits")


def trained_and_tested(dataset: RetrievalDataset, splits: Sequence[NamedSplit]) -> list[str]:
    """Returns the sentence that names images of the test set which are trained on."""
    tested = {item.path for items in (dataset.query_items, dataset.database_items) for item in items}
    both = [item for split in splits for item in split.images.items if item.path in tested]
    return problem_with(both, "images to train on that are tested on too")


def _pair_problems(split: NamedSplit) -> list[str]:
    labels, items = split.images.labels, split.images.items
    if labels is None:
        return []
    pairs = list(zip(labels.query_rows, labels.positive_rows, strict=True))
    apart = [items[query] for query, other in pairs if labels.clusters[query] != labels.clusters[other]]
    alone = [items[query] for query, other in pairs if query == other]
    return [
        *problem_with(apart, f"queries of {split.name} with a positive of another cluster"),
        *problem_with(alone, f"queries of {split.name} that are their own positive"),
    ]


def _fits(box: Box, size: Size | None) -> bool:
    """Whether a box lies in its image, up to a pixel; one that cannot be read is another problem."""
    return size is None or (min(box[:2]) >= -1 and box[2] <= size[0] + 1 and box[3] <= size[1] + 1)


def unlisted(folder: Path, names: Sequence[str], items: Sequence[ImageItem]) -> list[ImageItem]:
    """Returns the files of a folder that no item is of.

    Args:
        folder: where they lie.
        names: of the files.
        items: that a data set names.
    """
    listed = {item.path for item in items}
    return [ImageItem(folder / name) for name in names if folder / name not in listed]
