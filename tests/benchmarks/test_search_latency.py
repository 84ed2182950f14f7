"""How long a search takes: who takes turns, with which queries, and what is said of each way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from aml_edge.approximate.building import build_approximate
from aml_edge.approximate.searches import ApproximateSearches
from aml_edge.approximate.specification import ApproximateSpec, approximate_spec
from aml_edge.benchmarks import search_latency
from aml_edge.benchmarks.latency import LatencyPlan
from aml_edge.benchmarks.search_latency import time_searches
from aml_edge.index import TeacherIndex
from aml_edge.search import top_k

Rows = npt.NDArray[np.float32]
PLAN = LatencyPlan(warm_up_runs=1, warm_up_seconds=0, rounds=3, turn_runs=2, turn_seconds=0)
FLAT, LISTS = ApproximateSpec("Flat"), approximate_spec("IVF10,Flat:nprobe=1")


@pytest.fixture
def rows() -> Rows:
    drawn = np.random.default_rng(0).normal(size=(60, 8))
    unit: Rows = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    return unit


@pytest.fixture
def index(write_rows: Callable[..., TeacherIndex], rows: Rows, tmp_path: Path) -> TeacherIndex:
    index = write_rows(tmp_path / "index", rows)
    for spec in (FLAT, LISTS):
        build_approximate(index, spec)
    return index


def test_each_way_is_timed_as_often_as_planned(index: TeacherIndex, rows: Rows, progress: Any) -> None:
    searches = ApproximateSearches((FLAT, LISTS)).open(index)
    report = time_searches(rows[:7], index, searches.databases, PLAN, progress)
    assert (report.rows, report.dimension, report.queries, report.nearest) == (60, 8, 7, 10)
    assert [one.name for one in report.times] == ["exact", "Flat", "IVF10,Flat:nprobe=1"]
    assert [one.latency.runs for one in report.times] == [6, 6, 6]
    assert all(0 < one.latency.p50_ms <= one.latency.p90_ms for one in report.times)
    assert report.times[0].size_bytes == 60 * 8 * 4
    assert report.times[1].size_bytes == (index.path / "approximate" / "Flat" / "vectors.faiss").stat().st_size
    assert progress.announced == [("searching, by turns", 12)]
    assert progress.done == 12


def test_recall_is_the_share_of_the_exact_ten(index: TeacherIndex, rows: Rows, progress: Any) -> None:
    searches = ApproximateSearches((FLAT, LISTS)).open(index)
    exact, flat, lists = time_searches(rows[:7], index, searches.databases, PLAN, progress).times
    assert exact.recall == flat.recall == 1
    found = searches.databases[1].search(rows[:7], 10).rows
    nearest = np.argsort(-(rows[:7] @ rows.T), axis=1)[:, :10]
    shares = [len({*ours.tolist()} & {*theirs.tolist()}) / 10 for ours, theirs in zip(nearest, found, strict=True)]
    assert lists.recall == pytest.approx(np.mean(shares))


def test_every_query_has_its_turn(
    index: TeacherIndex, rows: Rows, progress: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def noted(query: Rows, *arguments: Any) -> Any:
        assert query.shape == (1, 8)
        asked.append(float(query[0, 0]))
        return top_k(query, *arguments)

    monkeypatch.setattr(search_latency, "top_k", noted)
    time_searches(rows[:4], index, (), PLAN, progress)
    expected = [float(rows[place % 4, 0]) for place in range(1 + 3 * (1 + 2))]
    assert asked == expected  # one call of warm-up; in each of three turns one untimed and two timed ones
