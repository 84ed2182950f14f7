"""What approximation costs: nothing where nothing is approximate, and what a slow loop counts where something is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest

from aml_edge.approximate.building import build_approximate
from aml_edge.approximate.cost import approximate_ranks, found_shares, measure_costs
from aml_edge.approximate.database import ApproximateDatabase, open_database
from aml_edge.approximate.specification import ApproximateSpec, approximate_spec
from aml_edge.bootstrap import paired_bootstrap
from aml_edge.ground_truth import QueryGroundTruth
from aml_edge.index import TeacherIndex
from aml_edge.labelled_ranks import LabelledRanks, labelled_ranks
from aml_edge.measures import measure
from aml_edge.protocol import Protocol
from aml_edge.ranking import average_precision, ranks_without_ignored

Rows = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Labels:
    """What a data set says of its queries."""

    database_ids: tuple[str, ...]
    ground_truth: Sequence[QueryGroundTruth]
    protocol: Protocol = Protocol.REVISITED
    recall_at: tuple[int, ...] = field(default=(1, 2))


@pytest.fixture
def labels() -> Labels:
    """Five hundred of the index's six hundred images, in another order; the last two queries have no hard image."""
    generator = np.random.default_rng(1)
    ids = [f"{row}.jpg" for row in generator.permutation(600)[:500]]
    truths = []
    for query in range(20):
        drawn = generator.permutation(500)[:12].tolist()
        truths.append(QueryGroundTruth(tuple(drawn[:4]), tuple(drawn[4:8]) if query < 18 else (), tuple(drawn[8:])))
    return Labels(tuple(ids), truths)


@pytest.fixture
def queries(rows: Rows) -> Rows:
    turned = rows[:20] + 0.3 * np.random.default_rng(2).normal(size=(20, 16)).astype(np.float32)
    lengths: Rows = turned / np.linalg.norm(turned, axis=1, keepdims=True)
    return lengths


def opened(index: TeacherIndex, text: str) -> ApproximateDatabase:
    build_approximate(index, approximate_spec(text))
    return open_database([index], approximate_spec(text))


def exact_ranks(index: TeacherIndex, queries: Rows, labels: Labels) -> tuple[LabelledRanks, ...]:
    rows = index.embeddings[index.rows_of(labels.database_ids)].astype(np.float32)
    return labelled_ranks(queries, rows, labels.ground_truth)


@pytest.mark.parametrize("factory", ["Flat", "IVF16,Flat:nprobe=16", "SQ8,RFlat:k_factor_rf=600"])
def test_searching_everything_costs_nothing(index: TeacherIndex, queries: Rows, labels: Labels, factory: str) -> None:
    database, exact = opened(index, factory), exact_ranks(index, queries, labels)
    found = approximate_ranks(queries, database, labels, depth=600)
    for name in ("easy", "hard", "junk"):
        assert [getattr(one, name).tolist() for one in found] == [getattr(one, name).tolist() for one in exact]
    costs = measure_costs(labels, exact, found)
    assert [cost.name for cost in costs] == ["easy mAP", "medium mAP", "hard mAP"]
    assert [cost.queries for cost in costs] == [20, 20, 18]
    assert all(cost.difference == cost.interval.low == cost.interval.high == 0 for cost in costs)
    assert [(one.k, one.mean, one.smallest) for one in found_shares(queries, database, index.checked_embeddings)] == [
        (10, 1.0, 1.0),
        (100, 1.0, 1.0),
    ]


@pytest.mark.parametrize("depth", [30, 600])
def test_costs_are_those_of_a_slow_loop(index: TeacherIndex, queries: Rows, labels: Labels, depth: int) -> None:
    database, exact = opened(index, "IVF16,Flat:nprobe=2"), exact_ranks(index, queries, labels)
    found = approximate_ranks(queries, database, labels, depth)
    medium = measure_costs(labels, exact, found)[1]
    ours, theirs = [], []
    for query, truth in enumerate(labels.ground_truth):
        names = {name: row for row, name in enumerate(labels.database_ids)}
        listed = database.search(queries[query : query + 1], depth).rows[0].tolist()
        kept = [names[index.ids[row]] for row in listed if row >= 0 and index.ids[row] in names]
        kept = [row for row in kept if row not in truth.junk]
        positives = {*truth.easy, *truth.hard}
        area = 0.0
        for right, place in enumerate(place for place, row in enumerate(kept) if row in positives):
            area += ((right / place if place else 1.0) + (right + 1) / (place + 1)) / 2
        theirs.append(area / len(positives))
        whole = exact[query]
        ours.append(average_precision(ranks_without_ignored([*whole.easy, *whole.hard], whole.junk)))
    assert medium.exact == pytest.approx(np.mean(ours), abs=1e-12)
    assert medium.approximate == pytest.approx(np.mean(theirs), abs=1e-12)
    assert medium.difference == pytest.approx(np.mean(theirs) - np.mean(ours), abs=1e-12)
    assert medium.difference < 0
    assert medium.interval.low == pytest.approx(paired_bootstrap(ours, theirs).low, abs=1e-12)


def test_every_protocol_has_its_measures(index: TeacherIndex, queries: Rows, labels: Labels) -> None:
    database, exact = opened(index, "IVF16,Flat"), exact_ranks(index, queries, labels)
    for protocol, names in (
        (Protocol.METRIC_LEARNING, ["recall@1", "recall@2", "MAP@R"]),
        (Protocol.LANDMARKS, ["mAP@100"]),
        (Protocol.INSTANCES, ["mAP", "mP@1", "mP@5", "mP@10"]),
    ):
        other = Labels(labels.database_ids, labels.ground_truth, protocol)
        costs = measure_costs(other, exact, approximate_ranks(queries, database, other, 100))
        assert [cost.name for cost in costs] == names
        positives = [ranks_without_ignored([*one.easy, *one.hard], one.junk) for one in exact]
        expected = [one.mean for one in measure(protocol, positives, other.recall_at).measures]
        assert [cost.queries for cost in costs] == [20] * len(names)
        assert [cost.exact for cost in costs] == pytest.approx(expected)


def test_a_measure_without_a_query_is_left_out(index: TeacherIndex, queries: Rows, labels: Labels) -> None:
    plain = Labels(labels.database_ids, [QueryGroundTruth((1,), (), ())] * 20)
    exact = exact_ranks(index, queries, plain)
    assert [cost.name for cost in measure_costs(plain, exact, exact)] == ["easy mAP", "medium mAP"]


def test_shares_are_what_both_lists_hold(index: TeacherIndex, queries: Rows) -> None:
    database = opened(index, "IVF16,Flat")
    tens, hundreds = found_shares(queries, database, index.checked_embeddings)
    for one in (tens, hundreds):
        shares = []
        for query in queries:
            exact = np.argsort(-(index.embeddings @ query))[: one.k]
            listed = database.search(query[None], one.k).rows[0]
            shares.append(len({*exact.tolist()} & {*listed.tolist()}) / one.k)
        assert one.mean == pytest.approx(np.mean(shares))
        assert one.smallest == pytest.approx(min(shares))
    assert 0 < hundreds.mean < tens.mean < 1


def test_a_small_index_has_no_share(index: TeacherIndex, queries: Rows) -> None:
    database = ApproximateDatabase((build_approximate(index, ApproximateSpec("Flat")),))
    assert found_shares(queries, database, index.embeddings[:10].astype(np.float32)) == ()
    assert found_shares(queries[:0], database, index.checked_embeddings) == ()
