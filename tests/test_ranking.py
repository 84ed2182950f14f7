"""The revisited protocol against published values, hand-made rankings and a slow loop over the ranking."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aml_edge.errors import DatasetError, UsageError
from aml_edge.ranking import (
    QueryGroundTruth,
    RetrievalReport,
    SettingReport,
    average_precision,
    evaluate_revisited,
    precision_at,
    ranks_without_ignored,
)

DATA = Path(__file__).parent / "data"
NAN = float("nan")


def settings_of(report: RetrievalReport) -> dict[str, SettingReport]:
    return {"easy": report.easy, "medium": report.medium, "hard": report.hard}


def test_equals_the_published_evaluation_on_oxford() -> None:
    reference = json.loads((DATA / "revisited_roxford5k.json").read_text())
    truth = [QueryGroundTruth(**{name: tuple(rows) for name, rows in one.items()}) for one in reference["ground_truth"]]
    noise = reference["noise"]
    similarities = (
        np.random.default_rng(reference["seed"]).normal(size=(len(truth), reference["database"])).astype(np.float32)
    )
    for row, one in zip(similarities, truth, strict=True):
        for rows, gain in ((one.easy, 1.5), (one.hard, 1.0), (one.junk, 1.2)):
            row[list(rows)] += gain * noise
    for name, measured in settings_of(evaluate_revisited(similarities, truth)).items():
        expected = reference[name]
        found = (measured.mean_precision_at_1, measured.mean_precision_at_5, measured.mean_precision_at_10)
        assert measured.mean_average_precision == pytest.approx(expected["map"], abs=1e-9)
        assert found == pytest.approx([expected["mp_at"][k] for k in ("1", "5", "10")], abs=1e-9)
        precisions = [NAN if value is None else value for value in expected["aps"]]
        assert measured.average_precisions == pytest.approx(precisions, abs=1e-9, nan_ok=True)


def slow_setting(
    similarities: Sequence[float], positives: Sequence[int], ignored: Sequence[int]
) -> tuple[float, float, float, float]:
    """AP and precision at 1, 5, 10 by walking down the ranking and drawing each trapezoid."""
    order = sorted(range(len(similarities)), key=lambda row: (-similarities[row], row))
    ranking = [row in positives for row in order if row not in ignored]
    if not positives:
        return NAN, NAN, NAN, NAN
    area, hits, recall, precision = 0.0, 0, 0.0, 1.0
    precisions = []
    for place, hit in enumerate(ranking, start=1):
        hits += hit
        if hit:
            area += (hits / len(positives) - recall) * (precision + hits / place) / 2
            recall = hits / len(positives)
        precision = hits / place
        precisions.append(precision)
        if hits == len(positives):
            break
    at_1, at_5, at_10 = (precisions[min(k, len(precisions)) - 1] for k in (1, 5, 10))
    return area, at_1, at_5, at_10


@st.composite
def labelled_similarities(draw: st.DrawFn) -> tuple[npt.NDArray[np.float64], list[QueryGroundTruth]]:
    queries, database = draw(st.integers(1, 3)), draw(st.integers(1, 25))
    # few distinct values, so that ties are common
    value = st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.5, 1.0])
    similarities = draw(st.lists(value, min_size=queries * database, max_size=queries * database))
    truth = []
    for _ in range(queries):
        labels = draw(st.lists(st.sampled_from("ehj---"), min_size=database, max_size=database))
        truth.append(
            QueryGroundTruth(*(tuple(row for row, label in enumerate(labels) if label == one) for one in "ehj"))
        )
    return np.array(similarities).reshape(queries, database), truth


@settings(max_examples=200, deadline=None)
@given(labelled_similarities())
def test_equals_a_slow_loop(case: tuple[npt.NDArray[np.float64], list[QueryGroundTruth]]) -> None:
    similarities, truth = case
    report = evaluate_revisited(similarities, truth)
    split = {
        "easy": [(one.easy, (*one.hard, *one.junk)) for one in truth],
        "medium": [((*one.easy, *one.hard), one.junk) for one in truth],
        "hard": [(one.hard, (*one.easy, *one.junk)) for one in truth],
    }
    for name, measured in settings_of(report).items():
        expected = np.array(
            [slow_setting(row, *one) for row, one in zip(similarities.tolist(), split[name], strict=True)]
        )
        assert measured.average_precisions == pytest.approx(expected[:, 0], nan_ok=True)
        present = expected[~np.isnan(expected[:, 0])]
        means = present.mean(axis=0) if len(present) else np.full(4, NAN)
        found = (
            measured.mean_average_precision,
            measured.mean_precision_at_1,
            measured.mean_precision_at_5,
            measured.mean_precision_at_10,
        )
        assert found == pytest.approx(means, nan_ok=True)


@settings(max_examples=50, deadline=None)
@given(labelled_similarities(), st.floats(0.1, 10), st.floats(-3, 3))
def test_only_the_order_counts(
    case: tuple[npt.NDArray[np.float64], list[QueryGroundTruth]], factor: float, shift: float
) -> None:
    similarities, truth = case
    original = settings_of(evaluate_revisited(similarities, truth))
    for name, measured in settings_of(evaluate_revisited(np.exp(factor * similarities + shift), truth)).items():
        assert measured.average_precisions == pytest.approx(original[name].average_precisions, nan_ok=True)


def test_average_precision_by_hand() -> None:
    assert average_precision(np.array([0, 1, 2])) == 1.0
    assert average_precision(np.array([1])) == pytest.approx((0 + 1 / 2) / 2)
    # first: 1 before and at place 1; second, at place 3: 1/2 before, 2/3 there
    assert average_precision(np.array([0, 2])) == pytest.approx((1 + (1 / 2 + 2 / 3) / 2) / 2)
    assert math.isnan(average_precision(np.array([], np.intp)))


def test_precision_stops_at_the_last_positive() -> None:
    ranks = np.array([0, 2])
    assert precision_at(1, ranks) == 1.0
    assert precision_at(2, ranks) == 0.5
    assert precision_at(10, ranks) == pytest.approx(2 / 3)
    assert math.isnan(precision_at(5, np.array([], np.intp)))


def test_ignored_images_leave_no_gap() -> None:
    assert ranks_without_ignored([7, 2, 4], [0, 3, 9]).tolist() == [1, 2, 5]
    assert ranks_without_ignored([], [1]).tolist() == []
    assert ranks_without_ignored([5], []).tolist() == [5]


def test_ties_go_by_database_order() -> None:
    same = np.ones((1, 4))
    assert evaluate_revisited(same, [QueryGroundTruth((0,), (), ())]).easy.mean_average_precision == 1.0
    last = evaluate_revisited(same, [QueryGroundTruth((3,), (), ())]).easy.mean_average_precision
    assert last == pytest.approx((0 + 1 / 4) / 2)


def test_queries_without_a_positive_are_left_out_of_the_means() -> None:
    similarities = np.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    report = evaluate_revisited(similarities, [QueryGroundTruth((0,), (), (1,)), QueryGroundTruth((), (1,), (0,))])
    assert report.easy.mean_average_precision == 1.0
    assert report.easy.average_precisions[0] == 1.0
    assert math.isnan(report.easy.average_precisions[1])
    assert report.medium.average_precisions == (1.0, 1.0)


def test_no_positive_at_all_has_no_mean() -> None:
    report = evaluate_revisited(np.ones((1, 2)), [QueryGroundTruth((), (), (0, 1))])
    for measured in settings_of(report).values():
        assert math.isnan(measured.mean_average_precision)
        assert math.isnan(measured.mean_precision_at_10)
    nothing = evaluate_revisited(np.ones((0, 2)), [])
    assert math.isnan(nothing.medium.mean_average_precision)
    assert nothing.medium.average_precisions == ()


def test_infinities_rank_but_nan_does_not() -> None:
    truth = [QueryGroundTruth((1,), (), ())]
    assert evaluate_revisited([[0.0, math.inf]], truth).easy.mean_average_precision == 1.0
    with pytest.raises(UsageError) as refusal:
        evaluate_revisited([[0.0, NAN]], truth)
    assert str(refusal.value) == ("`similarities` holds NaN for query 0; an embedding that is not finite has no rank.")


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(UsageError, match=r"shape \(1, 2\), but there are 2 queries"):
        evaluate_revisited(np.ones((1, 2)), [QueryGroundTruth((), (), ())] * 2)
    with pytest.raises(UsageError, match=r"shape \(2,\)"):
        evaluate_revisited(np.ones(2), [QueryGroundTruth((), (), ())])


def test_a_row_beyond_the_database_is_refused() -> None:
    with pytest.raises(DatasetError) as refusal:
        evaluate_revisited(np.ones((1, 3)), [QueryGroundTruth((0,), (), (3,))])
    assert str(refusal.value) == (
        "the ground truth of query 0 names database row 3, but the database has 3 images; "
        "use the database that it was made for."
    )


def test_a_ground_truth_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(DatasetError, match="labels database row 4 twice; label it once"):
        QueryGroundTruth((1, 4), (2,), (4,))
    with pytest.raises(DatasetError, match="names database row -1; rows are counted from 0"):
        QueryGroundTruth((-1,), (), ())
