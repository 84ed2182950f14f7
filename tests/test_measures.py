"""recall@k, MAP@R and mAP@k against slow loops, pytorch-metric-learning and values worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aml_edge.errors import UsageError
from aml_edge.measures import (
    MeasuresReport,
    average_precision_at_k,
    average_precision_at_r,
    measure,
    recall_at_k,
)
from aml_edge.protocol import Protocol
from aml_edge.ranking import Rows, average_precision, precision_at

RANKINGS = st.lists(st.booleans(), max_size=30)


def ranks_of(ranking: Sequence[bool]) -> Rows:
    return np.flatnonzero(ranking).astype(np.intp)


def slow_average_precision(ranking: Sequence[bool], k: int) -> float:
    """As the challenge words it: precision at each place that holds a positive, down to place k."""
    if not any(ranking):
        return math.nan
    found, total = 0, 0.0
    for place, is_positive in enumerate(ranking[:k], start=1):
        if is_positive:
            found += 1
            total += found / place
    return total / min(k, sum(ranking))


@settings(max_examples=100, deadline=None)
@given(ranking=RANKINGS, k=st.integers(1, 40))
def test_measures_equal_a_walk_down_the_ranking(ranking: list[bool], k: int) -> None:
    ranks = ranks_of(ranking)
    positives = sum(ranking)
    recall = float(any(ranking[:k])) if positives else math.nan
    assert recall_at_k(k, ranks) == pytest.approx(recall, nan_ok=True)
    assert average_precision_at_k(k, ranks) == pytest.approx(slow_average_precision(ranking, k), nan_ok=True)
    expected = slow_average_precision(ranking, positives) if positives else math.nan
    assert average_precision_at_r(ranks) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("ranks", "at_3", "at_r"),
    [
        ([0, 1, 2], 1.0, 1.0),
        ([1, 2], (1 / 2 + 2 / 3) / 2, 1 / 2 / 2),
        ([3, 4], 0.0, 0.0),
        ([0, 2, 5, 6], (1 + 2 / 3) / 3, (1 + 2 / 3) / 4),  # four positives, of which three places can hold three
        ([0], 1.0, 1.0),
    ],
)
def test_precisions_worked_out_by_hand(ranks: list[int], at_3: float, at_r: float) -> None:
    assert average_precision_at_k(3, np.array(ranks)) == pytest.approx(at_3)
    assert average_precision_at_r(np.array(ranks)) == pytest.approx(at_r)


def test_a_query_without_positives_counts_in_no_mean() -> None:
    none, first, third = np.zeros(0, np.intp), np.array([0]), np.array([2])
    for protocol in Protocol:
        report = measure(protocol, [none, first, third])
        for one in report.measures:
            assert math.isnan(one.values[0])
            assert one.mean == pytest.approx((one.values[1] + one.values[2]) / 2)
        assert all(math.isnan(one.mean) for one in measure(protocol, [none]).measures)
        assert all(math.isnan(one.mean) and one.values == () for one in measure(protocol, []).measures)


def values_of(report: MeasuresReport) -> dict[str, float]:
    return {one.name: one.mean for one in report.measures}


def test_each_protocol_has_its_measures() -> None:
    ranks = [np.array([0, 3, 150]), np.array([1])]
    trapezoids = sum(map(average_precision, ranks)) / 2
    precisions = {f"mP@{k}": sum(precision_at(k, one) for one in ranks) / 2 for k in (1, 5, 10)}
    for protocol in (Protocol.REVISITED, Protocol.INSTANCES):
        assert values_of(measure(protocol, ranks)) == pytest.approx({"mAP": trapezoids, **precisions})
    landmarks = ((1 + 2 / 4) / 3 + 1 / 2) / 2
    assert values_of(measure(Protocol.LANDMARKS, ranks)) == pytest.approx({"mAP@100": landmarks})
    metric = values_of(measure(Protocol.METRIC_LEARNING, ranks))
    assert metric == pytest.approx(
        {"recall@1": 0.5, "recall@2": 1.0, "recall@4": 1.0, "recall@8": 1.0, "MAP@R": 1 / 3 / 2}
    )
    other = measure(Protocol.METRIC_LEARNING, ranks, (2, 1))
    assert [one.name for one in other.measures] == ["recall@2", "recall@1", "MAP@R"]
    assert other.main == other.measures[0]
    assert other.protocol is Protocol.METRIC_LEARNING
    assert measure(Protocol.METRIC_LEARNING, ranks).main.values == (1.0, 0.0)


@pytest.mark.parametrize("recall_at", [(), (0,), (1, -1)])
def test_recall_needs_cut_offs(recall_at: tuple[int, ...]) -> None:
    with pytest.raises(UsageError) as refusal:
        measure(Protocol.METRIC_LEARNING, [], recall_at)
    assert str(refusal.value) == f"`recall_at` is {recall_at}; recall needs cut-offs, each 1 or more."


def test_equals_pytorch_metric_learning() -> None:
    """Each image asks all others; precision_at_1 there is recall@1 here. Embeddings on a circle, so no two tie."""
    import torch
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    generator = np.random.default_rng(3)
    labels = np.repeat(np.arange(6), (2, 3, 5, 7, 4, 9))
    angles = labels + generator.normal(size=len(labels)) * 0.9
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    similarities = embeddings @ embeddings.T
    ranks = []
    for row, scores in enumerate(similarities):
        order = [other for other in np.argsort(-scores, kind="stable") if other != row]
        ranks.append(ranks_of([bool(labels[other] == labels[row]) for other in order]))
    found = values_of(measure(Protocol.METRIC_LEARNING, ranks))
    calculator = AccuracyCalculator(include=("precision_at_1", "mean_average_precision_at_r"), k="max_bin_count")
    theirs = calculator.get_accuracy(torch.from_numpy(embeddings), torch.from_numpy(labels))
    assert found["recall@1"] == pytest.approx(theirs["precision_at_1"])
    assert found["MAP@R"] == pytest.approx(theirs["mean_average_precision_at_r"])
    assert 0.2 < found["MAP@R"] < found["recall@1"] < found["recall@8"]
