"""Whole benchmarks: of workers that tell their times, and of real ones in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aml_edge.artifact import Artifact, Format, Precision
from aml_edge.benchmarks.cost import measure_cost
from aml_edge.benchmarks.file_subject import FileSubject
from aml_edge.benchmarks.latency import QUICK_PLAN, LatencyPlan
from aml_edge.benchmarks.report import INCLUDES
from aml_edge.benchmarks.retrieval import GroundTruth
from aml_edge.benchmarks.rows import Group
from aml_edge.benchmarks.student_subject import StudentSubject
from aml_edge.benchmarks.suite import BY_MANIFEST, UNTRAINED, WHITENED, BenchmarkSettings, run_benchmark
from aml_edge.benchmarks.worker import LocalWorker
from aml_edge.errors import RuntimeUnavailableError, SpaceMismatchError, TeacherIndexError, UsageError
from aml_edge.networks.checkpoints import STUDENT_FILE, StudentCheckpoint, load_student
from aml_edge.networks.released import untrained_student
from aml_edge.networks.student import StudentSpec
from aml_edge.networks.whitening import Whitening
from aml_edge.runtimes.fixed_input import thread_count
from aml_edge.space import EmbeddingSpace

MS = 1_000_000
OnnxFile = Callable[..., Artifact]


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are the same on every machine."""
    monkeypatch.setattr("aml_edge.benchmarks.rows.cuda_devices", tuple)


@pytest.fixture
def told(stand_in_worker: Any) -> BenchmarkSettings:
    """Settings whose workers take 30 ms for the student and 10 ms for a file."""

    def start(subject: Any, plan: LatencyPlan) -> Any:
        if isinstance(subject, StudentSubject):
            return stand_in_worker("student", [[30 * MS]], throughput=44.0)
        assert isinstance(subject, FileSubject)
        return stand_in_worker("file", [[10 * MS]])

    return BenchmarkSettings(QUICK_PLAN, (1, 2), ("onnxruntime",), start_worker=start)


def test_a_report_holds_what_each_row_took(
    onnx_file: OnnxFile, checkpoint: StudentCheckpoint, told: BenchmarkSettings, tmp_path: Path
) -> None:
    artifact = onnx_file(tmp_path / "a.onnx", precision=Precision.FP16)
    report = run_benchmark([Group((artifact,), checkpoint)], told)
    assert (report.plan, report.threads, report.includes) == (QUICK_PLAN, (1, 2), INCLUDES)
    assert report.environment.cores == thread_count(None)
    (group,) = report.groups
    assert (group.student, group.backbone, group.weights_sha256) == (
        "toy",
        "mobilenetv2_035",
        checkpoint.weights_sha256,
    )
    assert (group.space, group.preprocessing) == (artifact.manifest.space, artifact.manifest.preprocessing)
    assert (group.trained, group.notes) == (True, ())
    student, file = group.rows
    assert (student.label, student.path, student.format, student.precision) == ("PyTorch eager", None, None, None)
    assert (file.label, file.path) == ("onnx fp16, onnxruntime", artifact.path)
    assert (file.format, file.precision) == (Format.ONNX, Precision.FP16)
    assert file.size_bytes == artifact.path.stat().st_size
    assert [one.latency.p50_ms for one in (*student.by_threads, *file.by_threads)] == [30, 30, 10, 10]
    assert [one.speed_up and one.speed_up.value for one in file.by_threads] == [3, 3]
    assert student.throughput is not None and student.throughput.images_per_second == 44.0
    assert file.throughput is None
    assert (student.retrieval, file.retrieval, student.not_run, file.not_run) == (None, None, None, None)


def test_the_cost_is_that_of_the_student_on_the_pixels_of_the_files(
    onnx_file: OnnxFile, checkpoint: StudentCheckpoint, told: BenchmarkSettings, tmp_path: Path
) -> None:
    artifact = onnx_file(tmp_path / "a.onnx")
    (group,) = run_benchmark([Group((artifact,), checkpoint)], told).groups
    assert group.cost == measure_cost(checkpoint.student, 32)


