"""A worker in this process, on a clock that only its work moves, and on a real file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aml_edge.artifact import Artifact
from aml_edge.benchmarks import worker as worker_module
from aml_edge.benchmarks.file_subject import FileSubject
from aml_edge.benchmarks.latency import LatencyPlan
from aml_edge.benchmarks.worker import LocalWorker, Throughput, random_image
from aml_edge.embedder import Embedder, Embeddings, FakeEmbedder
from aml_edge.errors import RuntimeUnavailableError
from aml_edge.pixels import Pixels
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.space import EmbeddingSpace

MS = 1_000_000
SPACE = EmbeddingSpace("toy teacher", "a" * 64, 3)
PREPROCESSING = Preprocessing(24, Fit.SQUASH)
PLAN = LatencyPlan(warm_up_runs=3, warm_up_seconds=0.1, rounds=2, turn_runs=2, turn_seconds=0.0)

OnnxFile = Callable[..., Artifact]


class Embedding(FakeEmbedder):
    """Takes so long for each call on its subject's clock, and notes what it was called with."""

    def __init__(self, subject: Timed) -> None:
        super().__init__(SPACE, PREPROCESSING)
        self._subject = subject

    def embed(self, images: Sequence[Pixels]) -> Embeddings:
        self._subject.spend(f"embed {len(images)}", next(self._subject.calls_ms, 40.0))
        return super().embed(images)

    def close(self) -> None:
        self._subject.spend("close", 0)


class BatchEmbedding(Embedding):
    def embed_batch(self, images: list[Pixels]) -> Embeddings:
        self._subject.spend(f"batch {len(images)}", 500.0)
        return FakeEmbedder.embed(self, images)


class Timed:
    """A Subject whose every step takes a time that is known."""

    def __init__(self, *calls_ms: float, batches: bool = False) -> None:
        self.calls_ms = iter(calls_ms)
        self.now = 5
        self.log: list[str] = []
        self._batches = batches

    def spend(self, what: str, ms: float) -> None:
        self.log.append(what)
        self.now += round(ms * MS)

    def clock(self) -> int:
        return self.now

    def import_runtime(self) -> None:
        self.spend("import", 7000)

    def open(self) -> Embedder:
        self.spend("open", 300)
        return BatchEmbedding(self) if self._batches else Embedding(self)

    def device_peak_bytes(self) -> int | None:
        return 123


def test_load_first_and_warm_up_are_told_apart_and_imports_left_out() -> None:
    subject = Timed(90.0, 30.0, 50.0, 41.0)
    worker = LocalWorker(subject, PLAN, subject.clock)
    assert subject.log == ["import", "open", *["embed 1"] * 4]
    start = worker.fresh_start
    assert (start.load_ms, start.first_ms) == (300, 90)
    assert start.warm_ms == 41  # of 30, 50 and 41, which last 0.121 s
    assert start.device_peak_bytes == 123


def test_a_turn_times_one_image_a_call_after_one_untimed() -> None:
    subject = Timed(90.0, 40.0, 40.0, 40.0, 77.0, 10.0, 20.0)
    worker = LocalWorker(subject, PLAN, subject.clock)
    subject.log.clear()
    assert worker.take_turn(PLAN) == (10 * MS, 20 * MS)
    assert subject.log == ["embed 1"] * 3


def test_batches_go_together_where_the_runtime_takes_them() -> None:
    subject = Timed(batches=True)
    worker = LocalWorker(subject, PLAN, subject.clock)
    subject.log.clear()
    assert worker.measure_throughput(6) == Throughput(12.0, 6, 3)  # three calls of half a second, one more untimed
    assert subject.log == ["batch 6"] * 4


def test_one_image_a_call_has_no_batches() -> None:
    subject = Timed()
    worker = LocalWorker(subject, PLAN, subject.clock)
    assert worker.measure_throughput(8) is None


def test_closing_frees_the_embedder() -> None:
    subject = Timed()
    LocalWorker(subject, PLAN, subject.clock).close()
    assert subject.log[-1] == "close"


@pytest.mark.parametrize(
    ("can_forget", "resident", "peaks", "expected"),
    [
        (True, 100, (900,), 800),  # what was held before may have been more once, and is forgotten
        (False, 100, (900, 1300), 400),  # beyond the peak before, where it cannot be forgotten
        (True, 900, (100,), 0),
        (True, None, (900,), None),
        (True, 100, (None,), None),
    ],
)
def test_peak_memory_is_beyond_what_was_held_before_the_load(
    monkeypatch: pytest.MonkeyPatch,
    can_forget: bool,
    resident: int | None,
    peaks: tuple[int | None, ...],
    expected: int | None,
) -> None:
    said = iter(peaks)
    monkeypatch.setattr(worker_module, "forget_peak", lambda: can_forget)
    monkeypatch.setattr(worker_module, "resident_bytes", lambda: resident)
    monkeypatch.setattr(worker_module, "peak_resident_bytes", lambda: next(said))
    subject = Timed()
    assert LocalWorker(subject, PLAN, subject.clock).fresh_start.peak_bytes == expected


def test_noise_is_a_square_of_the_side_and_always_the_same() -> None:
    image = random_image(PREPROCESSING)
    assert image.shape == (24, 24, 3)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, random_image(PREPROCESSING))
    assert image.std() == pytest.approx(256 / 12**0.5, rel=0.05)  # evenly spread over 0 … 255


def test_a_real_file_is_run(onnx_file: OnnxFile, tmp_path: Path) -> None:
    subject = FileSubject(onnx_file(tmp_path / "a.onnx"), "onnxruntime", 1)
    worker = LocalWorker(subject, replace(PLAN, warm_up_seconds=0.0))
    assert len(worker.take_turn(PLAN)) == 2
    assert min(worker.take_turn(PLAN)) > 0
    assert worker.measure_throughput(8) is None
    assert worker.fresh_start.device_peak_bytes is None
    worker.close()
    worker.close()


def test_a_device_that_is_not_there_is_said_when_it_is_opened() -> None:
    class Absent(Timed):
        def open(self) -> Embedder:
            raise RuntimeUnavailableError("no such device.")

    subject = Absent()
    with pytest.raises(RuntimeUnavailableError, match="no such device"):
        LocalWorker(subject, PLAN, subject.clock)
