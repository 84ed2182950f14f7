"""Rows in processes of their own: real ones, and some that die."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aml_edge.artifact import Artifact
from aml_edge.benchmarks.file_subject import FileSubject
from aml_edge.benchmarks.latency import LatencyPlan
from aml_edge.benchmarks.worker_process import WorkerProcess
from aml_edge.errors import BenchmarkError, RuntimeUnavailableError

PLAN = LatencyPlan(warm_up_runs=2, warm_up_seconds=0.0, rounds=2, turn_runs=3, turn_seconds=0.0)
START_AND_WARM_UP = 3
"""Calls before the first turn."""


@pytest.fixture
def subjects(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of subjects that misbehave, for this process and for those that it starts."""
    folder = str(Path(__file__).parent)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", folder, prepend=os.pathsep)
    return importlib.import_module("dying_subjects")


def test_a_real_file_is_timed_in_a_process_of_its_own(onnx_file: Callable[..., Artifact], tmp_path: Path) -> None:
    worker = WorkerProcess(FileSubject(onnx_file(tmp_path / "a.onnx"), "onnxruntime", 1), PLAN)
    try:
        start = worker.fresh_start
        assert min(start.load_ms, start.first_ms, start.warm_ms) > 0
        assert start.peak_bytes is None or 0 <= start.peak_bytes < 1 << 30
        times = worker.take_turn(PLAN)
        assert len(times) == 3 and min(times) > 0
        assert worker.measure_throughput(4) is None
    finally:
        worker.close()
    worker.close()
    assert worker._process.returncode == 0


def test_what_libraries_print_does_not_get_between_the_answers(subjects: Any) -> None:
    worker = WorkerProcess(subjects.Lively(), PLAN)
    assert len(worker.take_turn(PLAN)) == 3
    worker.close()


def test_a_file_that_cannot_be_loaded_is_refused_in_the_runtime_s_words(
    onnx_file: Callable[..., Artifact], tmp_path: Path
) -> None:
    artifact = onnx_file(tmp_path / "a.onnx")
    artifact.path.write_bytes(b"no model")
    with pytest.raises(RuntimeUnavailableError, match=r"a\.onnx"):
        WorkerProcess(FileSubject(artifact, "onnxruntime", 1), PLAN)


def test_a_missing_extra_is_refused_with_the_command_that_brings_it(subjects: Any) -> None:
    with pytest.raises(RuntimeUnavailableError) as refused:
        WorkerProcess(subjects.Missing(), PLAN)
    assert str(refused.value) == (
        "the Core ML format needs coremltools, which is not installed: pip install 'aml-edge[coreml]'"
    )


def test_a_process_that_ends_while_it_starts_leaves_its_last_words(subjects: Any) -> None:
    with pytest.raises(BenchmarkError) as ended:
        WorkerProcess(subjects.Crashing(), PLAN)
    assert str(ended.value) == "the process of a row ended early (exit code 7); its last words: std::bad_alloc"


def test_an_error_that_nobody_foresaw_is_named(subjects: Any) -> None:
    with pytest.raises(BenchmarkError) as ended:
        WorkerProcess(subjects.Failing(), PLAN)
    assert str(ended.value) == (
        "the process of a row ended early (exit code 1); its last words: ValueError: the dog ate it"
    )


def test_a_process_that_is_killed_in_a_turn_is_named_with_its_signal(subjects: Any) -> None:
    worker = WorkerProcess(subjects.Lively(deadly_call=START_AND_WARM_UP + 2), PLAN)
    with pytest.raises(BenchmarkError) as ended:
        worker.take_turn(PLAN)
    message = str(ended.value)
    assert message.startswith("the process of a row ended early (signal SIGKILL); its last words: ")
    with pytest.raises(BenchmarkError, match="signal SIGKILL"):
        worker.take_turn(PLAN)
    worker.close()
    worker.close()
