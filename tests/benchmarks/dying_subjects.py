"""Subjects that end or disturb the process that runs them; it finds them by this file's folder in PYTHONPATH."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from aml_edge.embedder import Embedder, Embeddings, FakeEmbedder
from aml_edge.errors import MissingExtraError
from aml_edge.pixels import Pixels
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.space import EmbeddingSpace


class _Embedder(FakeEmbedder):
    """Prints at each call, and kills its process at one of them."""

    def __init__(self, deadly_call: int | None) -> None:
        super().__init__(EmbeddingSpace("toy teacher", "a" * 64, 3), Preprocessing(16, Fit.SQUASH))
        self._left = deadly_call

    def embed(self, images: Sequence[Pixels]) -> Embeddings:
        print("a library that talks", flush=True)
        os.write(1, b"from C++ too\n")
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().embed(images)


@dataclass(frozen=True)
class Lively:
    """Talks on standard output.

    Args:
        deadly_call: the call, from 1, at which its process is killed, as by the system when memory runs out.
    """

    deadly_call: int | None = None

    def import_runtime(self) -> None:
        """Nothing to import."""

    def open(self) -> Embedder:
        """Returns the Embedder."""
        return _Embedder(self.deadly_call)

    def device_peak_bytes(self) -> int | None:
        """Returns None."""
        return None


@dataclass(frozen=True)
class Crashing(Lively):
    """Ends its process with last words and an exit code when it is opened."""

    def open(self) -> Embedder:
        """Ends the process."""
        print("some words", file=sys.stderr)
        print("std::bad_alloc", file=sys.stderr, flush=True)
        os._exit(7)


@dataclass(frozen=True)
class Failing(Lively):
    """Fails with an error that is no error of ours when it is opened."""

    def open(self) -> Embedder:
        """Raises."""
        raise ValueError("the dog ate it")


@dataclass(frozen=True)
class Missing(Lively):
    """Needs what is not installed."""

    def open(self) -> Embedder:
        """Raises."""
        raise MissingExtraError("coremltools", "coreml", "the Core ML format")
