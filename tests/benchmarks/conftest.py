"""A small student, files that claim to be made from it, and workers that tell their own times."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from aml_edge.artifact import Artifact, Format, Manifest, Precision
from aml_edge.benchmarks.cost import CostReport
from aml_edge.benchmarks.environment import Environment, MachineLoad
from aml_edge.benchmarks.latency import LatencyPlan, LatencyReport
from aml_edge.benchmarks.report import BenchmarkReport, GroupReport, RowReport
from aml_edge.benchmarks.retrieval import AsymmetricMap, GroundTruth
from aml_edge.benchmarks.speedup import SpeedUp
from aml_edge.benchmarks.timing import ThreadsReport
from aml_edge.benchmarks.worker import FreshStart, Throughput
from aml_edge.datasets.retrieval_dataset import RetrievalDataset
from aml_edge.formats import read_artifact, write_manifest
from aml_edge.image_loading import ImageItem
from aml_edge.index import TeacherIndex
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.ranking import QueryGroundTruth
from aml_edge.space import EmbeddingSpace

SIDE = 32
SPACE = EmbeddingSpace("toy teacher", "a" * 64, 3)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Small operators on few cores: a second thread only waits."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint() -> StudentCheckpoint:
    """A student of three dimensions that counts as trained."""
    student = Student(StudentSpec("mobilenetv2_035", SPACE.dimension)).eval()
    return StudentCheckpoint(student, "toy", SPACE, Preprocessing(image_side_px=SIDE), trained=True)


@pytest.fixture(scope="session")
def manifest(checkpoint: StudentCheckpoint) -> Manifest:
    """Of an ONNX file made from the student."""
    return Manifest(
        space=SPACE,
        preprocessing=Preprocessing(SIDE, Fit.SQUASH),
        student=checkpoint.name,
        backbone=checkpoint.student.spec.backbone,
        weights_sha256=checkpoint.weights_sha256,
        format=Format.ONNX,
        precision=Precision.FP32,
        target="test",
    )


OnnxFile = Callable[..., Artifact]


@pytest.fixture
def onnx_file(manifest: Manifest, write_channel_means: Callable[..., None]) -> OnnxFile:
    """Returns a function that writes a file which gives channel means plus one, L2-normalised, on any manifest."""

    def write(path: Path, *, offset: float = 1.0, **changes: Any) -> Artifact:
        """Writes it.

        Args:
            path: where; ends in .onnx.
            offset: what is added to the means; NaN or infinity leads to embeddings that are not finite.
            changes: of the manifest.
        """
        changed = replace(manifest, **changes)
        write_channel_means(path, changed.preprocessing.image_side_px, offset=offset)
        write_manifest(Artifact(path, changed))
        return read_artifact(path)

    return write


@dataclass(frozen=True)
class StandInSubject:
    """Something that only `StandInWorker` runs."""

    name: str


class StandInWorker:
    """A Worker whose turns are given beforehand; it notes what is asked of it.

    Args:
        turns: nanoseconds of the calls of each turn, the last one for ever.
        throughput: of batches; None for a runtime that takes one image a call.
        warm_ms: of its warm-up.
        log: where turns, batches and the end are noted, under `name`.
    """

    def __init__(
        self,
        name: str,
        turns: Iterable[Sequence[int]],
        *,
        throughput: float | None = None,
        warm_ms: float = 1.0,
        log: list[tuple[str, str]] | None = None,
    ) -> None:
        self.fresh_start = FreshStart(10.0, 5.0, warm_ms, 1000, None)
        self._name, self._turns, self._throughput = name, [tuple(turn) for turn in turns], throughput
        self._log = [] if log is None else log
        self._taken = 0

    def take_turn(self, plan: LatencyPlan) -> tuple[int, ...]:
        self._log.append((self._name, "turn"))
        self._taken += 1
        return self._turns[min(self._taken, len(self._turns)) - 1]

    def measure_throughput(self, batch_images: int) -> Throughput | None:
        self._log.append((self._name, f"batch of {batch_images}"))
        return None if self._throughput is None else Throughput(self._throughput, batch_images, 3)

    def close(self) -> None:
        self._log.append((self._name, "closed"))


@pytest.fixture
def stand_in_worker() -> type[StandInWorker]:
    return StandInWorker


@pytest.fixture
def stand_in_subject() -> type[StandInSubject]:
    return StandInSubject


@pytest.fixture
def truth(tmp_path: Path) -> GroundTruth:
    """Two queries and four database images, whose order by channel means is plain.

    The first query is (200, 100, 0) and ranks the database 0, 1, 2, 3; the second is (0, 100, 200) and ranks it
    2, 1, 0, 3. Easy: 1 of the first query alone. Medium and hard: 1 of the first; for the second the one positive
    comes third, of which the trapezoid is (0 + 1/3) / 2.
    """
    items = []
    for name, colour in (("first", (200, 100, 0)), ("second", (0, 100, 200))):
        Image.new("RGB", (40, 30), colour).save(tmp_path / f"{name}.png")
        items.append(ImageItem(tmp_path / f"{name}.png", (5, 5, 35, 25)))
    ids = tuple(f"jpg/{number}.jpg" for number in range(4))
    dataset = RetrievalDataset(
        name="colours",
        root=tmp_path,
        query_items=tuple(items),
        database_items=tuple(ImageItem(tmp_path / one) for one in ids),
        database_ids=ids,
        ground_truth=(QueryGroundTruth((0,), (2,), (1,)), QueryGroundTruth((), (0,), ())),
    )
    database = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0]], np.float32)
    index = TeacherIndex(tmp_path / "index", SPACE, Preprocessing(SIDE), ids, database, None)
    return GroundTruth(index, dataset)


FileRow = Callable[..., RowReport]


@pytest.fixture
def file_row() -> FileRow:
    """Returns a function that makes the row of a file in a runtime, timed with one thread."""

    def make(
        name: str,
        precision: Precision,
        runtime: str,
        size_bytes: int,
        p50_ms: float | None,
        medium: float | None = None,
        over_fp32: tuple[float, float, float] | None = None,
        **changes: Any,
    ) -> RowReport:
        """Makes it.

        Args:
            name, precision, runtime, size_bytes: of the file; its suffix says the format.
            p50_ms: None for a row that was not timed.
            medium: its mAP; None for no ground truth.
            over_fp32: how many times as fast as fp32, and the interval.
            changes: of the row.
        """
        timed: tuple[ThreadsReport, ...] = ()
        if p50_ms is not None:
            latency = LatencyReport(60, 0.06 * p50_ms, p50_ms, p50_ms, p50_ms, 0.03, p50_ms)
            ratio = None if over_fp32 is None else SpeedUp(*over_fp32, 20)
            timed = (ThreadsReport(1, FreshStart(1.0, 1.0, 1.0, None, None), latency, None, ratio),)
        model_format = Format.ONNX if name.endswith(".onnx") else Format.TFLITE
        found = None if medium is None else AsymmetricMap(f"{runtime} cpu", "toy", 70, 0, medium, medium, medium)
        made = RowReport(
            *(
                f"{model_format} {precision}, {runtime}",
                Path(name),
                model_format,
                precision,
                runtime,
                "cpu",
                size_bytes,
            ),
            by_threads=timed,
            retrieval=found,
        )
        return replace(made, **changes)

    return make


@pytest.fixture
def report(manifest: Manifest) -> BenchmarkReport:
    """A report with a row of each kind: the student, a GPU's, a file with mAP, one that did not run, one simulated."""

    def threads(count: int | None, p50_ms: float, speed_up: SpeedUp | None, device: int | None = None) -> ThreadsReport:
        start = FreshStart(1234.5, 56.78, p50_ms, 45_600_000, device)
        latency = LatencyReport(60, 60 * p50_ms / 1000, p50_ms, 1.1 * p50_ms, 1.5 * p50_ms, 0.034, p50_ms)
        return ThreadsReport(count, start, latency, speed_up)

    found = AsymmetricMap("onnxruntime cpu", "roxford5k", 70, 0, 0.6543, 0.5, float("nan"))
    broken = AsymmetricMap("mil simulated", "roxford5k", 70, 3, float("nan"), float("nan"), float("nan"))
    rows = (
        RowReport(
            *("PyTorch eager", None, None, None, "torch", "cpu", 55_500_000),
            by_threads=(threads(1, 400.0, None), threads(2, 250.0, None)),
            throughput=Throughput(4.24, 8, 3),
        ),
        RowReport(
            *("PyTorch eager, cuda", None, None, None, "torch", "cuda", 55_500_000),
            by_threads=(threads(None, 5.0, SpeedUp(50.0, 49.5, 51.25, 20), 789_000_000),),
            throughput=Throughput(1234.56, 32, 3),
        ),
        RowReport(
            *("onnx fp32, onnxruntime", Path("a.onnx"), Format.ONNX, Precision.FP32, "onnxruntime", "cpu", 12_340_000),
            by_threads=(threads(1, 200.0, SpeedUp(2.0, 1.9, 2.125, 20)), threads(2, 100.0, SpeedUp(2.5, 2.4, 2.6, 20))),
            retrieval=found,
            verdict="verified",
        ),
        RowReport(
            *("coreml fp16, coreml", Path("a.mlpackage"), Format.COREML, Precision.FP16, "coreml", "cpu", 6_170_000),
            retrieval=broken,
            not_run="Core ML runs on Macs only.",
            verdict="changed since it was verified",
        ),
    )
    cost = CostReport(13_841_961, 3.1797, 6.3593, {"conv": 3.1797}, {}, 362, 362, "Multiply-accumulates of conv.")
    group = GroupReport(
        student="efficientnet_b3-untrained",
        backbone="efficientnet_b3",
        weights_sha256="0123456789abcdef" * 4,
        space=manifest.space,
        preprocessing=Preprocessing(362, Fit.SQUASH),
        trained=False,
        cost=cost,
        rows=rows,
        notes=("random weights: good for sizes and speeds only.",),
    )
    environment = Environment(
        system="Linux 6.1 x86_64",
        cpu="Some CPU @ 2.70GHz",
        instruction_sets=("avx2", "amx_bf16"),
        cores=2,
        cpu_quota=None,
        governor=None,
        memory_bytes=8_200_000_000,
        accelerators=(),
        python="3.12.1",
        versions={"torch": "2.13.0", "onnxruntime": "1.23.0"},
    )
    load = MachineLoad("2026-01-02T03:04:05+00:00", 61.2, 0.25, 0.0, 0.01)
    return BenchmarkReport(environment, load, LatencyPlan(), (1, 2), (group,), {"latency": "one image."})
