"""Run by test_run_killed.py in a process of its own: trains the same network, killed at one place after another.

The process forks a child for every training, so that imports are paid once. A run is killed by SIGKILL, gone on with by
another child, perhaps killed again, until one comes to its end.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image

from aml_edge.datasets.labelled_images import ImageLabels
from aml_edge.image_loading import ImageItem
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.preprocessing import Preprocessing
from aml_edge.space import EmbeddingSpace
from aml_edge.training import log as log_module
from aml_edge.training.log import EpochRecord
from aml_edge.training.loop import StepRecord
from aml_edge.training.plan import TrainingPlan
from aml_edge.training.recipe import Recipe
from aml_edge.training.run import RunOptions, train
from aml_edge.training.settings import Mining, TrainingSettings
from aml_edge.training.training_set import TeacherEmbeddings, TrainingSet

SPACE = EmbeddingSpace("teacher", "a" * 64, 16)
SETTINGS = TrainingSettings(
    backbone="mobilenetv2_035",
    loss="contrastive",
    loss_options={"margin": 0.7},
    mining=Mining.HARD,
    negatives=2,
    epochs=3,
    batch_size=3,
    image_side_px=64,
    frozen_stages=0,
    warm_start=False,
)
CHAINS, MOST_EVENTS = 2, 90
"""So many runs are killed again and again, each after so many things that it does to files at most."""

Arrange = Callable[[Path], None]
"""Has this process killed, sooner or later, while it trains in a run folder."""


def plan_in(folder: Path) -> TrainingPlan:
    """Returns a training on six pictures in three clusters; validated by the same, taught otherwise."""
    generator, items = np.random.default_rng(0), []
    for number in range(6):
        blobs = Image.fromarray(generator.integers(0, 256, (3, 4, 3), dtype=np.uint8))
        items.append(ImageItem(folder / f"{number}.png"))
        blobs.resize((64, 48) if number % 3 else (48, 64)).save(items[-1].path)
    rows = generator.uniform(size=(12, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    labels = ImageLabels((0, 0, 1, 1, 2, 2), (0, 1, 2, 3, 4), (1, 0, 3, 2, 5))
    training, validation = (
        TrainingSet(tuple(items), labels, TeacherEmbeddings(part, SPACE)) for part in (rows[:6], rows[6:])
    )
    student = Student(StudentSpec("mobilenetv2_035", SPACE.dimension)).eval()
    start = StudentCheckpoint(student, "small", SPACE, Preprocessing(64), trained=False)
    return TrainingPlan(start, Recipe("small", {}, SETTINGS), training, validation, folder, None)


def killed_at_event(number: int) -> Arrange:
    """Before the n-th thing that the process does to files below the run folder."""

    def arrange(run: Path) -> None:
        seen = 0

        def watch(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal seen
            if event.startswith(("open", "os.", "shutil.")) and any(str(run) in str(one) for one in arguments):
                seen += 1
                if seen == number:
                    die()

        sys.addaudithook(watch)

    return arrange


def killed_before(event: str, name: str) -> Arrange:
    """Before something is renamed to a file of this name, or the file is removed."""

    def arrange(run: Path) -> None:
        def watch(happening: str, arguments: tuple[object, ...]) -> None:
            if happening == event and any(str(one) == str(run / name) for one in arguments):
                die()

        sys.addaudithook(watch)

    return arrange


def killed_in_state(number: int) -> Arrange:
    """When half of the n-th state is on the disk."""

    def arrange(run: Path) -> None:
        left, synced = number, os.fsync

        def half(descriptor: int) -> None:
            nonlocal left
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            if Path(path).name.startswith(".state."):
                left -= 1
                if not left:
                    os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
                    die()
            synced(descriptor)

        os.fsync = half  # type: ignore[assignment]  # nobody here gives it anything but a descriptor

    return arrange


def killed_in_line(kind: type[StepRecord | EpochRecord], step: int) -> Arrange:
    """When half of the line of a step, or of the epoch that it ends, is on the disk."""

    def arrange(run: Path) -> None:
        whole = log_module._write

        def half(stream: IO[str], record: StepRecord | EpochRecord) -> None:
            if isinstance(record, kind) and record.step == step:
                stream.write(f"{step},1,3")
                stream.flush()
                die()
            whole(stream, record)

        log_module._write = half

    return arrange


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def ended(plan: TrainingPlan, run: Path, arrange: Arrange | None = None, killed_after: float | None = None) -> bool:
    """Returns whether a child that trains, or goes on, has come to its end."""
    child = os.fork()
    if child == 0:
        if arrange is not None:
            arrange(run)
        train(plan, run, RunOptions(resume=(run / "run.json").exists(), state_seconds=0, workers=1))
        os._exit(0)
    if killed_after is not None:
        time.sleep(killed_after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.WEXITSTATUS(status) == 0
    return True


POINTS: tuple[Arrange, ...] = (
    killed_before("os.rename", "run.json"),
    killed_before("os.rename", "log.csv"),
    killed_before("os.rename", "epochs.csv"),
    killed_in_state(1),
    killed_before("os.rename", "state.safetensors"),
    killed_in_line(StepRecord, 2),
    killed_in_line(EpochRecord, 2),
    killed_before("os.rename", "student.safetensors"),
    killed_before("os.rename", "student.json"),
    killed_before("os.rename", "last.safetensors"),
    killed_before("os.rename", "last.json"),
    killed_in_state(1),  # the one that ends the epoch
    killed_before("os.rename", "state.safetensors"),
    killed_in_state(3),  # of the next epoch
    killed_before("os.rename", "report.json"),
    killed_before("os.remove", "state.safetensors"),
)
"""One run is killed at each of them, in this order."""


def main(outs: Path) -> None:
    torch.set_num_threads(1)
    plan = plan_in(outs)
    gc.freeze()  # or every child copies what its collector touches
    started = time.monotonic()
    assert ended(plan, outs / "unbroken" / "run")
    whole = time.monotonic() - started
    kills = 0
    for point, arrange in enumerate(POINTS):
        assert not ended(plan, outs / "points" / "run", arrange), f"point {point} was not reached"
        kills += 1
    assert ended(plan, outs / "points" / "run")
    for seed in range(CHAINS):
        lots = random.Random(seed)
        while not ended(plan, outs / f"events-{seed}" / "run", killed_at_event(lots.randint(1, MOST_EVENTS))):
            kills += 1
        while not ended(plan, outs / f"delays-{seed}" / "run", killed_after=lots.uniform(0, 1.2 * whole)):
            kills += 1
    print(kills, f"{whole:.2f}", f"{time.monotonic() - started:.1f}")


main(Path(sys.argv[1]))