def test_the_size_of_the_student_is_that_of_its_weights(
    onnx_file: OnnxFile, checkpoint: StudentCheckpoint, told: BenchmarkSettings, tmp_path: Path
) -> None:
    sizes = []

    def start(subject: Any, plan: LatencyPlan) -> Any:
        if isinstance(subject, StudentSubject):
            sizes.append((subject.path / STUDENT_FILE).stat().st_size)
            assert load_student(subject.path).weights_sha256 == checkpoint.weights_sha256
        return told.start_worker(subject, plan)

    artifact = onnx_file(tmp_path / "a.onnx")
    (group,) = run_benchmark([Group((artifact,), checkpoint)], replace(told, start_worker=start)).groups
    assert group.rows[0].size_bytes == sizes[0]
    weights = sum(value.numel() * value.element_size() for value in checkpoint.student.state_dict().values())
    assert weights < sizes[0] < weights + 100_000  # the header beside


def test_without_the_student_the_cost_comes_from_the_manifest(
    onnx_file: OnnxFile, checkpoint: StudentCheckpoint, told: BenchmarkSettings, tmp_path: Path
) -> None:
    (group,) = run_benchmark([Group((onnx_file(tmp_path / "a.onnx"),), None)], told).groups
    assert group.cost == measure_cost(checkpoint.student, 32)
    assert (group.trained, group.notes) == (None, (BY_MANIFEST,))
    student, file = group.rows
    assert (student.by_threads, student.size_bytes) == ((), None)
    assert student.not_run is not None and student.not_run.startswith("student 'toy' (weights ")
    assert [one.speed_up for one in file.by_threads] == [None, None]


@pytest.mark.parametrize(
    "changes",
    [
        {"backbone": "mobilenet_v7"},
        {"space": EmbeddingSpace("toy teacher", "a" * 64, 3, "f" * 64)},
    ],
)
def test_a_cost_that_nobody_knows_is_none(
    onnx_file: OnnxFile, told: BenchmarkSettings, tmp_path: Path, changes: dict[str, Any]
) -> None:
    (group,) = run_benchmark([Group((onnx_file(tmp_path / "a.onnx", **changes),), None)], told).groups
    assert (group.cost, group.notes) == (None, ())


def test_random_weights_are_said(onnx_file: OnnxFile, told: BenchmarkSettings, tmp_path: Path) -> None:
    untrained = untrained_student(StudentSpec("mobilenetv2_035", 3))
    artifact = onnx_file(tmp_path / "a.onnx", space=untrained.space, weights_sha256=untrained.weights_sha256)
    (group,) = run_benchmark([Group((artifact,), untrained)], told).groups
    assert (group.trained, group.notes) == (False, (UNTRAINED,))


def test_a_whitening_that_only_the_files_have_is_said(
    onnx_file: OnnxFile, checkpoint: StudentCheckpoint, told: BenchmarkSettings, tmp_path: Path
) -> None:
    whitened = EmbeddingSpace("toy teacher", "a" * 64, 3, "f" * 64)
    (group,) = run_benchmark([Group((onnx_file(tmp_path / "a.onnx", space=whitened),), checkpoint)], told).groups
    assert group.notes == (WHITENED,)


def test_each_group_is_measured_beside_its_own_student(
    onnx_file: OnnxFile, checkpoint: StudentCheckpoint, told: BenchmarkSettings, tmp_path: Path
) -> None:
    mine, other = onnx_file(tmp_path / "a.onnx"), onnx_file(tmp_path / "b.onnx", weights_sha256="9" * 64)
    report = run_benchmark([Group((mine,), checkpoint), Group((other,), None)], told)
    assert [group.rows[0].not_run is None for group in report.groups] == [True, False]
    assert [group.rows[1].path for group in report.groups] == [mine.path, other.path]


def test_map_is_measured_of_file_and_student(
    onnx_file: OnnxFile, checkpoint: StudentCheckpoint, truth: GroundTruth, told: BenchmarkSettings, tmp_path: Path
) -> None:
    settings = replace(told, truth=truth)
    (group,) = run_benchmark([Group((onnx_file(tmp_path / "a.onnx"),), checkpoint)], settings).groups
    student, file = (row.retrieval for row in group.rows)
    assert file is not None and (file.runtime, file.easy) == ("onnxruntime cpu", 1)
    assert file.medium == pytest.approx((1 + 1 / 6) / 2)
    assert student is not None and (student.runtime, student.queries) == ("torch eager cpu", 2)


