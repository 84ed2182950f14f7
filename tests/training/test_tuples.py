"""What an epoch draws, against slow and obvious checks of all that was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aml_edge.datasets.labelled_images import ImageLabels
from aml_edge.datasets.training_images import training_images
from aml_edge.errors import DatasetError
from aml_edge.image_loading import ImageItem
from aml_edge.training.settings import Mining, TrainingSettings
from aml_edge.training.training_set import TrainingSet, training_set_of
from aml_edge.training.tuples import (
    Tuples,
    anchors_per_epoch,
    one_shape_a_batch,
    require_drawable,
    tuples_of_epoch,
)

Embeddings = npt.NDArray[np.float32]
IMAGES = 60
HARD = TrainingSettings(mining=Mining.HARD, queries_per_epoch=13, negatives=4, pool_size=45)
MINED = [HARD, replace(HARD, mining=Mining.RANDOM)]


class TwoSides:
    """Embeds queries one way and the pool another, and keeps which rows it was asked for."""

    def __init__(self) -> None:
        generator = np.random.default_rng(3)
        self.of_queries, self.of_pool = (generator.normal(size=(IMAGES, 6)).astype(np.float32) for _ in range(2))
        self.queries: list[int] = []
        self.pool: list[int] = []

    def embed_queries(self, rows: npt.NDArray[np.int64]) -> Embeddings:
        self.queries += rows.tolist()
        return self.of_queries[rows]

    def embed_pool(self, rows: npt.NDArray[np.int64]) -> Embeddings:
        self.pool += rows.tolist()
        return self.of_pool[rows]


def drawn(
    training_set: TrainingSet, settings: TrainingSettings, sides: TwoSides | None = None, seed: int = 0
) -> Tuples:
    sides = sides or TwoSides()
    return tuples_of_epoch(
        training_set,
        settings,
        np.random.default_rng(seed),
        embed_queries=sides.embed_queries,
        embed_pool=sides.embed_pool,
    )


def set_of(clusters: Sequence[int], pairs: Sequence[tuple[int, int]]) -> TrainingSet:
    items = tuple(ImageItem(Path(f"{row}")) for row in range(len(clusters)))
    labels = ImageLabels(tuple(clusters), tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs))
    return TrainingSet(items, labels)


@pytest.fixture
def labelled() -> TrainingSet:
    """Sixty images in clusters of many sizes; many match the next one of their cluster."""
    clusters = np.random.default_rng(5).integers(100, 112, IMAGES).tolist()
    pairs = [
        (row, row + 1 + clusters[row + 1 :].index(cluster))
        for row, cluster in enumerate(clusters)
        if cluster in clusters[row + 1 :]
    ]
    return set_of(clusters, pairs)


@pytest.fixture
def unlabelled(labelled: TrainingSet) -> TrainingSet:
    return replace(labelled, labels=None)


def as_lists(tuples: Tuples) -> list[list[list[int]]]:
    return [tuples.anchors[:, None].tolist(), tuples.positives.tolist(), tuples.negatives.tolist()]


@pytest.mark.parametrize("settings", MINED)
def test_anchors_are_queries_and_each_has_its_positive(labelled: TrainingSet, settings: TrainingSettings) -> None:
    assert labelled.labels is not None
    tuples = drawn(labelled, settings)
    assert (tuples.anchors.shape, tuples.positives.shape, tuples.negatives.shape) == ((13,), (13, 1), (13, 4))
    pairs = set(zip(labelled.labels.query_rows, labelled.labels.positive_rows, strict=True))
    taken = list(zip(tuples.anchors.tolist(), tuples.positives[:, 0].tolist(), strict=True))
    assert set(taken) <= pairs
    assert len(set(taken)) == 13 < len(pairs)


@pytest.mark.parametrize("settings", MINED)
def test_negatives_are_of_other_clusters_and_one_of_each(labelled: TrainingSet, settings: TrainingSettings) -> None:
    assert labelled.labels is not None
    tuples = drawn(labelled, settings)
    for anchor, negatives in zip(tuples.anchors.tolist(), tuples.negatives.tolist(), strict=True):
        of = {labelled.labels.clusters[row] for row in (anchor, *negatives)}
        assert len(of) == 5


def test_hard_negatives_are_the_most_similar_of_the_pool(labelled: TrainingSet) -> None:
    assert labelled.labels is not None
    clusters, sides = labelled.labels.clusters, TwoSides()
    tuples = drawn(labelled, HARD, sides)
    assert sides.queries == tuples.anchors.tolist()
    assert len(set(sides.pool)) == len(sides.pool) == 45
    for anchor, negatives in zip(tuples.anchors.tolist(), tuples.negatives.tolist(), strict=True):
        ranked = sorted(sides.pool, key=lambda row: -float(sides.of_queries[anchor] @ sides.of_pool[row]))
        expected: list[int] = []
        for row in ranked:
            if clusters[row] not in {clusters[one] for one in (anchor, *expected)}:
                expected.append(row)
        assert negatives == expected[:4]


def test_random_negatives_embed_nothing_and_stay_in_the_pool(labelled: TrainingSet) -> None:
    sides = TwoSides()
    tuples = drawn(labelled, replace(HARD, mining=Mining.RANDOM, queries_per_epoch=0), sides)
    assert (sides.queries, sides.pool) == ([], [])
    assert len(np.unique(tuples.negatives)) <= 45
    everywhere = drawn(labelled, replace(HARD, mining=Mining.RANDOM, queries_per_epoch=0, pool_size=0))
    assert len(np.unique(everywhere.negatives)) > 45


@pytest.mark.parametrize("settings", [*MINED, replace(HARD, mining=Mining.NONE)])
def test_the_lot_decides_all(labelled: TrainingSet, settings: TrainingSettings) -> None:
    first, again, other = (as_lists(drawn(labelled, settings, seed=seed)) for seed in (0, 0, 1))
    assert first == again
    assert first[0] != other[0]


def test_pairs_and_pool_are_drawn_alike(labelled: TrainingSet) -> None:
    """Each of the pairs in 13 of so many epochs, each image in 45 of 60."""
    assert labelled.labels is not None
    epochs, pairs = 2000, len(labelled.labels.query_rows)
    anchors, pool, first = np.zeros(IMAGES), np.zeros(IMAGES), np.zeros(IMAGES)
    for seed in range(epochs):
        sides = TwoSides()
        tuples = drawn(labelled, HARD, sides, seed)
        np.add.at(anchors, tuples.anchors, 1)
        np.add.at(pool, sides.pool, 1)
        first[tuples.anchors[0]] += 1
    for counts, chance in ((anchors, 13 / pairs), (first, 1 / pairs), (pool, 45 / IMAGES)):
        spread = 4.5 * np.sqrt(epochs * chance * (1 - chance))  # so far off is one count in 150 000
        assert np.abs(counts[counts > 0] - epochs * chance).max() < spread
    assert (anchors > 0).sum() == (first > 0).sum() == pairs


def test_without_mining_any_image_is_an_anchor_and_nothing_else_is_drawn(unlabelled: TrainingSet) -> None:
    settings, sides = TrainingSettings(queries_per_epoch=25), TwoSides()
    tuples = drawn(unlabelled, settings, sides)
    assert (tuples.anchors.shape, tuples.positives.shape, tuples.negatives.shape) == ((25,), (25, 0), (25, 0))
    assert len(set(tuples.anchors.tolist())) == 25
    assert set(tuples.anchors.tolist()) <= set(range(IMAGES))
    assert (sides.queries, sides.pool) == ([], [])


@pytest.mark.parametrize("wanted", [0, IMAGES, IMAGES + 1, 10**6])
def test_all_are_drawn_where_all_or_more_are_asked_for(labelled: TrainingSet, wanted: int) -> None:
    assert labelled.labels is not None
    every = drawn(labelled, TrainingSettings(queries_per_epoch=wanted)).anchors.tolist()
    assert sorted(every) == list(range(IMAGES)) != every
    sides = TwoSides()
    mined = drawn(labelled, replace(HARD, queries_per_epoch=wanted, pool_size=wanted), sides)
    assert sorted(mined.anchors.tolist()) == sorted(labelled.labels.query_rows)
    assert sorted(sides.pool) == list(range(IMAGES))


def test_a_query_of_several_pairs_may_come_with_each(labelled: TrainingSet) -> None:
    training_set = set_of([1, 1, 1, 2, 3], [(0, 1), (0, 2)])
    tuples = drawn(training_set, TrainingSettings(mining=Mining.RANDOM, negatives=2))
    assert sorted(zip(tuples.anchors.tolist(), tuples.positives[:, 0].tolist(), strict=True)) == [(0, 1), (0, 2)]
    assert [sorted(row) for row in tuples.negatives.tolist()] == [[3, 4], [3, 4]]


@pytest.mark.parametrize("mining", [Mining.HARD, Mining.RANDOM])
def test_images_without_labels_are_refused(unlabelled: TrainingSet, mining: Mining) -> None:
    for training_set in (unlabelled, set_of([1, 2, 3], [])):
        with pytest.raises(DatasetError) as caught:
            drawn(training_set, TrainingSettings(mining=mining))
        assert str(caught.value) == (
            f"`mining` is '{mining}', but the images have no labels of what matches; give a training set in the SfM "
            "layout or a folder of classes, CLASS/IMAGE, or a recipe whose loss needs no labels."
        )


@pytest.mark.parametrize("mining", [Mining.HARD, Mining.RANDOM])
def test_too_few_clusters_are_refused(mining: Mining) -> None:
    training_set = set_of([1, 1, 1, 2, 3, 3], [(0, 1)])
    enough = drawn(training_set, TrainingSettings(mining=mining, negatives=2)).negatives[0]
    assert sorted(enough.tolist()) in ([3, 4], [3, 5])
    with pytest.raises(DatasetError) as caught:
        drawn(training_set, TrainingSettings(mining=mining, negatives=3))
    assert str(caught.value) == (
        "`negatives` is 3, but a pool of 6 images has only 3 clusters, and a query takes none of its own; ask for "
        "fewer negatives or give a larger `pool_size`."
    )


@pytest.mark.parametrize("mining", Mining)
def test_what_no_lot_can_draw_is_refused_before_it_is_drawn(
    labelled: TrainingSet, unlabelled: TrainingSet, mining: Mining
) -> None:
    """With the words that the drawing itself has."""
    few = set_of([1, 1, 1, 2, 3, 3], [(0, 1)])
    cases = [(labelled, 11), (labelled, 12), (unlabelled, 1), (set_of([1, 2, 3], []), 1), (few, 2), (few, 3)]
    refused = []
    for training_set, negatives in cases:
        settings = TrainingSettings(mining=mining, negatives=negatives)
        words: list[str] = []
        for attempt in (require_drawable, drawn):
            try:
                attempt(training_set, settings)
                words.append("")
            except DatasetError as error:
                words.append(str(error))
        assert words[0] == words[1]
        refused.append(bool(words[0]))
    assert refused == ([False] * 6 if mining is Mining.NONE else [False, True, True, True, False, True])


def test_counts_the_anchors_that_it_draws(labelled: TrainingSet, unlabelled: TrainingSet) -> None:
    for wanted in (0, 1, 13, 1000):
        for mining, training_set in (
            (Mining.HARD, labelled),
            (Mining.RANDOM, labelled),
            (Mining.NONE, labelled),
            (Mining.NONE, unlabelled),
        ):
            settings = replace(HARD, mining=mining, queries_per_epoch=wanted)
            assert anchors_per_epoch(training_set, settings) == len(drawn(training_set, settings))


def test_batches_hold_all_tuples_in_order(labelled: TrainingSet) -> None:
    tuples = drawn(labelled, HARD)
    for size, lengths in ((5, [5, 5, 3]), (13, [13]), (14, [13]), (1, [1] * 13)):
        batches = list(tuples.batches(size))
        assert [len(batch) for batch in batches] == lengths
        together = [[row for batch in batches for row in as_lists(batch)[part]] for part in range(3)]
        assert together == as_lists(tuples)
    assert as_lists(tuples.part(3, 5)) == [rows[3:5] for rows in as_lists(tuples)]
    assert list(tuples.part(4, 4).batches(5)) == []


def numbered(count: int) -> Tuples:
    """Tuples of which each knows its place."""
    places = np.arange(count)
    return Tuples(places, 100 + places[:, None], 200 + np.stack([places, places], axis=1))


@given(st.lists(st.sampled_from("abc"), max_size=40), st.integers(1, 7), st.integers(0, 9))
def test_batches_of_one_shape_are_as_many_as_can_be(shapes: list[str], size: int, seed: int) -> None:
    tuples = one_shape_a_batch(numbered(len(shapes)), shapes, size, np.random.default_rng(seed))
    assert sorted(tuples.anchors) == list(range(len(shapes)))
    np.testing.assert_array_equal(tuples.positives[:, 0], 100 + tuples.anchors)
    np.testing.assert_array_equal(tuples.negatives, 200 + np.stack([tuples.anchors, tuples.anchors], axis=1))
    batches = [[shapes[place] for place in batch.anchors] for batch in tuples.batches(size)]
    for shape in "abc":
        assert sum(batch == size * [shape] for batch in batches) >= shapes.count(shape) // size


def test_shapes_meet_in_the_order_that_was_drawn() -> None:
    tuples = one_shape_a_batch(numbered(10), list("abbaabbbba"), 2, np.random.default_rng(0))
    pairs = {tuple(batch.anchors.tolist()) for batch in tuples.batches(2)}
    assert pairs == {(0, 3), (4, 9), (1, 2), (5, 6), (7, 8)}


def test_no_shape_is_put_off() -> None:
    """Each batch of an epoch comes first in some order."""
    first = {
        int(one_shape_a_batch(numbered(8), list("aaaabbbb"), 2, np.random.default_rng(seed)).anchors[0])
        for seed in range(30)
    }
    assert first == {0, 2, 4, 6}


def test_the_smaller_batch_stays_last() -> None:
    for seed in range(9):
        tuples = one_shape_a_batch(numbered(7), list("aabbabc"), 3, np.random.default_rng(seed))
        assert tuples.anchors[-1] == 6


def test_no_tuples_stay_none() -> None:
    assert len(one_shape_a_batch(numbered(0), [], 5, np.random.default_rng(0))) == 0


@pytest.mark.parametrize("mining", [Mining.HARD, Mining.RANDOM])
def test_classes_of_a_folder_are_mined(tmp_path: Path, mining: Mining) -> None:
    """Positives are of the anchor's class, negatives of four others."""
    for row in range(24):
        (tmp_path / f"class {row % 6}").mkdir(exist_ok=True)
        (tmp_path / f"class {row % 6}" / f"{row}.jpg").touch()
    classes = training_set_of(training_images(tmp_path).training, None)
    tuples = drawn(classes, TrainingSettings(mining=mining, queries_per_epoch=9, negatives=4, pool_size=24))
    names = [Path(item.path).parent.name for item in classes.items]
    for anchor, positive, negatives in zip(tuples.anchors, tuples.positives[:, 0], tuples.negatives, strict=True):
        assert anchor != positive
        assert names[anchor] == names[positive]
        assert len({names[row] for row in (anchor, *negatives)}) == 5
