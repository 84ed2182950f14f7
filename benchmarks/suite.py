"""`run_benchmark`: every row of every group, started afresh, timed in turns, and put into one report."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from aml_edge.artifact import Artifact
from aml_edge.benchmarks.cost import CostReport, measure_cost
from aml_edge.benchmarks.environment import LoadWatch, describe_environment
from aml_edge.benchmarks.kernel_agreement import compare_kernels
from aml_edge.benchmarks.kernels import kernels_of
from aml_edge.benchmarks.latency import LatencyPlan
from aml_edge.benchmarks.map_drop import measure_drops
from aml_edge.benchmarks.pareto import mark_fronts
from aml_edge.benchmarks.report import INCLUDES, BenchmarkReport, GroupReport, RowReport
from aml_edge.benchmarks.retrieval import GroundTruth
from aml_edge.benchmarks.row_accuracy import RowAccuracy, measure_accuracy
from aml_edge.benchmarks.rows import Group, Row, file_rows, student_rows
from aml_edge.benchmarks.search_latency import SearchReport, time_searches
from aml_edge.benchmarks.student_subject import cuda_devices
from aml_edge.benchmarks.timing import StartWorker, TimedRow, time_rows
from aml_edge.benchmarks.worker_process import WorkerProcess
from aml_edge.embedder import Embeddings
from aml_edge.errors import UsageError
from aml_edge.networks.checkpoints import STUDENT_FILE, save_student
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.progress import Progress, SilentProgress
from aml_edge.runtimes.fixed_input import thread_count
from aml_edge.space import require_same_space

UNTRAINED = "random weights: good for sizes and speeds only."
WHITENED = "the files end in the teacher's whitening, which PyTorch eager's times leave out."
BY_MANIFEST = "parameters and GMACs are those of the architecture that the files name."


@dataclass(frozen=True)
class BenchmarkSettings:
    """How files are measured.

    Args:
        plan: how often and how long.
        threads: numbers of threads; empty for one, and all cores.
        runtimes: names of `RUNTIMES`; empty for every one that is installed and runs here.
        truth: what mAP is measured with; None for no mAP.
        start_worker: makes a row's worker.
    """

    plan: LatencyPlan = field(default_factory=LatencyPlan)
    threads: tuple[int, ...] = ()
    runtimes: tuple[str, ...] = ()
    truth: GroundTruth | None = None
    start_worker: StartWorker = WorkerProcess

    def __post_init__(self) -> None:
        if self.threads and min(self.threads) < 1:
            raise UsageError(f"`threads` is {min(self.threads)}; an inference needs at least one.")

    @property
    def thread_counts(self) -> tuple[int, ...]:
        """Numbers of threads, each once, fewest first."""
        return tuple(sorted(set(self.threads or (1, thread_count(None)))))


def run_benchmark(
    groups: Sequence[Group], settings: BenchmarkSettings, progress: Progress | None = None
) -> BenchmarkReport:
    """Returns what the files of all groups cost and retrieve; one group is measured after the other.

    Raises:
        UsageError: no runtime that was named runs any of the files.
        SpaceMismatchError: a file lives in another space than the index; both are named.
        TeacherIndexError: the index lacks images of the data set.
        BenchmarkError: a process died while its row was timed.
    """
    planned = [file_rows(group.artifacts, settings.runtimes, settings.thread_counts) for group in groups]
    if not any(planned):
        raise UsageError(f"`runtime` is {', '.join(settings.runtimes)}, which runs none of the files; name another.")
    if settings.truth is not None:
        settings.truth.index.rows_of(settings.truth.dataset.database_ids)
        for group in groups:
            _require_space_of_index(group.artifacts, settings.truth)
    watch, before = LoadWatch(), _cpu_seconds()
    quiet = progress or SilentProgress()
    measured, queries = [], list[Embeddings]()
    for group, rows in zip(groups, planned, strict=True):
        if rows:
            report, embedded = _measure_group(group, rows, settings, quiet)
            measured.append(report)
            queries += embedded
    search = _time_searches(queries, settings, quiet)
    return BenchmarkReport(
        environment=describe_environment(thread_count(None), cuda_devices()),
        load=watch.finish(_cpu_seconds() - before),
        plan=settings.plan,
        threads=settings.thread_counts,
        groups=mark_fronts(measured),
        includes=INCLUDES,
        search=search,
    )


def _measure_group(
    group: Group, rows_of_files: Sequence[Row], settings: BenchmarkSettings, progress: Progress
) -> tuple[GroupReport, list[Embeddings]]:
    """Returns what the rows of a group took, and how each row embeds the queries, as far as there are any."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if group.checkpoint is not None:
            save_student(group.checkpoint, folder)
        rows = [*student_rows(group, folder, settings.thread_counts), *rows_of_files]
        timed = time_rows(rows, settings.plan, settings.start_worker, progress)
        weights_bytes = None if group.checkpoint is None else (folder / STUDENT_FILE).stat().st_size
    accuracies = [
        measure_accuracy(row, group, settings.truth, progress, refused=one.refusal is not None and row.not_run is None)
        for row, one in zip(rows, timed, strict=True)
    ]
    compared = zip(compare_kernels(rows, accuracies), measure_drops(rows, accuracies), strict=True)
    reports = [
        replace(_report(row, one, weights_bytes, accuracy), agreement=agreement, map_drop=map_drop)
        for row, one, accuracy, (agreement, map_drop) in zip(rows, timed, accuracies, compared, strict=True)
    ]
    manifest = group.manifest
    cost, notes = _cost(group)
    report = GroupReport(
        student=manifest.student,
        backbone=manifest.backbone,
        weights_sha256=manifest.weights_sha256,
        space=manifest.space,
        preprocessing=manifest.preprocessing,
        trained=None if group.checkpoint is None else group.checkpoint.trained,
        cost=cost,
        rows=tuple(reports),
        notes=(*_notes(group), *notes),
    )
    return report, [one.embeddings for one in accuracies if one is not None and one.found is not None]


