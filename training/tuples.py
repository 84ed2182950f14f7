"""The tuples of an epoch: which images are anchors, and what each is compared with.

Source: Radenović, Tolias, Chum, "Fine-tuning CNN image retrieval with no human annotation", TPAMI 2019, section 4.2:
queries by lot, each with its positive, hard negatives from a fresh pool; Budnik and Avrithis, CVPR 2021, for queries
embedded by the student and a pool embedded by the teacher.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aml_edge.datasets.labelled_images import ImageLabels
from aml_edge.embedder import Embeddings
from aml_edge.errors import DatasetError
from aml_edge.training.mining import NO_NEGATIVE, hardest_negatives, random_negatives
from aml_edge.training.settings import Mining, TrainingSettings
from aml_edge.training.training_set import TrainingSet

Rows = npt.NDArray[np.int64]
Embed = Callable[[Rows], Embeddings]
"""Embeds the images at some rows of the training set."""


@dataclass(frozen=True)
class Tuples:
    """Rows of the training set.

    Args:
        anchors: (B,).
        positives: (B, P); P is 0 where there are none.
        negatives: (B, N); N is 0 where there are none.
    """

    anchors: Rows
    positives: Rows
    negatives: Rows

    def __len__(self) -> int:
        return len(self.anchors)

    def at(self, places: Rows) -> Tuples:
        """Returns the tuples at some places, in their order."""
        return Tuples(self.anchors[places], self.positives[places], self.negatives[places])

    def part(self, start: int, stop: int) -> Tuples:
        """Returns the tuples from `start` to before `stop`."""
        return Tuples(self.anchors[start:stop], self.positives[start:stop], self.negatives[start:stop])

    def batches(self, size: int) -> Iterator[Tuples]:
        """Yields them in order, `size` at a time; the last batch may be smaller."""
        for start in range(0, len(self), size):
            yield self.part(start, start + size)


def tuples_of_epoch(
    training_set: TrainingSet,
    settings: TrainingSettings,
    generator: np.random.Generator,
    *,
    embed_queries: Embed,
    embed_pool: Embed,
) -> Tuples:
    """Returns the tuples of one epoch, drawn by lot.

    Without mining any image may be an anchor, and is one at most once; with it the anchors are queries of the labels'
    pairs, each pair at most once.

    Args:
        training_set: with labels, where `settings.mining` is not none.
        settings: of these `mining`, `queries_per_epoch`, `negatives` and `pool_size` count.
        generator: the lot; the same one gives the same tuples.
        embed_queries, embed_pool: for hard mining, what compares a query with the pool.

    Raises:
        DatasetError: the images have no labels, or too few clusters for the negatives asked for.
    """
    images = len(training_set.items)
    if settings.mining is Mining.NONE:
        anchors = _drawn(images, settings.queries_per_epoch, generator)
        return Tuples(anchors, np.empty((len(anchors), 0), np.int64), np.empty((len(anchors), 0), np.int64))
    labels = _labels(training_set, settings)
    clusters = np.array(labels.clusters, np.int64)
    pairs = _drawn(len(labels.query_rows), settings.queries_per_epoch, generator)
    anchors, positives = (np.array(rows, np.int64)[pairs] for rows in (labels.query_rows, labels.positive_rows))
    pool = _drawn(images, settings.pool_size, generator)
    if settings.mining is Mining.HARD:
        found = hardest_negatives(
            embed_queries(anchors), clusters[anchors], embed_pool(pool), clusters[pool], settings.negatives
        )
    else:
        found = random_negatives(clusters[anchors], clusters[pool], settings.negatives, generator)
    if (found == NO_NEGATIVE).any():
        raise _too_few(clusters[pool], settings)
    return Tuples(anchors, positives[:, None], pool[found])


def one_shape_a_batch(tuples: Tuples, shapes: Sequence[Hashable], size: int, generator: np.random.Generator) -> Tuples:
    """Returns the tuples in another order, in which batches are of anchors of one shape.

    Of each shape the batches are filled in the order that the tuples had. What is left of all shapes makes up the other
    batches, and the smaller last one. Full batches come in random order, so that none is put off for its shape.

    Args:
        tuples: B of them.
        shapes: of the anchors' images, B.
        size: of a batch.
        generator: the lot; the same one gives the same order.
    """
    places: dict[Hashable, list[int]] = {}
    for place, shape in enumerate(shapes):
        places.setdefault(shape, []).append(place)
    whole = {shape: len(found) // size * size for shape, found in places.items()}
    order = [place for shape, found in places.items() for place in found[: whole[shape]]]
    order += [place for shape, found in places.items() for place in found[whole[shape] :]]
    full = len(order) // size
    batches = np.array(order[: full * size], np.int64).reshape(full, size)
    return tuples.at(np.concatenate([generator.permutation(batches).ravel(), np.array(order[full * size :], np.int64)]))


def require_drawable(training_set: TrainingSet, settings: TrainingSettings) -> None:
    """Raises the `DatasetError` of `tuples_of_epoch` where no lot can avoid it, before anything is embedded."""
    if settings.mining is Mining.NONE:
        return
    clusters = np.array(_labels(training_set, settings).clusters, np.int64)
    if len(np.unique(clusters)) - 1 < settings.negatives:
        raise _too_few(clusters, settings)


def anchors_per_epoch(training_set: TrainingSet, settings: TrainingSettings) -> int:
    """Returns how many anchors `tuples_of_epoch` draws."""
    labels = training_set.labels
    available = len(training_set.items)
    if settings.mining is not Mining.NONE and labels is not None:
        available = len(labels.query_rows)
    return min(available, settings.queries_per_epoch) if settings.queries_per_epoch else available


def _drawn(count: int, wanted: int, generator: np.random.Generator) -> Rows:
    """Returns `wanted` of the first `count` whole numbers by lot, in random order; all of them where wanted is 0."""
    order = generator.permutation(count).astype(np.int64)
    return order[:wanted] if wanted else order


def _labels(training_set: TrainingSet, settings: TrainingSettings) -> ImageLabels:
    labels = training_set.labels
    if labels is None or not labels.query_rows:
        raise DatasetError(
            f"`mining` is '{settings.mining}', but the images have no labels of what matches; give a training set in "
            "the SfM layout or a folder of classes, CLASS/IMAGE, or a recipe whose loss needs no labels."
        )
    return labels


def _too_few(pool_clusters: npt.NDArray[np.int64], settings: TrainingSettings) -> DatasetError:
    return DatasetError(
        f"`negatives` is {settings.negatives}, but a pool of {len(pool_clusters)} images has only "
        f"{len(np.unique(pool_clusters))} clusters, and a query takes none of its own; ask for fewer negatives or "
        "give a larger `pool_size`."
    )
