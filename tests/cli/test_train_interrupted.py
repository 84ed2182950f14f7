"""`aml-edge train` in a process of its own, stopped by real signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from accelerate.state import AcceleratorState

from aml_edge.datasets.image_source import image_source
from aml_edge.datasets.synthetic.writing import SyntheticReport
from aml_edge.embedder import FakeEmbedder
from aml_edge.index.building import build_index
from aml_edge.preprocessing import Preprocessing
from aml_edge.space import EmbeddingSpace

RECIPE = """
[ours]
backbone = "mobilenetv2_035"
epochs = 6
batch_size = 3
image_side_px = 64
frozen_stages = 5
"""
PROGRAM = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it is ignored
from aml_edge.cli.app import main
from aml_edge.training.loop import Training
whole, number, seconds = Training._step, int(sys.argv[1]), float(sys.argv[2])
def step(training, *arguments):
    if training.position.step == number:
        print("in the step", flush=True)
        time.sleep(seconds)
    return whole(training, *arguments)
Training._step = step
sys.argv = ["aml-edge", *sys.argv[3:]]
main()
"""
"""The real command line, but for one step that says when it begins, and takes longer."""
COMPARED = ("student.safetensors", "last.safetensors", "log.csv", "epochs.csv")

CommandLine = Callable[..., Any]
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def new_accelerate() -> Iterator[None]:
    """A process of the real command line makes one Accelerator, which is remembered."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def arguments(synthetic: SyntheticReport, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """A training of some seconds, without its run folder."""
    folder, data = tmp_path_factory.mktemp("interrupted"), synthetic.train_root
    space = EmbeddingSpace("block means", "b" * 64, 16)
    index = build_index(FakeEmbedder(space, Preprocessing(64)), image_source(data), folder / "index").path
    (folder / "small.toml").write_text(RECIPE)
    return ("train", "--recipe", str(folder / "small.toml"), "--data", str(data), "--index", str(index), "--cpu")


def started(arguments: tuple[str, ...], run: Path, *, step: int, seconds: float) -> subprocess.Popen[str]:
    """Returns a training that has just begun a step which takes so many seconds; of its twelve, from 0 on."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(step), str(seconds), *arguments, "--out", str(run)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    while process.stdout.readline() not in ("in the step\n", ""):
        pass
    return process


@pytest.fixture(scope="module")
def unbroken(arguments: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, never stopped."""
    run = tmp_path_factory.mktemp("unbroken") / "run"
    process = started(arguments, run, step=-1, seconds=0)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    return run


def require_going_on(command_line: CommandLine, run: Path, unbroken: Path) -> None:
    done = command_line("train", "--out", run, "--resume", "--cpu")
    assert (done.code, done.err) == (0, "")
    for name in COMPARED:
        assert (run / name).read_bytes() == (unbroken / name).read_bytes(), name


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(
    command_line: CommandLine, arguments: tuple[str, ...], unbroken: Path, tmp_path: Path, number: signal.Signals
) -> None:
    run = tmp_path / "run"
    process = started(arguments, run, step=7, seconds=0.5)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "interrupted\n")
    assert out.splitlines()[-2:] == [
        f"stopped: {run} holds the network of epoch 3 in last.safetensors.",
        f"go on: aml-edge train --out {run} --resume",
    ]
    assert len((run / "log.csv").read_text().splitlines()) == 1 + 8  # the step that had begun is done and kept
    assert not list(run.glob(".*"))
    require_going_on(command_line, run, unbroken)


def test_the_second_ctrl_c_ends_at_once_and_loses_the_step_only(
    command_line: CommandLine, arguments: tuple[str, ...], unbroken: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = started(arguments, run, step=8, seconds=3600)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "interrupted\n")
    assert out.splitlines()[-1] == f"go on: aml-edge train --out {run} --resume"
    require_going_on(command_line, run, unbroken)
