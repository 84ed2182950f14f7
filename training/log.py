"""The log of a run: one line a step in `log.csv`, one line an epoch in `epochs.csv`, and both for TensorBoard.

The two files hold nothing that depends on time, and a run that goes on cuts off the lines after its state: so a run
that was killed ends with the same bytes as one that was not.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from aml_edge.files import write_text_atomically
from aml_edge.training.loop import StepRecord

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


class RunLog:
    """The open log of a run.

    Args:
        run: the run folder.
        after_step: the state that the run goes on from; lines of later steps are cut off. 0 begins new files.
        writes: False in a process that leaves it to another one.
    """

    def __init__(self, run: Path, *, after_step: int = 0, writes: bool = True) -> None:
        from tensorboardX import SummaryWriter

        self._writes = writes
        if not writes:
            return
        run.mkdir(parents=True, exist_ok=True)
        self._steps = _opened(run / STEP_LOG, [field.name for field in fields(StepRecord)], after_step)
        self._epochs = _opened(run / EPOCH_LOG, [field.name for field in fields(EpochRecord)], after_step)
        self._board: Any = SummaryWriter(str(run / TENSORBOARD_FOLDER), purge_step=after_step + 1, max_queue=1000)

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
            self._board.add_scalar(name, value, record.step)

    def epoch(self, record: EpochRecord) -> None:
        """Writes one epoch."""
        _write(self._epochs, record)
        self._board.add_scalar("train/epoch_loss", record.training_loss, record.step)
        if record.validation_loss is not None:
            self._board.add_scalar("validation/loss", record.validation_loss, record.step)

    def sync(self) -> None:
        """Puts what was written so far through to the disk, before a state is saved that counts on it."""
        for stream in (self._steps, self._epochs):
            os.fsync(stream.fileno())

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
    rows = _rows(run / STEP_LOG)
    return [StepRecord(*(int(value) for value in row[:4]), *(float(value) for value in row[4:])) for row in rows]


def read_epochs(run: Path) -> list[EpochRecord]:
    """Returns the epochs that a run has logged; none where it has no log."""
    return [
        EpochRecord(int(row[0]), int(row[1]), float(row[2]), float(row[3]) if row[3] else None, row[4] == "True")
        for row in _rows(run / EPOCH_LOG)
    ]


def _opened(path: Path, names: Sequence[str], after_step: int) -> IO[str]:
    """Returns the file, open for appending, with its heading and the lines up to a step."""
    place = names.index("step")
    kept = [row for row in _rows(path) if int(row[place]) <= after_step]
    write_text_atomically(path, "".join(",".join(row) + "\n" for row in (list(names), *kept)))
    return path.open("a", encoding="utf-8", buffering=1, newline="\n")


def _rows(path: Path) -> list[list[str]]:
    """Returns the whole lines of a file after its heading; a line that was cut off is none."""
    if not path.is_file():
        return []
    whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
    return list(csv.reader(whole.splitlines()))[1:]


def _write(stream: IO[str], record: StepRecord | EpochRecord) -> None:
    stream.write(",".join("" if value is None else repr(value) for value in astuple(record)) + "\n")