def _time_searches(
    queries: Sequence[Embeddings], settings: BenchmarkSettings, progress: Progress
) -> SearchReport | None:
    """Returns how long a search takes, with the first row's queries that can be searched with; None without any."""
    truth = settings.truth
    finite = next((rows for rows in queries if len(rows) and np.isfinite(rows).all()), None)
    if truth is None or not truth.searches.databases or finite is None:
        return None
    return time_searches(finite, truth.index, truth.searches.databases, settings.plan, progress)


def _report(row: Row, timed: TimedRow, weights_bytes: int | None, accuracy: RowAccuracy | None) -> RowReport:
    artifact = row.artifact
    return RowReport(
        label=row.label,
        path=None if artifact is None else artifact.path,
        format=None if artifact is None else artifact.manifest.format,
        precision=None if artifact is None else artifact.manifest.precision,
        runtime=row.runtime,
        device=row.device,
        size_bytes=weights_bytes if artifact is None else artifact.size_bytes,
        by_threads=timed.by_threads,
        throughput=timed.throughput,
        retrieval=None if accuracy is None else accuracy.found,
        not_run=(accuracy and accuracy.refusal) or timed.refusal,
        verdict=None if artifact is None else artifact.standing,
        kernels=None if artifact is None else kernels_of(artifact, row.runtime),
    )


def _require_space_of_index(artifacts: Sequence[Artifact], truth: GroundTruth) -> None:
    for artifact in artifacts:
        require_same_space(
            artifact.manifest.space,
            truth.index.space,
            left_name=f"the file {artifact.path.name}",
            right_name=f"the index {truth.index.path}",
        )


def _cost(group: Group) -> tuple[CostReport | None, tuple[str, ...]]:
    """Returns what the student costs, by the files' manifest where it was not found, and what is to be said of that."""
    side = group.manifest.preprocessing.image_side_px
    if group.checkpoint is not None:
        return measure_cost(group.checkpoint.student, side), ()
    manifest = group.manifest
    if manifest.space.whitening_sha256 is not None:
        return None, ()  # the space does not say what dimension there was before
    try:
        student = Student(StudentSpec(manifest.backbone, manifest.space.dimension))
    except UsageError:
        return None, ()
    return measure_cost(student, side), (BY_MANIFEST,)


def _notes(group: Group) -> tuple[str, ...]:
    untrained = group.manifest.space.is_untrained or (group.checkpoint is not None and not group.checkpoint.trained)
    whitened = group.manifest.space.whitening_sha256 is not None and group.checkpoint is not None
    return ((UNTRAINED,) if untrained else ()) + ((WHITENED,) if whitened else ())


def _cpu_seconds() -> float:
    """Returns the processor time of this process and of those that it started and saw end."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
