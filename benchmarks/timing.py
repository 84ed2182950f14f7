"""`time_rows`: starts the workers of all rows, lets them take turns, and says what each row took."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from aml_edge.benchmarks.latency import LatencyPlan, LatencyReport, summarise
from aml_edge.benchmarks.rows import Row, fp32_place
from aml_edge.benchmarks.speedup import SpeedUp, measure_speed_up
from aml_edge.benchmarks.student_subject import CPU
from aml_edge.benchmarks.subject import Subject
from aml_edge.benchmarks.turns import Turns, take_turns
from aml_edge.benchmarks.worker import FreshStart, Throughput, Worker
from aml_edge.errors import BenchmarkError, RuntimeUnavailableError
from aml_edge.progress import Progress

CPU_BATCH, GPU_BATCH = 8, 32
REFERENCE = 0
"""The place of the student on the CPU among the rows of a group."""

StartWorker = Callable[[Subject, LatencyPlan], Worker]
Place = tuple[int, int]
"""A row, and which of its numbers of threads."""


@dataclass(frozen=True)
class ThreadsReport:
    """A row with one number of threads.

    Args:
        threads: None where the device or the runtime decides.
        fresh_start: what its process met.
        latency: of one image a call.
        speed_up: over PyTorch eager; None for PyTorch eager itself, or where there is none.
        over_fp32: over the fp32 file of the same format in the same runtime; None for that itself, or where there is
            none.
    """

    threads: int | None
    fresh_start: FreshStart
    latency: LatencyReport
    speed_up: SpeedUp | None
    over_fp32: SpeedUp | None = None


@dataclass(frozen=True)
class TimedRow:
    """What a row took.

    Args:
        by_threads: fewest threads first; empty where it was not run.
        throughput: in batch, with the most threads; None where the runtime takes one image a call, or was not run.
        refusal: why it was not run, or None.
    """

    by_threads: tuple[ThreadsReport, ...]
    throughput: Throughput | None
    refusal: str | None


def time_rows(
    rows: Sequence[Row], plan: LatencyPlan, start_worker: StartWorker, progress: Progress
) -> tuple[TimedRow, ...]:
    """Returns what each row took; a row that cannot run here says why, the others go on.

    Workers start one after the other, so that none disturbs another's start, take turns all together, and go through
    batches one after the other.

    Args:
        rows: of one group; the first is the student on the CPU, which the others are compared with.
        plan: how often and how long.
        start_worker: makes a worker of a subject.
        progress: told of each start and each turn.

    Raises:
        BenchmarkError: a process died after it had started.
    """
    with ExitStack() as stack:
        workers, refusals = _start(rows, plan, start_worker, progress, stack)
        turns = take_turns(workers, plan, progress)
        throughputs = {number: _throughput(row, number, workers) for number, row in enumerate(rows)}
        starts = {place: worker.fresh_start for place, worker in workers.items()}
    return tuple(
        TimedRow(_by_threads(rows, number, starts, turns), throughputs[number], refusals.get(number))
        for number in range(len(rows))
    )


def _start(
    rows: Sequence[Row], plan: LatencyPlan, start_worker: StartWorker, progress: Progress, stack: ExitStack
) -> tuple[dict[Place, Worker], dict[int, str]]:
    """Returns a worker for each row and number of threads, closed by the stack, and the refusals of the other rows."""
    workers: dict[Place, Worker] = {}
    refusals = {number: row.not_run for number, row in enumerate(rows) if row.not_run is not None}
    with progress.task("starting", sum(len(row.subjects) for row in rows)) as task:
        for number, row in enumerate(rows):
            for place, (_, subject) in enumerate(row.subjects):
                task.advance(0, status=row.label)
                if number not in refusals:
                    try:
                        worker = start_worker(subject, plan)
                    except (RuntimeUnavailableError, BenchmarkError) as error:
                        refusals[number] = str(error)
                    else:
                        stack.callback(worker.close)
                        workers[number, place] = worker
                task.advance(status=row.label)
    return {place: worker for place, worker in workers.items() if place[0] not in refusals}, refusals


def _throughput(row: Row, number: int, workers: Mapping[Place, Worker]) -> Throughput | None:
    widest = (number, len(row.subjects) - 1)
    if widest not in workers:
        return None
    return workers[widest].measure_throughput(CPU_BATCH if row.device == CPU else GPU_BATCH)


def _by_threads(
    rows: Sequence[Row], number: int, starts: Mapping[Place, FreshStart], turns: Mapping[Place, Turns]
) -> tuple[ThreadsReport, ...]:
    reports = []
    fp32 = fp32_place(rows, rows[number])
    for place, (threads, _) in enumerate(rows[number].subjects):
        if (number, place) in turns:
            taken = turns[number, place]
            reports.append(
                ThreadsReport(
                    threads=threads,
                    fresh_start=starts[number, place],
                    latency=summarise([one for turn in taken for one in turn]),
                    speed_up=None if number == REFERENCE else _speed_up(rows, REFERENCE, threads, taken, turns),
                    over_fp32=None if fp32 is None else _speed_up(rows, fp32, threads, taken, turns),
                )
            )
    return tuple(reports)


def _speed_up(
    rows: Sequence[Row], reference: int, threads: int | None, taken: Turns, turns: Mapping[Place, Turns]
) -> SpeedUp | None:
    """Returns the speed-up over a row with so many threads, with the most where None is asked for; None without it."""
    subjects = rows[reference].subjects
    fitting = [place for place, (count, _) in enumerate(subjects) if threads in (None, count)]
    there = turns.get((reference, fitting[-1])) if fitting else None
    return None if there is None else measure_speed_up(there, taken)
