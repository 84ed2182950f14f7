"""Calls counted on a clock that only the calls move."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from aml_edge.benchmarks.latency import QUICK_PLAN, LatencyPlan, summarise, time_turn, time_warm_up
from aml_edge.errors import UsageError

MS = 1_000_000
"""Nanoseconds."""


class Calls:
    """A call that takes as long as it is told, the last duration for ever, and the clock that it moves."""

    def __init__(self, durations_ns: Iterable[int]) -> None:
        self._durations: Iterator[int] = iter(durations_ns)
        self._duration = 0
        self.now = 17
        self.made = 0

    def __call__(self) -> None:
        self._duration = next(self._durations, self._duration)
        self.now += self._duration
        self.made += 1

    def clock(self) -> int:
        return self.now


def test_the_default_plan_is_a_measurement() -> None:
    plan = LatencyPlan()
    assert plan.warm_up_runs >= 10 and plan.warm_up_seconds >= 0.5
    assert plan.rounds * plan.turn_runs >= 50 and plan.rounds * plan.turn_seconds >= 2
    assert (plan.runs, plan.seconds) == (plan.rounds * plan.turn_runs, plan.rounds * plan.turn_seconds)
    assert plan.is_measurement


@pytest.mark.parametrize(
    "plan",
    [
        LatencyPlan(warm_up_runs=9),
        LatencyPlan(warm_up_seconds=0.49),
        LatencyPlan(rounds=7, turn_runs=7, turn_seconds=1.0),  # 49 runs
        LatencyPlan(rounds=50, turn_runs=1, turn_seconds=0.039),  # 1.95 s
        QUICK_PLAN,
    ],
)
def test_less_is_a_look(plan: LatencyPlan) -> None:
    assert not plan.is_measurement


def test_quick_calls_return_until_the_time_is_over() -> None:
    plan = LatencyPlan(warm_up_runs=10, warm_up_seconds=0.5)
    calls = Calls([20 * MS])
    assert time_warm_up(calls, plan, calls.clock) == (20 * MS,) * 25
    assert calls.made == 25


def test_slow_calls_return_until_there_are_enough() -> None:
    calls = Calls([400 * MS])
    assert time_warm_up(calls, LatencyPlan(), calls.clock) == (400 * MS,) * 10


def test_both_bounds_hold_to_the_last_nanosecond() -> None:
    plan = LatencyPlan(turn_runs=2, turn_seconds=0.01)
    calls = Calls([MS, 5 * MS, 5 * MS - 1, 1, 9 * MS])
    assert time_turn(calls, plan, calls.clock) == (5 * MS, 5 * MS - 1, 1)


def test_a_turn_begins_with_a_call_that_is_not_timed() -> None:
    calls = Calls([900 * MS, 60 * MS, 70 * MS, 80 * MS])
    assert time_turn(calls, LatencyPlan(turn_runs=3, turn_seconds=0.1), calls.clock) == (60 * MS, 70 * MS, 80 * MS)
    assert calls.made == 4


def test_a_turn_without_a_least_time_has_its_calls() -> None:
    calls = Calls([0])
    assert time_turn(calls, LatencyPlan(turn_runs=3, turn_seconds=0), calls.clock) == (0, 0, 0)


def test_a_real_clock_is_the_default() -> None:
    times = time_turn(lambda: sum(range(1000)), LatencyPlan(turn_runs=4, turn_seconds=0.0))
    assert len(times) == 4 and min(times) > 0


@pytest.mark.parametrize("call_ms", [1, 7, 33, 34, 50, 800])
def test_the_expected_length_of_a_turn_is_what_it_takes(call_ms: int) -> None:
    plan = LatencyPlan(turn_runs=3, turn_seconds=0.1)
    calls = Calls([call_ms * MS])
    began = calls.now
    time_turn(calls, plan, calls.clock)
    assert plan.expected_turn_seconds(call_ms / 1000) == pytest.approx((calls.now - began) / 1e9)


def test_calls_that_take_no_time_are_expected_to_fill_the_turn() -> None:
    assert LatencyPlan(turn_runs=3, turn_seconds=0.1).expected_turn_seconds(0.0) == pytest.approx(0.1)


@pytest.mark.parametrize("count", ["warm_up_runs", "rounds", "turn_runs"])
def test_a_plan_without_a_call_is_refused(count: str) -> None:
    with pytest.raises(UsageError, match=rf"{count}=0.*makes no call where it must make one; its counts are at least"):
        replace(LatencyPlan(), **{count: 0})


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: LatencyPlan(warm_up_seconds=-0.1), "warm_up_seconds"),
        (lambda: LatencyPlan(turn_seconds=-0.1), "turn_seconds"),
    ],
)
def test_a_negative_time_is_refused(make: Callable[[], LatencyPlan], field: str) -> None:
    with pytest.raises(UsageError, match=rf"{field}=-0.1.*asks for a negative time; its seconds are at least 0\."):
        make()


def test_percentiles_of_an_even_ladder_are_its_rungs() -> None:
    times = [rung * MS for rung in range(101)]  # 0 … 100 ms: the q-th percentile is q ms
    random.Random(0).shuffle(times)
    report = summarise(times)
    assert (report.runs, report.fastest_ms) == (101, 0)
    assert report.seconds == pytest.approx(5.05)
    assert (report.p50_ms, report.p90_ms, report.p99_ms) == pytest.approx((50, 90, 99))
    assert report.spread == pytest.approx((75 - 25) / 50)


def test_percentiles_are_linear_between_neighbours() -> None:
    report = summarise([10 * MS, 20 * MS])
    assert (report.p50_ms, report.p90_ms, report.p99_ms) == pytest.approx((15, 19, 19.9))
    assert report.spread == pytest.approx((17.5 - 12.5) / 15)


def test_one_call_is_every_percentile() -> None:
    report = summarise([3 * MS])
    assert (report.p50_ms, report.p90_ms, report.p99_ms, report.fastest_ms) == (3, 3, 3, 3)
    assert (report.spread, report.runs) == (0, 1)
    assert report.seconds == pytest.approx(0.003)


def test_twice_the_times_are_twice_the_percentiles_with_the_same_spread() -> None:
    times = np.random.default_rng(0).integers(MS, 9 * MS, 77)
    once, twice = summarise(times.tolist()), summarise((2 * times).tolist())
    assert (twice.p50_ms, twice.p90_ms, twice.p99_ms) == pytest.approx(
        (2 * once.p50_ms, 2 * once.p90_ms, 2 * once.p99_ms)
    )
    assert twice.spread == pytest.approx(once.spread)
