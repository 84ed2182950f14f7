"""How long one query's search of an index takes: exact, and by each of its approximate indexes, by turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
import torch

from aml_edge.approximate.cost import found_shares
from aml_edge.approximate.database import ApproximateDatabase
from aml_edge.approximate.faiss_engine import faiss_threads
from aml_edge.benchmarks.latency import LatencyPlan, LatencyReport, summarise, time_turn, time_warm_up
from aml_edge.embedder import Embeddings
from aml_edge.index import TeacherIndex
from aml_edge.progress import Progress
from aml_edge.search import TopK, top_k

EXACT = "exact"
NEAREST = 10
"""How many images a timed search finds."""


@dataclass(frozen=True)
class SearchTimes:
    """One way to search.

    Args:
        name: ``"exact"``, or the factory and the parameters of an approximate search.
        size_bytes: of what is searched: the rows, or the structure.
        threads: of one search.
        recall: mean share of the exact search's nearest ten that it finds; None where there are no more than ten rows.
        latency: of one query a call.
    """

    name: str
    size_bytes: int
    threads: int
    recall: float | None
    latency: LatencyReport


@dataclass(frozen=True)
class SearchReport:
    """All ways to search an index, exact first.

    Args:
        rows, dimension: of the index.
        queries: how many different ones took turns.
        nearest: how many images each search found.
        times: of each way.
    """

    rows: int
    dimension: int
    queries: int
    nearest: int
    times: tuple[SearchTimes, ...]


def time_searches(
    queries: Embeddings,
    index: TeacherIndex,
    databases: Sequence[ApproximateDatabase],
    plan: LatencyPlan,
    progress: Progress,
    *,
    seed: int = 0,
) -> SearchReport:
    """Returns how long one query takes, exactly and by each approximate index, in rounds whose order is drawn anew.

    Args:
        queries: (Q, D), which take turns.
        index: searched exactly, as `aml-edge search` does; its rows stay in the system's cache.
        databases: its approximate indexes, in memory.
        plan: how often and how long.
        progress: told of each turn.
        seed: of the orders.
    """
    rows = index.checked_embeddings
    searches: list[Callable[[Embeddings], TopK]] = [lambda one: top_k(one, rows, NEAREST)]
    searches += [_search(database) for database in databases]
    calls = [_call(search, queries) for search in searches]
    taken: list[list[int]] = [[] for _ in calls]
    generator = np.random.default_rng(seed)
    with progress.task("searching, by turns", (1 + plan.rounds) * len(calls)) as task:
        for call in calls:
            time_warm_up(call, plan)
            task.advance()
        for _ in range(plan.rounds):
            for place in generator.permutation(len(calls)):
                taken[place] += time_turn(calls[place], plan)
                task.advance()
    latencies = [summarise(times) for times in taken]
    exact = SearchTimes(EXACT, index.embeddings.nbytes, torch.get_num_threads(), 1.0, latencies[0])
    approximate = tuple(
        SearchTimes(
            name=database.description,
            size_bytes=sum(part.record.size_bytes for part in database.parts),
            threads=faiss_threads(),
            recall=next((one.mean for one in found_shares(queries, database, rows) if one.k == NEAREST), None),
            latency=latency,
        )
        for database, latency in zip(databases, latencies[1:], strict=True)
    )
    count, dimension = index.embeddings.shape
    return SearchReport(count, dimension, len(queries), NEAREST, (exact, *approximate))


def _search(database: ApproximateDatabase) -> Callable[[Embeddings], TopK]:
    return lambda one: database.search(one, NEAREST)


def _call(search: Callable[[Embeddings], TopK], queries: Embeddings) -> Callable[[], TopK]:
    """Returns a call that searches with the next query each time."""
    asking: Iterator[int] = cycle(range(len(queries)))

    def call() -> TopK:
        place = next(asking)
        return search(queries[place : place + 1])

    return call
