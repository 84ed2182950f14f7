"""`Subject`: what one process of a benchmark runs, and nothing beside it."""

from __future__ import annotations

from typing import Protocol

from aml_edge.embedder import Embedder


class Subject(Protocol):
    """Something that can be opened and timed; it is sent to a fresh process, so it holds no session."""

    def import_runtime(self) -> None:
        """Imports what `open` will need, so that imports are in no measurement; one that is not installed is left."""
        ...

    def open(self) -> Embedder:
        """Returns an Embedder that is ready for its first image."""
        ...

    def device_peak_bytes(self) -> int | None:
        """Returns the most memory of an accelerator that it held, or None where it runs on the CPU."""
        ...
