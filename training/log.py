"""The log of a run: one line a step in `log.csv`, one line an epoch in `epochs.csv`, and both for TensorBoard.

The two files hold nothing that depends on time, and a run that goes on cuts off the lines after its state: so a run
that was killed ends with the same bytes as one that was not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import IO, TypeVar

from aml_edge.errors import TrainingError
from aml_edge.files import written_atomically
from aml_edge.training.event_file import EventFile
from aml_edge.training.loop import Position, StepRecord

STEP_LOG, EPOCH_LOG, TENSORBOARD_FOLDER = "log.csv", "epochs.csv", "tensorboard"


@dataclass(frozen=True)
class EpochRecord:
    """How an epoch ended.

    Args:
        epoch, step: from 1 on; the last step of the epoch.
        training_loss: mean over its anchors.
        validation_loss: mean over the validation split's anchors; None where there is no such split.
        best: whether this is the lowest validation loss so far; always where there is none.
    """

    epoch: int
    step: int
    training_loss: float
    validation_loss: float | None
    best: bool


Record = TypeVar("Record", StepRecord, EpochRecord)


class RunLog:
    """The open log of a run.

    Args:
        run: the run folder.
        after: the position that the run goes on from; later lines are cut off. None begins new files.
        writes: False in a process that leaves it to another one.

    Raises:
        TrainingError: the log lacks what was done up to the position.
    """

    def __init__(self, run: Path, *, after: Position | None = None, writes: bool = True) -> None:
        self._writes = writes
        after = after or Position()
        if not writes:
            return
        run.mkdir(parents=True, exist_ok=True)
        steps = _kept(run / STEP_LOG, _step, range(1, after.step + 1))
        epochs = _kept(run / EPOCH_LOG, _epoch, range(1, after.epoch))
        self._steps = _opened(run / STEP_LOG, StepRecord, steps)
        self._epochs = _opened(run / EPOCH_LOG, EpochRecord, epochs)
        self._board = EventFile(run / TENSORBOARD_FOLDER, after_step=after.step)

    def step(self, record: StepRecord, images_per_second: float) -> None:
        """Writes one step."""
        if not self._writes:
            return
        _write(self._steps, record)
        for name, value in (
            ("train/loss", record.loss),
            ("train/learning_rate", record.learning_rate),
            ("train/images_per_second", images_per_second),
        ):
            self._board.scalar(name, value, record.step)

    def epoch(self, record: EpochRecord) -> None:
        """Writes one epoch."""
        _write(self._epochs, record)
        self._board.scalar("train/epoch_loss", record.training_loss, record.step)
        if record.validation_loss is not None:
            self._board.scalar("validation/loss", record.validation_loss, record.step)

    def sync(self) -> None:
        """Puts what was written so far through to the disk, before a state is saved that counts on it."""
        for stream in (self._steps, self._epochs):
            os.fsync(stream.fileno())
        self._board.sync()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._writes:
            return
        self._steps.close()
        self._epochs.close()
        self._board.close()


def read_steps(run: Path) -> list[StepRecord]:
    """Returns the steps that a run has logged; none where it has no log."""
    return [record for _, record in _records(run / STEP_LOG, _step)]


def read_epochs(run: Path) -> list[EpochRecord]:
    """Returns the epochs that a run has logged; none where it has no log."""
    return [record for _, record in _records(run / EPOCH_LOG, _epoch)]


def _kept(path: Path, parse: Callable[[list[str]], Record], done: range) -> list[str]:
    """Returns the lines of what is done; raises `TrainingError` where some are not there."""
    kept: list[tuple[str, Record]] = list(_records(path, parse))[: len(done)]
    if [_number(record) for _, record in kept] != list(done):
        raise TrainingError(
            f"{path} lacks lines up to {done[-1]}, which the state to go on from has done; put it back, or start again "
            "with --overwrite."
        )
    return [line for line, _ in kept]


def _opened(path: Path, kind: type[StepRecord | EpochRecord], lines: list[str]) -> IO[str]:
    """Returns the file, open for appending, with its heading and some lines."""
    heading = ",".join(field.name for field in fields(kind))
    with written_atomically(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(f"{line}\n" for line in (heading, *lines))
        stream.flush()
        os.fsync(stream.fileno())
    return path.open("a", encoding="utf-8", buffering=1, newline="\n")


def _records(path: Path, parse: Callable[[list[str]], Record]) -> Iterator[tuple[str, Record]]:
    """Yields the whole lines after the heading with what they say, up to the first one that is none of ours.

    A process that was killed leaves half a line, and a machine that lost its power leaves anything.
    """
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n")[1:-1]:
        try:
            yield line, parse(line.split(","))
        except ValueError:
            return


def _step(values: list[str]) -> StepRecord:
    step, epoch, anchors, images, loss, rate = values
    return StepRecord(int(step), int(epoch), int(anchors), int(images), float(loss), float(rate))


def _epoch(values: list[str]) -> EpochRecord:
    epoch, step, training, validation, best = values
    judged = float(validation) if validation else None
    return EpochRecord(int(epoch), int(step), float(training), judged, ("False", "True").index(best) == 1)


def _number(record: StepRecord | EpochRecord) -> int:
    return record.step if isinstance(record, StepRecord) else record.epoch


def _write(stream: IO[str], record: StepRecord | EpochRecord) -> None:
    stream.write(",".join("" if value is None else repr(value) for value in astuple(record)) + "\n")
