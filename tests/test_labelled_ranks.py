"""Ranks by streaming against a slow sort, where products are exact, so that ties are ties; and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aml_edge.embedder import Embeddings
from aml_edge.errors import DatasetError, UsageError
from aml_edge.ground_truth import QueryGroundTruth
from aml_edge.labelled_ranks import MEMORY_BYTES, LabelledRanks, labelled_ranks, labelled_ranks_of
from aml_edge.ranking import revisited_report

DATA = Path(__file__).parent / "data"
HALVES = np.array(list(product([-0.5, 0.5], repeat=4)), np.float32)
"""All 16 rows of unit length of ±1/2: their products are multiples of 1/2, exact in any order of summation."""

MEMORIES = [1, 64, 200, 1000, 5000, MEMORY_BYTES]


def slow_ranks(similarities: npt.NDArray[np.floating], truth: Sequence[QueryGroundTruth]) -> list[list[list[int]]]:
    """Easy, hard and junk ranks of each query by sorting all of the database."""
    ranks = []
    for row, one in zip(similarities.tolist(), truth, strict=True):
        order = sorted(range(len(row)), key=lambda place: (-row[place], place))
        ranks.append([sorted(order.index(place) for place in rows) for rows in (one.easy, one.hard, one.junk)])
    return ranks


def as_lists(ranks: Sequence[LabelledRanks]) -> list[list[list[int]]]:
    return [[one.easy.tolist(), one.hard.tolist(), one.junk.tolist()] for one in ranks]


def truth_of(labels: Sequence[str]) -> QueryGroundTruth:
    return QueryGroundTruth(*(tuple(row for row, label in enumerate(labels) if label == one) for one in "ehj"))


@st.composite
def cases(draw: st.DrawFn) -> tuple[Embeddings, Embeddings, list[QueryGroundTruth]]:
    """Queries, a database full of equal rows, and labels: sparse, dense, none, or junk alone."""
    queries, database = draw(st.integers(0, 4)), draw(st.integers(1, 40))
    row = st.integers(0, len(HALVES) - 1)
    kinds = st.sampled_from(["ehj" + 20 * "-", "ehj---", "ehj", "j", "-", "e"])
    truth = []
    for _ in range(queries):
        labels = st.sampled_from(draw(kinds))
        truth.append(truth_of(draw(st.lists(labels, min_size=database, max_size=database))))
    asked, stored = (draw(st.lists(row, min_size=count, max_size=count)) for count in (queries, database))
    return HALVES[asked], HALVES[stored], truth


@settings(max_examples=150, deadline=None)
@given(cases(), st.sampled_from(MEMORIES), st.sampled_from(["float32", "float16"]))
def test_equals_a_slow_sort_whatever_the_memory(
    case: tuple[Embeddings, Embeddings, list[QueryGroundTruth]], memory_bytes: int, dtype: str
) -> None:
    queries, database, truth = case
    expected = slow_ranks(queries @ database.T, truth)
    streamed = labelled_ranks(queries, database.astype(dtype), truth, memory_bytes=memory_bytes)
    assert as_lists(streamed) == expected
    assert as_lists(labelled_ranks_of(queries @ database.T, truth)) == expected


@pytest.mark.parametrize("memory_bytes", [1 << 14, 1 << 17, MEMORY_BYTES])
def test_ranks_of_real_rows_are_those_of_their_products(memory_bytes: int) -> None:
    """Products are rounded here, but two of 3000 drawn at random are equal for next to no query."""
    generator = np.random.default_rng(0)
    queries, database = (generator.normal(size=(count, 32)).astype(np.float32) for count in (23, 3000))
    truth = [truth_of(generator.choice(list("ehj-------"), 3000).tolist()) for _ in queries]
    streamed = labelled_ranks(queries, database, truth, memory_bytes=memory_bytes)
    exact = queries.astype(np.float64) @ database.T.astype(np.float64)
    ranks = np.argsort(np.argsort(-exact, axis=1), axis=1)
    for found, one, row in zip(streamed, truth, ranks, strict=True):
        for name in ("easy", "hard", "junk"):
            wanted = np.sort(row[list(getattr(one, name))])
            assert np.abs(getattr(found, name) - wanted).max() <= 1  # neighbours whose products round alike


def test_equals_the_published_evaluation_on_oxford() -> None:
    """Queries are the axes, so a product is the value itself."""
    reference = json.loads((DATA / "revisited_roxford5k.json").read_text())
    truth = [QueryGroundTruth(**{name: tuple(rows) for name, rows in one.items()}) for one in reference["ground_truth"]]
    shape = (len(truth), reference["database"])
    similarities = np.random.default_rng(reference["seed"]).normal(size=shape).astype(np.float32)
    for row, one in zip(similarities, truth, strict=True):
        for rows, gain in ((one.easy, 1.5), (one.hard, 1.0), (one.junk, 1.2)):
            row[list(rows)] += gain * reference["noise"]
    axes, database = np.eye(len(truth), dtype=np.float32), np.ascontiguousarray(similarities.T)
    for memory_bytes in (1 << 16, MEMORY_BYTES):
        report = revisited_report(labelled_ranks(axes, database, truth, memory_bytes=memory_bytes))
        for name in ("easy", "medium", "hard"):
            measured, expected = getattr(report, name), reference[name]
            assert measured.mean_average_precision == pytest.approx(expected["map"], abs=1e-9)
            found = (measured.mean_precision_at_1, measured.mean_precision_at_5, measured.mean_precision_at_10)
            assert found == pytest.approx([expected["mp_at"][k] for k in ("1", "5", "10")], abs=1e-9)
            precisions = [math.nan if value is None else value for value in expected["aps"]]
            assert measured.average_precisions == pytest.approx(precisions, abs=1e-9, nan_ok=True)


def test_equal_rows_rank_in_database_order_across_blocks() -> None:
    """All rows are the same, and so is every product, also of values whose sums are rounded."""
    row = np.random.default_rng(1).normal(size=16).astype(np.float32)
    database = np.tile(row, (1003, 1))
    truth = [truth_of(["e" if place % 7 == 0 else "-" for place in range(1003)])]
    for memory_bytes in (1 << 12, 1 << 15, MEMORY_BYTES):
        for queries in (1, 3):
            asked = np.stack([row * (query + 1) for query in range(queries)])
            for ranks in labelled_ranks(asked, database, truth * queries, memory_bytes=memory_bytes):
                assert ranks.easy.tolist() == list(range(0, 1003, 7))


class CountingRows:
    """A database that counts how often each row is read."""

    def __init__(self, rows: Embeddings) -> None:
        self.shape = rows.shape
        self.reads = np.zeros(len(rows), int)
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: slice) -> Embeddings:
        return self._rows[rows]

    def read_into(self, rows: slice, buffer: Embeddings) -> Embeddings:
        self.reads[rows] += 1
        assert buffer.nbytes <= 1 << 12
        return self._rows[rows]

    def fetch(self, rows: slice) -> None:
        pass


def test_only_blocks_that_hold_labelled_rows_are_read_twice(progress: Any) -> None:
    database = HALVES[np.random.default_rng(2).integers(0, 16, 5000)]
    rows, truth = CountingRows(database), [QueryGroundTruth((3,), (), ()), QueryGroundTruth((10,), (4990,), ())]
    found = labelled_ranks(HALVES[:2], rows, truth, memory_bytes=1 << 13, progress=progress)
    assert as_lists(found) == slow_ranks(HALVES[:2] @ database.T, truth)
    assert set(rows.reads) <= {1, 2, 3}
    assert (rows.reads > 1).sum() <= 512  # three blocks of 128 rows, and the last one begins among rows that were read
    assert progress.announced == [("ranking", 5000)]
    assert progress.done == 5000


def test_more_queries_than_fit_are_taken_in_turns(progress: Any) -> None:
    generator = np.random.default_rng(3)
    database, queries = HALVES[generator.integers(0, 16, 50)], HALVES[generator.integers(0, 16, 300)]
    truth = [truth_of(generator.choice(list("ej--"), 50).tolist()) for _ in queries]
    found = labelled_ranks(queries, database, truth, memory_bytes=1 << 16, progress=progress)
    assert as_lists(found) == slow_ranks(queries @ database.T, truth)
    assert progress.announced == [("ranking", 2 * 50)]  # 163 queries × 50 × 4 bytes are half of 64 KiB


def test_a_row_beyond_the_database_is_refused() -> None:
    with pytest.raises(DatasetError) as refusal:
        labelled_ranks(HALVES[:2], HALVES, [QueryGroundTruth((), (), ()), QueryGroundTruth((), (16,), ())])
    assert str(refusal.value) == (
        "the ground truth of query 1 names database row 16, but the database has 16 images; "
        "use the database that it was made for."
    )


def test_queries_that_cannot_be_written_to_are_taken_as_they_are() -> None:
    queries = HALVES[:3].copy()
    queries.flags.writeable = False  # as rows of an index are; PyTorch would warn
    truth = [truth_of("e-h" + "-" * 13)] * 3
    assert as_lists(labelled_ranks(queries, HALVES, truth)) == slow_ranks(HALVES[:3] @ HALVES.T, truth)


NOTHING = QueryGroundTruth((), (), ())


@pytest.mark.parametrize(
    ("queries", "truths", "memory_bytes", "said"),
    [
        (HALVES[:2, :3], 2, 8, "`query_embeddings` has shape (2, 3) and `database` (16, 4); both must be (rows, D) "),
        (HALVES[0], 1, 8, "`query_embeddings` has shape (4,) and `database` (16, 4); both must be (rows, D) with the "),
        (HALVES[:2], 1, 8, "`query_embeddings` has 2 rows, but there are 1 queries with ground truth; give one row a "),
        (HALVES[:2], 2, 0, "`memory_bytes` is 0; it must be above 0, e.g. 268435456."),
        (HALVES[:2] * np.float32(np.inf), 2, 8, "row 0 of `query_embeddings` is not finite; embed that image again."),
    ],
)
def test_what_does_not_belong_together_is_refused(
    queries: Embeddings, truths: int, memory_bytes: int, said: str
) -> None:
    with pytest.raises(UsageError) as refusal:
        labelled_ranks(queries, HALVES, [NOTHING] * truths, memory_bytes=memory_bytes)
    assert str(refusal.value).startswith(said)


@pytest.mark.parametrize("memory_bytes", [1, 300, MEMORY_BYTES])
@pytest.mark.parametrize("truth", [NOTHING, QueryGroundTruth((1,), (), ())])
def test_a_database_row_that_is_not_finite_has_no_rank(memory_bytes: int, truth: QueryGroundTruth) -> None:
    database = HALVES.copy()
    database[9, 2] = np.nan
    with pytest.raises(UsageError, match=r"^`similarities` holds NaN for query 0; an embedding that is not finite"):
        labelled_ranks(HALVES[:3], database, [truth] * 3, memory_bytes=memory_bytes)


def test_a_matrix_is_left_as_it_is() -> None:
    similarities = np.array([[0.5, 0.25, 0.5], [0.0, 1.0, 0.5]])
    before = similarities.copy()
    labelled_ranks_of(similarities, [truth_of("-e-"), truth_of("---")])
    assert (similarities == before).all()
