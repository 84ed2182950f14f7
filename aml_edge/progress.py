"""How long work tells that it goes on, without knowing whether anyone watches.

A library function takes a `Progress`; the command line gives one that draws (`aml_edge.cli.console`), everyone else
the silent one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class ProgressTask(Protocol):
    """One piece of work with a known number of steps."""

    def advance(self, steps: int = 1, *, status: str = "") -> None:
        """Says that `steps` more are done; `status` is a few words such as the loss."""
        ...


class Progress(Protocol):
    """Where tasks are announced."""

    def task(self, description: str, total: int) -> AbstractContextManager[ProgressTask]:
        """Announces `total` steps of work; the task ends with the context."""
        ...


class SayingProgress(Progress, Protocol):
    """A Progress that can say a line too, for work that nobody should find out about afterwards: a download."""

    def say(self, line: str) -> None:
        """Says a line of plain text."""
        ...


class SilentProgress:
    """A Progress that says nothing."""

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[ProgressTask]:
        """Yields a task that nobody watches."""
        yield _SilentTask()

    def say(self, line: str) -> None:
        """Says nothing."""


class _SilentTask:
    def advance(self, steps: int = 1, *, status: str = "") -> None:
        """Says nothing."""
