"""A run that is killed at any moment goes on to the same bytes as one that is not."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aml_edge.networks.checkpoints import load_student
from aml_edge.training.log import read_epochs, read_steps

SCRIPT = Path(__file__).with_name("run_killed.py")
COMPARED = ("student.safetensors", "student.json", "last.safetensors", "last.json", "run.json", "log.csv", "epochs.csv")
KILLED_RUNS = {"points", *(f"{kind}-{seed}" for kind in ("events", "delays") for seed in range(2))}


def scalars_of(folder: Path) -> dict[str, dict[int, float]]:
    """Returns what TensorBoard shows: a session that starts voids what older ones say of its step and later ones."""
    from tensorboardX.proto import event_pb2

    shown: dict[str, dict[int, float]] = {}
    for file in sorted(folder.iterdir()):
        content = file.read_bytes()
        while len(content) >= 16 and len(content) >= 16 + struct.unpack_from("<Q", content)[0]:
            (length,) = struct.unpack_from("<Q", content)
            event: Any = event_pb2.Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            if event.session_log.status == event_pb2.SessionLog.START:
                shown = {
                    name: {step: value for step, value in values.items() if step < event.step}
                    for name, values in shown.items()
                }
            for value in event.summary.value:
                shown.setdefault(value.tag, {})[event.step] = value.simple_value
    return shown


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork") or not Path("/proc/self/fd").is_dir(), reason="needs Linux")
def test_a_run_that_is_killed_anywhere_ends_as_one_that_is_not(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    kills = int(done.stdout.split()[0])
    assert kills >= 16 + 2 + 1  # at each point, and others besides
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"unbroken", *KILLED_RUNS}
    unbroken = tmp_path / "unbroken" / "run"
    steps, epochs = read_steps(unbroken), read_epochs(unbroken)
    assert ([one.step for one in steps], [one.epoch for one in epochs]) == ([1, 2, 3, 4, 5, 6], [1, 2, 3])
    assert load_student(unbroken).trained
    for name in KILLED_RUNS:
        run = tmp_path / name / "run"
        for file in COMPARED:
            assert (run / file).read_bytes() == (unbroken / file).read_bytes(), f"{name}: {file}"
        assert not list(run.glob(".*")), name
        assert {path.name for path in run.iterdir()} - {"state.safetensors"} == {
            path.name for path in unbroken.iterdir()
        }
        shown = scalars_of(run / "tensorboard")
        assert shown["train/loss"] == {one.step: np.float32(one.loss) for one in steps}, name
        assert shown["train/learning_rate"] == {one.step: np.float32(one.learning_rate) for one in steps}
        assert shown["train/epoch_loss"] == {one.step: np.float32(one.training_loss) for one in epochs}
        validated = {one.step: np.float32(one.validation_loss or 0) for one in epochs}
        assert shown["validation/loss"] == validated
        assert list(shown["train/images_per_second"]) == [one.step for one in steps]
