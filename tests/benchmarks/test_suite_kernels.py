"""Whole benchmarks of a file in integers, whose fast kernels stand beside exact ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aml_edge.artifact import Artifact, Precision
from aml_edge.benchmarks.kernels import KERNELS, Kernels
from aml_edge.benchmarks.latency import QUICK_PLAN
from aml_edge.benchmarks.retrieval import GroundTruth
from aml_edge.benchmarks.rows import Group
from aml_edge.benchmarks.suite import BenchmarkSettings, run_benchmark
from aml_edge.errors import ArtifactError
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.runtimes import RUNTIMES

MS = 1_000_000
OnnxFile = Callable[..., Artifact]


@pytest.fixture
def told(stand_in_worker: Any, truth: GroundTruth, monkeypatch: pytest.MonkeyPatch) -> BenchmarkSettings:
    """Settings whose workers take 10 ms, with ground truth, and rows that are the same on every machine."""
    monkeypatch.setattr("aml_edge.benchmarks.rows.cuda_devices", tuple)
    return BenchmarkSettings(
        QUICK_PLAN, (1, 2), truth=truth, start_worker=lambda subject, plan: stand_in_worker("file", [[10 * MS]])
    )


def test_a_file_in_integers_is_measured_in_both_kinds_of_kernels(
    onnx_file: OnnxFile, checkpoint: StudentCheckpoint, told: BenchmarkSettings, tmp_path: Path
) -> None:
    files = onnx_file(tmp_path / "a.onnx"), onnx_file(tmp_path / "b.onnx", precision=Precision.INT8)
    report = run_benchmark([Group(files, checkpoint)], told)
    _, fp32, fast, exact = report.groups[0].rows
    assert [row.kernels for row in (fp32, fast, exact)] == [None, Kernels.FAST, Kernels.PRECISE]
    assert [row.runtime for row in (fast, exact)] == ["onnxruntime", "onnxruntime-precise"]
    assert exact.agreement is not None and fp32.agreement is fast.agreement is None
    assert (exact.agreement.fast, exact.agreement.images) == (fast.label, 2)
    assert exact.agreement.smallest == pytest.approx(1)  # there is nothing to round
    drops = [row.map_drop for row in (fast, exact)]
    assert [drop and (drop.points, drop.queries) for drop in drops] == [(0, 2)] * 2
    assert fp32.map_drop is None
    ratio = fast.by_threads[0].over_fp32
    assert ratio is not None and ratio.value == 1
    assert (fp32.by_threads[0].over_fp32, exact.by_threads[0].over_fp32) == (None, None)
    assert [row.on_front is None for row in report.groups[0].rows] == [True, False, False, True]


def test_reference_kernels_embed_a_sample_and_are_not_timed(
    onnx_file: OnnxFile,
    checkpoint: StudentCheckpoint,
    told: BenchmarkSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aml_edge.benchmarks.row_accuracy.SAMPLE", 1)
    monkeypatch.setitem(KERNELS, "onnxruntime-precise", Kernels.REFERENCE)
    artifact = onnx_file(tmp_path / "a.onnx", precision=Precision.INT8)
    _, fast, reference = run_benchmark([Group((artifact,), checkpoint)], told).groups[0].rows
    assert (reference.by_threads, reference.retrieval, reference.on_front) == ((), None, None)
    assert reference.not_run is not None and reference.not_run.startswith("no phone runs reference kernels")
    assert reference.agreement is not None and reference.agreement.images == 1
    assert fast.retrieval is not None and fast.on_front is True

    named = replace(told, runtimes=("onnxruntime", "onnxruntime-precise"))
    _, fast, reference = run_benchmark([Group((artifact,), checkpoint)], named).groups[0].rows
    assert fast.retrieval is not None
    assert reference.retrieval == replace(fast.retrieval, runtime="onnxruntime cpu, precise kernels")
    assert reference.agreement is not None and reference.agreement.images == 2


def test_reference_kernels_that_cannot_open_a_file_say_so_and_the_others_go_on(
    onnx_file: OnnxFile,
    checkpoint: StudentCheckpoint,
    told: BenchmarkSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(artifact: Artifact, threads: int | None) -> Any:
        raise ArtifactError("a.onnx cannot be loaded.")

    monkeypatch.setitem(KERNELS, "onnxruntime-precise", Kernels.REFERENCE)
    monkeypatch.setitem(RUNTIMES, "onnxruntime-precise", replace(RUNTIMES["onnxruntime-precise"], open=fail))
    artifact = onnx_file(tmp_path / "a.onnx", precision=Precision.INT8)
    _, fast, reference = run_benchmark([Group((artifact,), checkpoint)], told).groups[0].rows
    assert (reference.not_run, reference.agreement) == ("a.onnx cannot be loaded.", None)
    assert fast.retrieval is not None
    with pytest.raises(ArtifactError):
        run_benchmark([Group((artifact,), checkpoint)], replace(told, runtimes=("onnxruntime-precise",)))
