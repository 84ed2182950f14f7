"""`Worker`: one row of a benchmark, loaded and ready to take turns.

`LocalWorker` does the work where it is made; `aml_edge.benchmarks.worker_process` makes one in a fresh process, since
in one process rows would share threads, allocators and the largest memory that was ever held.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from aml_edge.benchmarks.latency import NS_PER_MS, NS_PER_SECOND, Clock, LatencyPlan, time_turn, time_warm_up
from aml_edge.benchmarks.memory import forget_peak, peak_resident_bytes, resident_bytes
from aml_edge.benchmarks.subject import Subject
from aml_edge.embedder import Embedder, Embeddings
from aml_edge.pixels import Pixels
from aml_edge.preprocessing import Preprocessing

BATCH_PLAN = LatencyPlan(warm_up_runs=1, warm_up_seconds=0.0, rounds=1, turn_runs=3, turn_seconds=1.0)


@dataclass(frozen=True)
class FreshStart:
    """What a process that held nothing yet met, its imports done.

    Args:
        load_ms: from the file to an Embedder.
        first_ms: the first inference.
        warm_ms: median of the warm-up that followed.
        peak_bytes: the most memory held from the load to the end of the warm-up, beyond what was held before; None
            where the system does not say.
        device_peak_bytes: of an accelerator; None on the CPU.
    """

    load_ms: float
    first_ms: float
    warm_ms: float
    peak_bytes: int | None
    device_peak_bytes: int | None


@dataclass(frozen=True)
class Throughput:
    """Images a second when several go through together.

    Args:
        images_per_second: over all timed calls.
        batch_images: how many go together.
        runs: timed calls.
    """

    images_per_second: float
    batch_images: int
    runs: int


class Worker(Protocol):
    """A row that takes turns."""

    @property
    def fresh_start(self) -> FreshStart:
        """What its start took."""
        ...

    def take_turn(self, plan: LatencyPlan) -> tuple[int, ...]:
        """Returns the nanoseconds of each timed call of a turn, one image a call."""
        ...

    def measure_throughput(self, batch_images: int) -> Throughput | None:
        """Returns what batches reach, or None where the runtime takes one image a call."""
        ...

    def close(self) -> None:
        """Ends it; calling it twice is harmless."""
        ...


@runtime_checkable
class BatchEmbedder(Protocol):
    """An Embedder whose network takes several images in one call."""

    def embed_batch(self, images: list[Pixels]) -> Embeddings:
        """Returns (B, D) embeddings of images of one shape."""
        ...


class LocalWorker:
    """A Worker in this process: opened, run once and warmed up when it is made.

    A call hands pixels in memory to `embed` and has the embedding back in memory, so a GPU has finished by then.

    Args:
        subject: what to run.
        plan: gives the warm-up.
        clock: nanoseconds.
    """

    def __init__(self, subject: Subject, plan: LatencyPlan, clock: Clock = time.perf_counter_ns) -> None:
        self._clock = clock
        subject.import_runtime()
        held = resident_bytes() if forget_peak() else peak_resident_bytes()
        started = clock()
        self._embedder: Embedder = subject.open()
        opened = clock()
        self._image = random_image(self._embedder.preprocessing)
        first = clock()
        self._call()
        ran = clock()
        warm_times = time_warm_up(self._call, plan, clock)
        peak = peak_resident_bytes()
        self.fresh_start = FreshStart(
            load_ms=(opened - started) / NS_PER_MS,
            first_ms=(ran - first) / NS_PER_MS,
            warm_ms=float(np.median(warm_times)) / NS_PER_MS,
            peak_bytes=None if peak is None or held is None else max(0, peak - held),
            device_peak_bytes=subject.device_peak_bytes(),
        )

    def take_turn(self, plan: LatencyPlan) -> tuple[int, ...]:
        """Returns the nanoseconds of each timed call of a turn, one image a call."""
        return time_turn(self._call, plan, self._clock)

    def measure_throughput(self, batch_images: int) -> Throughput | None:
        """Returns what batches reach, or None where the runtime takes one image a call."""
        embedder = self._embedder
        if not isinstance(embedder, BatchEmbedder):
            return None
        images = [self._image] * batch_images
        times = time_turn(lambda: embedder.embed_batch(images), BATCH_PLAN, self._clock)
        return Throughput(batch_images * len(times) / (sum(times) / NS_PER_SECOND), batch_images, len(times))

    def close(self) -> None:
        """Frees the Embedder."""
        self._embedder.close()

    def _call(self) -> None:
        self._embedder.embed([self._image])


def random_image(preprocessing: Preprocessing) -> Pixels:
    """Returns a square of seeded noise: what a network costs does not depend on what it sees."""
    side = preprocessing.image_side_px
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
