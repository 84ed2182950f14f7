"""How long one call takes: warm-up, turns of timed calls, and what is said of them.

A turn is short and many turns make a measurement, so that rows that take turns meet the same load of the machine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from aml_edge.errors import UsageError

Clock = Callable[[], int]
"""Nanoseconds since whenever, never going back."""

NS_PER_MS = 1e6
NS_PER_SECOND = 1e9
FEWEST_RUNS, FEWEST_SECONDS = 50, 2.0
FEWEST_WARM_UP_RUNS, FEWEST_WARM_UP_SECONDS = 10, 0.5
"""What a row takes at least before its times count as measured."""


@dataclass(frozen=True)
class LatencyPlan:
    """How often and how long a call is made; both bounds of a pair hold.

    Args:
        warm_up_runs, warm_up_seconds: at least so many calls and so long before anything is timed.
        rounds: turns of each row.
        turn_runs, turn_seconds: at least so many timed calls and so long a turn; one untimed call goes before them.

    Raises:
        UsageError: a count below 1 or a negative time.
    """

    warm_up_runs: int = 10
    warm_up_seconds: float = 0.5
    rounds: int = 20
    turn_runs: int = 3
    turn_seconds: float = 0.1

    def __post_init__(self) -> None:
        if min(self.warm_up_runs, self.rounds, self.turn_runs) < 1:
            raise UsageError(f"{self} makes no call where it must make one; its counts are at least 1.")
        if min(self.warm_up_seconds, self.turn_seconds) < 0:
            raise UsageError(f"{self} asks for a negative time; its seconds are at least 0.")

    @property
    def runs(self) -> int:
        """Timed calls of a row, at least."""
        return self.rounds * self.turn_runs

    @property
    def seconds(self) -> float:
        """Timed seconds of a row, at least."""
        return self.rounds * self.turn_seconds

    @property
    def is_measurement(self) -> bool:
        """Whether rows are warmed up and timed often and long enough to be quoted."""
        warm = self.warm_up_runs >= FEWEST_WARM_UP_RUNS and self.warm_up_seconds >= FEWEST_WARM_UP_SECONDS
        return warm and self.runs >= FEWEST_RUNS and self.seconds >= FEWEST_SECONDS

    def expected_turn_seconds(self, call_seconds: float) -> float:
        """Returns how long a turn of calls that take so long lasts, the untimed one included."""
        calls = self.turn_runs
        if call_seconds <= 0:  # a coarse clock saw nothing
            return self.turn_seconds
        if call_seconds * calls < self.turn_seconds:
            calls = math.ceil(self.turn_seconds / call_seconds)
        return (1 + calls) * call_seconds


QUICK_PLAN = LatencyPlan(warm_up_runs=3, warm_up_seconds=0.1, rounds=5, turn_runs=2, turn_seconds=0.02)
"""A look, not a measurement."""


@dataclass(frozen=True)
class LatencyReport:
    """What the timed calls of a row took.

    Args:
        runs: how many there were.
        seconds: their sum.
        p50_ms, p90_ms, p99_ms: percentiles, linear between neighbours.
        spread: interquartile range as a share of the median.
        fastest_ms: the shortest of them.
    """

    runs: int
    seconds: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    spread: float
    fastest_ms: float


def time_warm_up(call: Callable[[], object], plan: LatencyPlan, clock: Clock = time.perf_counter_ns) -> tuple[int, ...]:
    """Returns the nanoseconds of each call of a warm-up, which meets both of the plan's bounds."""
    return _calls(call, plan.warm_up_runs, plan.warm_up_seconds, clock)


def time_turn(call: Callable[[], object], plan: LatencyPlan, clock: Clock = time.perf_counter_ns) -> tuple[int, ...]:
    """Returns the nanoseconds of each timed call of one turn, after one that is not timed.

    The untimed one brings a row's weights back into the caches that other rows used meanwhile.
    """
    call()
    return _calls(call, plan.turn_runs, plan.turn_seconds, clock)


def summarise(times_ns: Sequence[int]) -> LatencyReport:
    """Returns what is said of the times of one row's calls, in nanoseconds, in any order."""
    assert times_ns, "a row was timed at least once"
    times_ms = np.asarray(times_ns, np.float64) / NS_PER_MS
    low, p50, high, p90, p99 = np.percentile(times_ms, (25, 50, 75, 90, 99))
    return LatencyReport(
        runs=len(times_ms),
        seconds=float(times_ms.sum() * NS_PER_MS / NS_PER_SECOND),
        p50_ms=float(p50),
        p90_ms=float(p90),
        p99_ms=float(p99),
        spread=float((high - low) / p50),
        fastest_ms=float(times_ms.min()),
    )


def _calls(call: Callable[[], object], runs: int, seconds: float, clock: Clock) -> tuple[int, ...]:
    times: list[int] = []
    total = 0
    while len(times) < runs or total < seconds * NS_PER_SECOND:
        before = clock()
        call()
        times.append(clock() - before)
        total += times[-1]
    return tuple(times)
