"""The log of a run: its bytes, how it is cut, and what becomes of a log that is damaged."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aml_edge.errors import TrainingError
from aml_edge.training.log import (
    EPOCH_LOG,
    STEP_LOG,
    TENSORBOARD_FOLDER,
    EpochRecord,
    RunLog,
    read_epochs,
    read_steps,
)
from aml_edge.training.loop import Position, StepRecord

STEPS = [
    StepRecord(step, 1 + (step - 1) // 2, 4 - step % 2, 20 + step, 1 / (3 * step), 1e-3 / step) for step in range(1, 6)
]
EPOCHS = [EpochRecord(1, 2, 0.25, 0.1 + 0.2, best=True), EpochRecord(2, 4, 2 / 3, math.inf, best=False)]
STEP_TEXT = """step,epoch,anchors,images,loss,learning_rate
1,1,3,21,0.3333333333333333,0.001
2,1,4,22,0.16666666666666666,0.0005
3,2,3,23,0.1111111111111111,0.0003333333333333333
4,2,4,24,0.08333333333333333,0.00025
5,3,3,25,0.06666666666666667,0.0002
"""
EPOCH_TEXT = """epoch,step,training_loss,validation_loss,best
1,2,0.25,0.30000000000000004,True
2,4,0.6666666666666666,inf,False
"""


def written(run: Path) -> None:
    """Writes a log of two and a half epochs."""
    with RunLog(run) as log:
        for step in STEPS:
            log.step(step, images_per_second=100.0 * step.step)
            for epoch in EPOCHS:
                if epoch.step == step.step:
                    log.epoch(epoch)


def texts(run: Path) -> tuple[str, str]:
    return (run / STEP_LOG).read_bytes().decode(), (run / EPOCH_LOG).read_bytes().decode()


def lines(text: str, count: int) -> str:
    return "".join(text.splitlines(keepends=True)[:count])


def test_the_files_hold_every_number_as_it_is(tmp_path: Path) -> None:
    written(tmp_path / "new" / "run")
    assert texts(tmp_path / "new" / "run") == (STEP_TEXT, EPOCH_TEXT)
    assert read_steps(tmp_path / "new" / "run") == STEPS
    assert read_epochs(tmp_path / "new" / "run") == EPOCHS


def test_an_epoch_without_validation_has_no_figure_for_it(tmp_path: Path) -> None:
    record = EpochRecord(1, 2, 0.25, None, best=True)
    with RunLog(tmp_path) as log:
        log.epoch(record)
    assert texts(tmp_path)[1].splitlines()[1:] == ["1,2,0.25,,True"]
    assert read_epochs(tmp_path) == [record]


def test_a_folder_without_a_log_has_no_records(tmp_path: Path) -> None:
    assert (read_steps(tmp_path), read_epochs(tmp_path)) == ([], [])


def test_a_new_log_replaces_an_old_one(tmp_path: Path) -> None:
    written(tmp_path)
    with RunLog(tmp_path):
        assert texts(tmp_path) == (lines(STEP_TEXT, 1), lines(EPOCH_TEXT, 1))


def test_a_line_is_there_as_soon_as_it_is_written(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        for count, step in enumerate(STEPS, start=2):
            log.step(step, images_per_second=1.0)
            assert texts(tmp_path)[0] == lines(STEP_TEXT, count)


@pytest.mark.parametrize(
    ("after", "steps", "epochs"),
    [
        (Position(1, 0, 0), 0, 0),
        (Position(1, 1, 1), 1, 0),
        (Position(1, 2, 2), 2, 0),  # the epoch's last step is done, its end is not: it is written again
        (Position(2, 0, 2), 2, 1),
        (Position(2, 1, 3), 3, 1),
        (Position(2, 2, 4), 4, 1),
        (Position(3, 1, 5), 5, 2),
    ],
)
def test_a_log_is_cut_to_what_its_state_has_done(tmp_path: Path, after: Position, steps: int, epochs: int) -> None:
    written(tmp_path)
    with RunLog(tmp_path, after=after) as log:
        assert texts(tmp_path) == (lines(STEP_TEXT, 1 + steps), lines(EPOCH_TEXT, 1 + epochs))
        for step in STEPS[steps:]:
            log.step(step, images_per_second=1.0)
        for epoch in EPOCHS[epochs:]:
            log.epoch(epoch)
    assert texts(tmp_path) == (STEP_TEXT, EPOCH_TEXT)


@pytest.mark.parametrize(
    "tail",
    [b"6,3,4,2", b"6,3,4,26,0.1,1e-", b"6", b"6,3,4,26\n", b"\0\0\0\0\n7,3,4,26,0.1,0.1\n", b"\xff\xfe\n", b"\n\n"],
)
def test_what_was_cut_off_or_is_garbage_is_no_line(tmp_path: Path, tail: bytes) -> None:
    """A process that was killed leaves half a line; a machine that lost its power leaves zeros or worse."""
    written(tmp_path)
    with (tmp_path / STEP_LOG).open("ab") as stream:
        stream.write(tail)
    with (tmp_path / EPOCH_LOG).open("ab") as stream:
        stream.write(tail)
    assert (read_steps(tmp_path), read_epochs(tmp_path)) == (STEPS, EPOCHS)
    with RunLog(tmp_path, after=Position(3, 1, 5)):
        assert texts(tmp_path) == (STEP_TEXT, EPOCH_TEXT)


@pytest.mark.parametrize("name", [STEP_LOG, EPOCH_LOG])
@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "a line missing", "a line twice", "garbage before"])
def test_a_log_that_lacks_what_its_state_has_done_is_refused_and_left_as_it_is(
    tmp_path: Path, name: str, damage: str
) -> None:
    written(tmp_path)
    path = tmp_path / name
    heading, first, *others = path.read_text().splitlines(keepends=True)
    if damage == "gone":
        path.unlink()
    else:
        left = {
            "empty": "",
            "cut": heading + first + others[0][:-1],
            "a line missing": "".join([heading, *others]),
            "a line twice": "".join([heading, first, first, *others]),
            "garbage before": "".join([heading, "garbage\n", first, *others]),
        }
        path.write_text(left[damage])
    before = path.read_bytes() if path.exists() else None
    after = Position(3, 1, 5)
    last = 5 if name == STEP_LOG else 2
    with pytest.raises(TrainingError) as caught:
        RunLog(tmp_path, after=after)
    assert str(caught.value) == (
        f"{path} lacks lines up to {last}, which the state to go on from has done; put it back, or start again with "
        "--overwrite."
    )
    assert (path.read_bytes() if path.exists() else None) == before


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_can_be_read_as_a_log(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    run = tmp_path_factory.getbasetemp()
    (run / STEP_LOG).write_bytes(STEP_TEXT.encode() + content)
    (run / EPOCH_LOG).write_bytes(EPOCH_TEXT.encode() + content)
    assert (read_steps(run)[:5], read_epochs(run)[:2]) == (STEPS, EPOCHS)


class Board:
    """In place of an `EventFile`: what it was told."""

    def __init__(self, folder: Path, *, after_step: int) -> None:
        self.told: list[tuple[str, float, int]] = []
        self.begun = (folder, after_step)
        self.synced = 0
        boards.append(self)

    def scalar(self, name: str, value: float, step: int) -> None:
        self.told.append((name, value, step))

    def sync(self) -> None:
        self.synced += 1

    def close(self) -> None:
        self.told.append(("closed", 0.0, 0))


boards: list[Board] = []


def test_tensorboard_is_told_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boards.clear()
    monkeypatch.setattr("aml_edge.training.log.EventFile", Board)
    written(tmp_path)
    (board,) = boards
    expected: list[tuple[str, float, int]] = []
    for step in STEPS:
        expected += [
            ("train/loss", step.loss, step.step),
            ("train/learning_rate", step.learning_rate, step.step),
            ("train/images_per_second", 100.0 * step.step, step.step),
        ]
        for epoch in EPOCHS:
            if epoch.step == step.step:
                assert epoch.validation_loss is not None
                expected += [
                    ("train/epoch_loss", epoch.training_loss, epoch.step),
                    ("validation/loss", epoch.validation_loss, epoch.step),
                ]
    assert board.told == [*expected, ("closed", 0.0, 0)]
    assert board.begun == (tmp_path / TENSORBOARD_FOLDER, 0)
    with RunLog(tmp_path, after=Position(2, 1, 3)) as log:
        log.epoch(EpochRecord(2, 4, 0.5, None, best=True))
        log.sync()
    assert boards[1].begun == (tmp_path / TENSORBOARD_FOLDER, 3)
    assert boards[1].told == [("train/epoch_loss", 0.5, 4), ("closed", 0.0, 0)]
    assert boards[1].synced == 1


def test_a_process_that_leaves_it_to_another_writes_nothing(tmp_path: Path) -> None:
    with RunLog(tmp_path / "run", writes=False) as log:
        log.step(STEPS[0], images_per_second=1.0)
    assert not (tmp_path / "run").exists()
