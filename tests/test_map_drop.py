"""What is lost of asymmetric mAP: against rankings that can be written down, and who chooses and who judges."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from aml_edge.errors import UsageError
from aml_edge.ground_truth import QueryGroundTruth
from aml_edge.map_drop import Drop, Setting, measure_drop, places_with_positive, split_queries

Rows = npt.NDArray[np.float32]

FIRST, SECOND = 1.0, 0.25
"""Trapezoidal average precision of one positive in first and in second place: (1 + 1) / 2 and (0 + 1/2) / 2."""


def at(*degrees: float) -> Rows:
    """Returns unit rows of the plane."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


DATABASE = at(0, 40, 120)
"""A query at 10° finds the first image, at 30° the second one first."""
FIRST_IS_EASY = QueryGroundTruth((0,), (), ())


def test_a_positive_that_falls_to_the_second_place_costs_three_quarters() -> None:
    drop = measure_drop(at(10, 10), at(30, 30), DATABASE, [FIRST_IS_EASY] * 2, range(2))
    assert (drop.points, drop.low, drop.high) == pytest.approx((75.0, 75.0, 75.0))
    assert drop.queries == 2


def test_a_gain_is_below_zero_and_half_of_the_queries_give_half() -> None:
    drop = measure_drop(at(30, 30), at(10, 30), DATABASE, [FIRST_IS_EASY] * 2, range(2))
    assert drop.points == pytest.approx(-37.5)
    assert (drop.low, drop.high) == pytest.approx((-75.0, 0.0))  # of two queries a resample may take either one twice


def test_only_the_named_queries_that_have_a_positive_count() -> None:
    truth = [FIRST_IS_EASY, QueryGroundTruth((), (0,), ()), QueryGroundTruth((), (), (0,)), FIRST_IS_EASY]
    before, after = at(10, 10, 10, 10), at(30, 30, 30, 10)
    medium = measure_drop(before, after, DATABASE, truth, [1, 2, 3])
    assert medium.points == pytest.approx(37.5)
    assert medium.queries == 2
    hard = measure_drop(before, after, DATABASE, truth, [1, 2, 3], setting=Setting.HARD)
    assert hard.points == pytest.approx(75.0)
    assert hard.queries == 1
    assert places_with_positive(truth, Setting.MEDIUM) == (0, 1, 3)
    assert places_with_positive(truth, Setting.HARD) == (1,)


def test_an_embedding_that_is_not_finite_holds_no_budget() -> None:
    broken = at(10, 10)
    broken[1, 0] = np.nan
    drop = measure_drop(at(10, 10), broken, DATABASE, [FIRST_IS_EASY] * 2, range(2))
    assert math.isnan(drop.points) and math.isnan(drop.high)
    assert not drop.holds(100.0)


def test_without_a_positive_there_is_nothing_to_lose() -> None:
    with pytest.raises(UsageError) as refused:
        measure_drop(at(10), at(10), DATABASE, [FIRST_IS_EASY], [0], setting=Setting.HARD)
    assert str(refused.value) == (
        "`queries` are 1, none with a positive of the setting hard; there is no mAP to lose: name a data set with "
        "others."
    )


def test_a_budget_holds_where_the_upper_end_is_within_it() -> None:
    drop = Drop(points=0.1, low=-0.2, high=0.5, queries=30)
    assert drop.holds(0.5)
    assert not drop.holds(0.49)


def test_queries_are_split_in_halves_that_share_none() -> None:
    nothing = QueryGroundTruth((), (), (3,))
    truth = [nothing if number % 3 == 0 else FIRST_IS_EASY for number in range(40)]  # 26 with a positive
    split = split_queries(truth)
    assert (len(split.selection), len(split.verdict)) == (13, 13)
    assert sorted(split.selection + split.verdict) == [number for number in range(40) if number % 3]
    assert list(split.selection) == sorted(split.selection)
    assert split_queries(truth) == split
    assert split_queries(truth, seed=1) != split


def test_one_query_more_judges_where_the_number_is_odd() -> None:
    split = split_queries([FIRST_IS_EASY] * 21)
    assert (len(split.selection), len(split.verdict)) == (10, 11)


def test_too_few_queries_cannot_choose_and_judge() -> None:
    with pytest.raises(UsageError) as refused:
        split_queries([FIRST_IS_EASY] * 19 + [QueryGroundTruth((), (), ())])
    assert str(refused.value) == (
        "`dataset` has 19 queries with a positive; a search chooses by half of them and is judged by the others, which "
        "takes 20: name a data set with more, or say which blocks stay in floating point yourself."
    )
