"""`EmbedderRecipe`: all that it takes to open the same embedder here or on another machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from aml_edge.embedder import Embedder, EmbeddingSource
from aml_edge.errors import UsageError
from aml_edge.index.shard_embedding import READING_THREADS
from aml_edge.networks.checkpoints import TeacherCheckpoint
from aml_edge.networks.whitening import Whitening
from aml_edge.preprocessing import Preprocessing
from aml_edge.runtimes.checkpoint_embedders import teacher_embedder, teacher_embedder_name
from aml_edge.scales import SINGLE_SCALE, Scales
from aml_edge.space import EmbeddingSpace


def reading_threads(device: str) -> int:
    """Returns how many threads read ahead unless told otherwise; beside a GPU, which outruns a few of them, many."""
    return READING_THREADS if device == "cpu" else max(READING_THREADS, os.cpu_count() or 1)


class EmbedderRecipe(EmbeddingSource, Protocol):
    """What can be pickled and gives an embedder; what that will be is known before, also where it cannot run."""

    @property
    def threads(self) -> int:
        """Processor cores that an embedder keeps busy."""
        ...

    @property
    def device(self) -> str:
        """Where it runs, as PyTorch names it."""
        ...

    def open(self) -> Embedder:
        """Returns the embedder; raises `RuntimeUnavailableError` where this machine lacks the device."""
        ...


@dataclass(frozen=True)
class EngineOptions:
    """How an engine works.

    Args:
        workers: threads that read ahead in this process, or processes of a cluster; None leaves it to the engine.
        address: of a Ray cluster.
        say: takes the line that says where the work is done.
    """

    workers: int | None = None
    address: str | None = None
    say: Callable[[str], None] = lambda line: None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"`workers` is {self.workers}; embedding takes at least one.")


@dataclass(frozen=True)
class TeacherRecipe:
    """A teacher's `EmbedderRecipe`.

    Args:
        checkpoint: the teacher.
        preprocessing: of images.
        threads: of PyTorch's operators.
        whitening, scales: as `teacher_embedder` takes them.
        device: where to run.
    """

    checkpoint: TeacherCheckpoint
    preprocessing: Preprocessing
    threads: int
    whitening: Whitening | None = None
    scales: Scales = SINGLE_SCALE
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise UsageError(f"`threads` is {self.threads}; an inference needs at least one.")

    @property
    def name(self) -> str:
        """What the last bits of embeddings depend on."""
        return teacher_embedder_name(self.threads, self.device)

    @property
    def space(self) -> EmbeddingSpace:
        """The teacher's, whitened or not."""
        return self.checkpoint.space(self.whitening)

    def open(self) -> Embedder:
        """Returns the teacher as an embedder."""
        return teacher_embedder(
            self.checkpoint,
            self.preprocessing,
            whitening=self.whitening,
            scales=self.scales,
            threads=self.threads,
            device=self.device,
        )
