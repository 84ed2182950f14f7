"""Rows of stand-in workers: what becomes of their turns, and of those that cannot run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from aml_edge.benchmarks.latency import LatencyPlan
from aml_edge.benchmarks.rows import Row
from aml_edge.benchmarks.timing import TimedRow, time_rows
from aml_edge.benchmarks.worker import FreshStart, Throughput
from aml_edge.errors import BenchmarkError, RuntimeUnavailableError
from aml_edge.progress import SilentProgress

MS = 1_000_000
PLAN = LatencyPlan(warm_up_runs=1, warm_up_seconds=0, rounds=4, turn_runs=3, turn_seconds=0)
Log = list[tuple[str, str]]
Run = Callable[..., tuple[TimedRow, ...]]


@pytest.fixture
def log() -> Log:
    """What was asked of the workers."""
    return []


@pytest.fixture
def run(stand_in_worker: Any, stand_in_subject: Any, log: Log) -> Run:
    """Returns a function that times rows of (label, times in ms by number of threads, device, reason not to run)."""

    def time(
        *rows: tuple[str, dict[int | None, Sequence[float]]],
        failing: dict[str, Exception] | None = None,
        batch: dict[str, float] | None = None,
        devices: dict[str, str] | None = None,
        not_run: dict[str, str] | None = None,
    ) -> tuple[TimedRow, ...]:
        times = {f"{label} {threads}": ms for label, by_threads in rows for threads, ms in by_threads.items()}

        def start(subject: Any, plan: LatencyPlan) -> Any:
            assert plan is PLAN
            log.append((subject.name, "started"))
            if failing and subject.name in failing:
                raise failing[subject.name]
            turns = [[round(one * MS)] * 3 for one in times[subject.name]]
            return stand_in_worker(subject.name, turns, throughput=(batch or {}).get(subject.name), log=log)

        planned = [
            Row(
                label=label,
                runtime="test",
                device=(devices or {}).get(label, "cpu"),
                artifact=None,
                subjects=tuple((threads, stand_in_subject(f"{label} {threads}")) for threads in by_threads),
                not_run=(not_run or {}).get(label),
            )
            for label, by_threads in rows
        ]
        return time_rows(planned, PLAN, start, SilentProgress())

    return time


def test_latency_is_over_all_calls_of_all_turns(run: Run) -> None:
    (row,) = run(("torch", {1: [10, 20, 30, 40]}))
    (report,) = row.by_threads
    assert (report.threads, report.latency.runs) == (1, 12)
    assert report.latency.p50_ms == 25
    assert report.latency.seconds == pytest.approx(0.3)
    assert report.fresh_start == FreshStart(10.0, 5.0, 1.0, 1000, None)
    assert (row.refusal, row.throughput) == (None, None)


def test_speed_ups_are_over_the_first_row_with_the_same_threads(run: Run) -> None:
    rows = run(("torch", {1: [90], 2: [60]}), ("onnx", {1: [30], 2: [15]}))
    assert [one.speed_up for one in rows[0].by_threads] == [None, None]
    speed_ups = [one.speed_up for one in rows[1].by_threads]
    assert [one and one.value for one in speed_ups] == [3, 4]
    assert [one and one.rounds for one in speed_ups] == [4, 4]


def test_speed_ups_are_taken_within_rounds(run: Run) -> None:
    rows = run(("torch", {1: [10, 20, 30, 80]}), ("onnx", {1: [5, 10, 15, 40]}))
    found = rows[1].by_threads[0].speed_up
    assert found is not None
    assert (found.value, found.low, found.high) == (2, 2, 2)


def test_a_smaller_precision_is_compared_with_fp32_round_by_round(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aml_edge.benchmarks.timing.fp32_place", lambda rows, row: 1 if row.label == "int8" else None)
    rows = run(("torch", {1: [90], 2: [60]}), ("fp32", {1: [10, 20, 30, 80], 2: [9]}), ("int8", {1: [5, 10, 15, 40]}))
    assert [one.over_fp32 for row in rows[:2] for one in row.by_threads] == [None] * 4
    found = rows[2].by_threads[0].over_fp32
    assert found is not None
    assert (found.value, found.low, found.high, found.rounds) == (2, 2, 2, 4)


def test_a_row_that_chooses_its_threads_is_compared_with_the_most(run: Run) -> None:
    rows = run(("torch", {1: [90], 4: [40]}), ("coreml", {None: [8]}))
    (report,) = rows[1].by_threads
    assert report.threads is None
    assert report.speed_up is not None and report.speed_up.value == 5


def test_without_a_reference_there_is_no_speed_up(run: Run) -> None:
    rows = run(("torch", {}), ("onnx", {1: [30]}), not_run={"torch": "it was not found"})
    assert (rows[0].by_threads, rows[0].refusal) == ((), "it was not found")
    (report,) = rows[1].by_threads
    assert report.speed_up is None


def test_batches_go_through_the_worker_with_the_most_threads(run: Run, log: Log) -> None:
    rows = run(
        ("torch", {1: [9], 2: [6]}),
        ("torch, cuda", {None: [1]}),
        ("onnx", {1: [5], 2: [3]}),
        batch={"torch 2": 12.5, "torch, cuda None": 999.0},
        devices={"torch, cuda": "cuda"},
    )
    assert [row.throughput for row in rows] == [Throughput(12.5, 8, 3), Throughput(999.0, 32, 3), None]
    assert [entry for entry in log if entry[1].startswith("batch")] == [
        ("torch 2", "batch of 8"),
        ("torch, cuda None", "batch of 32"),
        ("onnx 2", "batch of 8"),
    ]


def test_all_start_before_any_turn_and_all_end(run: Run, log: Log) -> None:
    run(("torch", {1: [9]}), ("onnx", {1: [5]}))
    assert log[:2] == [("torch 1", "started"), ("onnx 1", "started")]
    assert [name for name, what in log if what == "turn"].count("onnx 1") == 4
    assert {entry for entry in log if entry[1] == "closed"} == {("torch 1", "closed"), ("onnx 1", "closed")}
    assert [what for _, what in log[-2:]] == ["closed", "closed"]


@pytest.mark.parametrize("error", [RuntimeUnavailableError("only on a Mac."), BenchmarkError("the process died.")])
def test_a_row_that_cannot_start_says_why_and_the_others_go_on(run: Run, log: Log, error: Exception) -> None:
    rows = run(("torch", {1: [9]}), ("coreml", {1: [5], 2: [4]}), ("onnx", {1: [3]}), failing={"coreml 1": error})
    assert (rows[1].by_threads, rows[1].throughput, rows[1].refusal) == ((), None, str(error))
    assert [len(row.by_threads) for row in rows] == [1, 0, 1]
    speed_up = rows[2].by_threads[0].speed_up
    assert speed_up is not None and speed_up.value == 3
    assert ("coreml 2", "started") not in log


def test_a_row_that_fails_with_more_threads_is_not_run_at_all(run: Run, log: Log) -> None:
    rows = run(("torch", {1: [9], 2: [5]}), failing={"torch 2": BenchmarkError("no memory.")})
    assert (rows[0].by_threads, rows[0].refusal) == ((), "no memory.")
    assert ("torch 1", "turn") not in log
    assert ("torch 1", "closed") in log


def test_a_row_known_not_to_run_is_never_started(run: Run, log: Log) -> None:
    rows = run(("torch", {1: [9]}), ("mil", {1: [5]}), not_run={"mil": "simulated"})
    assert (rows[1].by_threads, rows[1].refusal) == ((), "simulated")
    assert not [entry for entry in log if entry[0].startswith("mil")]


def test_all_workers_end_when_something_else_goes_wrong(run: Run, log: Log) -> None:
    with pytest.raises(ZeroDivisionError):
        run(("torch", {1: [9]}), ("onnx", {1: [5]}), failing={"onnx 1": ZeroDivisionError()})
    assert ("torch 1", "closed") in log


def test_no_rows_take_no_time(run: Run) -> None:
    assert run() == ()
