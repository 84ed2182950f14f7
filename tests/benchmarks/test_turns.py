"""Who takes turns when, with workers that note it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from aml_edge.benchmarks.latency import LatencyPlan
from aml_edge.benchmarks.turns import expected_round_seconds, take_turns
from aml_edge.progress import SilentProgress

PLAN = LatencyPlan(rounds=40, turn_runs=2, turn_seconds=0.1)


class RecordingProgress:
    """A Progress that counts."""

    def __init__(self) -> None:
        self.description, self.total, self.done = "", 0, 0

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[RecordingProgress]:
        self.description, self.total = description, total
        yield self

    def advance(self, steps: int = 1, *, status: str = "") -> None:
        self.done += steps


def test_each_row_s_turns_come_back_in_the_order_of_rounds(stand_in_worker: Any) -> None:
    turns = {name: tuple((number * 10 + place, 7) for number in range(40)) for place, name in enumerate("abc")}
    taken = take_turns({name: stand_in_worker(name, turns[name]) for name in "abc"}, PLAN, SilentProgress())
    assert taken == turns


def orders(stand_in_worker: Any, seed: int) -> list[str]:
    """Returns who took turns in each round."""
    log: list[tuple[str, str]] = []
    take_turns({one: stand_in_worker(one, [[1]], log=log) for one in "abc"}, PLAN, SilentProgress(), seed=seed)
    names = "".join(name for name, _ in log)
    return [names[start : start + 3] for start in range(0, len(names), 3)]


def test_every_row_has_one_turn_a_round_in_shuffled_orders(stand_in_worker: Any) -> None:
    rounds = orders(stand_in_worker, 0)
    assert [sorted(one) for one in rounds] == [["a", "b", "c"]] * 40
    assert set(rounds) == {"abc", "acb", "bac", "bca", "cab", "cba"}
    first = Counter(one[0] for one in rounds)
    assert min(first.values()) >= 5  # of 13 expected: nobody is always first


def test_the_seed_decides_the_orders(stand_in_worker: Any) -> None:
    assert orders(stand_in_worker, 3) == orders(stand_in_worker, 3) != orders(stand_in_worker, 4)


def test_the_whole_is_announced_with_how_long_it_will_take(stand_in_worker: Any) -> None:
    progress = RecordingProgress()
    workers = {
        "quick": stand_in_worker("quick", [[1]], warm_ms=20.0),
        "slow": stand_in_worker("slow", [[1]], warm_ms=400),
    }
    take_turns(workers, PLAN, progress)
    # quick: 5 calls fill 0.1 s, one more untimed; slow: two calls, one more untimed; 40 rounds of both
    seconds = 40 * (6 * 0.020 + 3 * 0.400)
    assert progress.description == f"timing, about {seconds:.0f} s"
    assert (progress.done, progress.total) == (80, 80)
    assert expected_round_seconds(list(workers.values()), PLAN) == pytest.approx(seconds / 40)


def test_no_rows_take_no_turns() -> None:
    assert take_turns({}, PLAN, SilentProgress()) == {}
