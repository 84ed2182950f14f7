"""`FileSubject`: an exported file in one of the runtimes."""

from __future__ import annotations

import importlib
from contextlib import suppress
from dataclasses import dataclass

from aml_edge.artifact import Artifact
from aml_edge.embedder import Embedder
from aml_edge.runtimes import RUNTIMES, open_artifact


@dataclass(frozen=True)
class FileSubject:
    """An exported file in a runtime.

    Args:
        artifact: the file, its manifest read already.
        runtime: a name of `RUNTIMES`.
        threads: of one inference; None for all cores.
    """

    artifact: Artifact
    runtime: str
    threads: int | None

    def import_runtime(self) -> None:
        """Imports the runtime's package, if this kind of machine can use it."""
        runtime = RUNTIMES[self.runtime]
        if runtime.module is not None and runtime.runs_here():
            with suppress(ImportError):  # `open` says it in better words
                importlib.import_module(runtime.module)

    def open(self) -> Embedder:
        """Returns an Embedder of the file."""
        return open_artifact(self.artifact, self.runtime, threads=self.threads)

    def device_peak_bytes(self) -> int | None:
        """Returns None: the runtimes run on the CPU, or do not say."""
        return None
