"""Rows taking turns: short ones, in rounds, each round in another order, so that all meet the same load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from aml_edge.benchmarks.latency import LatencyPlan
from aml_edge.benchmarks.worker import Worker
from aml_edge.progress import Progress

Key = TypeVar("Key")
Turns = tuple[tuple[int, ...], ...]
"""Nanoseconds of each timed call, by round."""

MS_PER_SECOND = 1e3


def take_turns(
    workers: Mapping[Key, Worker], plan: LatencyPlan, progress: Progress, *, seed: int = 0
) -> dict[Key, Turns]:
    """Returns the turns of each row, by round; the order within each round is drawn anew.

    Args:
        workers: the rows.
        plan: how many rounds, and how long a turn.
        progress: told of each turn, and at first how long all will last, by plan and warm-up.
        seed: of the orders.
    """
    generator = np.random.default_rng(seed)
    keys = list(workers)
    taken: dict[Key, list[tuple[int, ...]]] = {key: [] for key in keys}
    expected = plan.rounds * expected_round_seconds(list(workers.values()), plan)
    with progress.task(f"timing, about {expected:.0f} s", plan.rounds * len(keys)) as task:
        for _ in range(plan.rounds):
            for place in generator.permutation(len(keys)):
                taken[keys[place]].append(workers[keys[place]].take_turn(plan))
                task.advance()
    return {key: tuple(turns) for key, turns in taken.items()}


def expected_round_seconds(workers: Sequence[Worker], plan: LatencyPlan) -> float:
    """Returns how long one round of these rows lasts, by what their warm-up took."""
    return sum(plan.expected_turn_seconds(worker.fresh_start.warm_ms / MS_PER_SECOND) for worker in workers)
