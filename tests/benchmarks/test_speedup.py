"""Speed-ups of turns whose ratios are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from aml_edge.benchmarks.speedup import measure_speed_up
from aml_edge.errors import UsageError


def test_twice_as_fast_in_every_round_is_two_without_doubt() -> None:
    loads = (1, 3, 1, 9)  # what the machine did in each round slowed both down
    slow = [[200 * load, 220 * load, 210 * load] for load in loads]
    fast = [[105 * load, 90 * load, 120 * load, 105 * load] for load in loads]
    found = measure_speed_up(slow, fast)
    assert (found.value, found.low, found.high, found.rounds) == (2, 2, 2, 4)


def test_is_the_median_of_the_rounds_and_not_of_all_calls() -> None:
    slow = [[100], [100], [6000]]
    fast = [[100], [50], [1000]]
    assert measure_speed_up(slow, fast).value == 2  # of 1, 2 and 6


def test_a_call_that_was_disturbed_changes_no_round() -> None:
    assert measure_speed_up([[40, 40, 9999]], [[10, 10, 10]]).value == 4


def test_each_is_the_other_s_reciprocal() -> None:
    generator = np.random.default_rng(0)
    slow, fast = (generator.integers(low, 2 * low, (9, 5)).tolist() for low in (300, 100))
    forth, back = measure_speed_up(slow, fast), measure_speed_up(fast, slow)
    assert (back.value, back.low, back.high) == pytest.approx(
        (1 / forth.value, 1 / forth.high, 1 / forth.low), rel=0.02
    )


def test_the_interval_holds_95_percent_of_the_resampled_medians() -> None:
    rounds = 19
    # A resampled median is at most the k-th ratio where at least 10 of 19 drawn ones are, each with chance k / 19.
    at_most = {
        k: sum(
            math.comb(rounds, drawn) * (k / rounds) ** drawn * (1 - k / rounds) ** (rounds - drawn)
            for drawn in range(10, 20)
        )
        for k in range(1, rounds + 1)
    }
    low = min(k for k, chance in at_most.items() if chance >= 0.025)
    assert at_most[low - 1] < 0.02 and at_most[low] > 0.04  # far enough from it that 4000 drawings decide nothing
    ratios = range(1, rounds + 1)
    found = measure_speed_up([[1000 * ratio] for ratio in ratios], [[1000]] * rounds)
    assert (found.value, found.low, found.high) == (10, low, rounds + 1 - low)


def test_one_round_has_no_width() -> None:
    found = measure_speed_up([[30]], [[20]])
    assert (found.value, found.low, found.high, found.rounds) == (1.5, 1.5, 1.5, 1)


def test_the_seed_decides_the_interval() -> None:
    generator = np.random.default_rng(1)
    slow, fast = generator.integers(100, 900, (7, 3)).tolist(), generator.integers(50, 400, (7, 3)).tolist()
    assert measure_speed_up(slow, fast, seed=3) == measure_speed_up(slow, fast, seed=3)


@pytest.mark.parametrize(("reference", "turns"), [([[1]], []), ([], []), ([[1], [2]], [[1]])])
def test_rounds_that_do_not_match_are_refused(reference: list[list[int]], turns: list[list[int]]) -> None:
    with pytest.raises(UsageError) as refused:
        measure_speed_up(reference, turns)
    assert str(refused.value) == (f"one row took {len(reference)} turns, the other {len(turns)}; compare whole rounds.")
