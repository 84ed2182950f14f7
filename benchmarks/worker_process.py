"""`WorkerProcess`: a worker in a fresh process, asked over a pipe to take its turns.

Subject, requests and answers are pickles between a process and the one that it started; none is ever stored.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import IO, cast

from aml_edge.benchmarks.latency import LatencyPlan
from aml_edge.benchmarks.subject import Subject
from aml_edge.benchmarks.worker import FreshStart, LocalWorker, Throughput, Worker
from aml_edge.errors import AmlEdgeError, BenchmarkError, RuntimeUnavailableError

# -P: a file beside the user that is named like a library is not that library.
COMMAND = (sys.executable, "-P", "-c", "from aml_edge.benchmarks.worker_process import main; main()")
STANDARD_OUTPUT, STANDARD_ERROR = 1, 2
PATIENCE_SECONDS = 30


@dataclass(frozen=True)
class _Start:
    subject: Subject
    plan: LatencyPlan


@dataclass(frozen=True)
class _Turn:
    plan: LatencyPlan

    def ask(self, worker: Worker) -> object:
        return worker.take_turn(self.plan)


@dataclass(frozen=True)
class _Batches:
    batch_images: int

    def ask(self, worker: Worker) -> object:
        return worker.measure_throughput(self.batch_images)


@dataclass(frozen=True)
class _Refused:
    message: str


class WorkerProcess:
    """A Worker whose subject runs in a process of its own.

    Args:
        subject: what to run.
        plan: gives the warm-up.

    Raises:
        RuntimeUnavailableError: the subject cannot be opened here; the message is its own.
        BenchmarkError: the process died.
    """

    def __init__(self, subject: Subject, plan: LatencyPlan) -> None:
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log)
        try:
            answer = self._ask(_Start(subject, plan))
            if isinstance(answer, _Refused):
                raise RuntimeUnavailableError(answer.message)
        except BaseException:
            self.close()
            raise
        self.fresh_start = cast(FreshStart, answer)

    def take_turn(self, plan: LatencyPlan) -> tuple[int, ...]:
        """Returns the nanoseconds of each timed call of a turn, one image a call."""
        return cast("tuple[int, ...]", self._ask(_Turn(plan)))

    def measure_throughput(self, batch_images: int) -> Throughput | None:
        """Returns what batches reach, or None where the runtime takes one image a call."""
        return cast("Throughput | None", self._ask(_Batches(batch_images)))

    def close(self) -> None:
        """Ends the process; one that does not end by itself is killed."""
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            try:
                stream.close()
            except BrokenPipeError:
                continue
        try:
            self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _ask(self, request: object) -> object:
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None and answers is not None
        try:
            _send(requests, request)
            return pickle.load(answers)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            raise BenchmarkError(self._obituary()) from None

    def _obituary(self) -> str:
        code = self._process.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        last = f"its last words: {lines[-1]}" if lines else "it said nothing"
        return f"the process of a row ended early ({how}); {last}"


def main() -> None:
    """Serves the process that started this one, over standard input and output, until it hangs up."""
    answers = os.fdopen(os.dup(STANDARD_OUTPUT), "wb")
    os.dup2(STANDARD_ERROR, STANDARD_OUTPUT)  # what libraries print must not get between the answers
    serve(sys.stdin.buffer, answers)


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Makes the worker that is asked for first, answers with its fresh start, then answers each request."""
    start = cast(_Start, pickle.load(requests))
    try:
        worker = LocalWorker(start.subject, start.plan)
    except AmlEdgeError as error:
        _send(answers, _Refused(str(error)))
        return
    _send(answers, worker.fresh_start)
    while True:
        try:
            request = cast("_Turn | _Batches", pickle.load(requests))
        except EOFError:
            break
        _send(answers, request.ask(worker))
    worker.close()


def _send(stream: IO[bytes], message: object) -> None:
    pickle.dump(message, stream)
    stream.flush()