def test_a_row_that_is_not_timed_has_no_map_of_its_own(
    onnx_file: OnnxFile, checkpoint: StudentCheckpoint, truth: GroundTruth, told: BenchmarkSettings, tmp_path: Path
) -> None:
    def start(subject: Any, plan: LatencyPlan) -> Any:
        if isinstance(subject, FileSubject):
            raise RuntimeUnavailableError("not on this machine.")
        return told.start_worker(subject, plan)

    settings = replace(told, truth=truth, start_worker=start)
    (group,) = run_benchmark([Group((onnx_file(tmp_path / "a.onnx"),), checkpoint)], settings).groups
    student, file = group.rows
    assert (file.by_threads, file.retrieval, file.not_run) == ((), None, "not on this machine.")
    assert file.size_bytes is not None
    assert student.retrieval is not None


def fails_first(subject: Any, plan: LatencyPlan) -> Any:
    raise AssertionError("nothing is started before what was asked for can be right")


def test_a_file_of_another_space_than_the_index_is_refused_before_any_work(
    onnx_file: OnnxFile, checkpoint: StudentCheckpoint, truth: GroundTruth, tmp_path: Path
) -> None:
    artifact = onnx_file(tmp_path / "a.onnx", space=EmbeddingSpace("another teacher", "b" * 64, 3))
    settings = BenchmarkSettings(truth=truth, start_worker=fails_first)
    with pytest.raises(SpaceMismatchError, match=r"the file a\.onnx lives in another teacher .* in toy teacher"):
        run_benchmark([Group((artifact,), checkpoint)], settings)


def test_an_index_without_the_database_is_refused_before_any_work(
    onnx_file: OnnxFile, checkpoint: StudentCheckpoint, truth: GroundTruth, tmp_path: Path
) -> None:
    index = replace(truth.index, ids=("0", "1", "2", "3"))
    settings = BenchmarkSettings(truth=GroundTruth(index, truth.dataset), start_worker=fails_first)
    with pytest.raises(TeacherIndexError, match="lacks 4 of 4 images"):
        run_benchmark([Group((onnx_file(tmp_path / "a.onnx"),), checkpoint)], settings)


def test_runtimes_that_run_none_of_the_files_are_refused(
    onnx_file: OnnxFile, checkpoint: StudentCheckpoint, tmp_path: Path
) -> None:
    settings = BenchmarkSettings(runtimes=("litert", "mil"), start_worker=fails_first)
    with pytest.raises(UsageError) as refused:
        run_benchmark([Group((onnx_file(tmp_path / "a.onnx"),), checkpoint)], settings)
    assert str(refused.value) == "`runtime` is litert, mil, which runs none of the files; name another."


def test_threads_are_one_and_all_unless_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aml_edge.benchmarks.suite.thread_count", lambda threads: 6)
    assert BenchmarkSettings().thread_counts == (1, 6)
    assert BenchmarkSettings(threads=(4, 2, 4)).thread_counts == (2, 4)
    monkeypatch.setattr("aml_edge.benchmarks.suite.thread_count", lambda threads: 1)
    assert BenchmarkSettings().thread_counts == (1,)


def test_no_thread_is_refused() -> None:
    with pytest.raises(UsageError) as refused:
        BenchmarkSettings(threads=(2, 0))
    assert str(refused.value) == "`threads` is 0; an inference needs at least one."


def test_real_rows_are_run_with_a_whitened_index(
    onnx_file: OnnxFile, checkpoint: StudentCheckpoint, truth: GroundTruth, tmp_path: Path
) -> None:
    import torch

    whitening = Whitening(torch.zeros(3), torch.eye(3))  # changes nothing but the space
    space = replace(checkpoint.space, whitening_sha256=whitening.sha256)
    index = replace(truth.index, space=space, whitening=whitening)
    settings = BenchmarkSettings(
        LatencyPlan(2, 0.0, 2, 2, 0.0), (1,), ("onnxruntime",), GroundTruth(index, truth.dataset), LocalWorker
    )
    artifact = onnx_file(tmp_path / "a.onnx", space=space)
    report = run_benchmark([Group((artifact,), checkpoint)], settings)
    student, file = report.groups[0].rows
    assert [row.by_threads[0].latency.runs for row in (student, file)] == [4, 4]
    assert file.retrieval is not None and file.retrieval.easy == 1
    assert student.throughput is not None and student.throughput.batch_images == 8
    assert report.groups[0].notes == (WHITENED,)
    assert not (tmp_path / STUDENT_FILE).exists()
