"""What every command prints with: a console, a progress bar, a JSON file."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from aml_edge.files import write_text_atomically
from aml_edge.progress import ProgressTask

STANDARD_OUTPUT = Path("-")
PLAIN_LINE_SECONDS = 10.0
LOG_COLUMNS = 120
"""Where nobody's terminal sets the width, tables must not be cut to the 80 columns that are assumed then."""

JsonOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the same numbers as JSON; - for standard output.")
]


def console_for(json_target: Path | None) -> Console:
    """Returns the console for people: standard output, or standard error where JSON goes to standard output."""
    console = Console(stderr=json_target == STANDARD_OUTPUT, highlight=False, emoji=False)
    if console.is_terminal:
        return console
    width = None if "COLUMNS" in os.environ else LOG_COLUMNS
    return Console(stderr=console.stderr, highlight=False, emoji=False, width=width)


def write_json(report: object, target: Path | None) -> None:
    """Writes a report (dataclasses, mappings, sequences, enums, paths) as JSON; NaN and infinities become null."""
    if target is None:
        return
    text = json.dumps(_as_json(report), indent=2, allow_nan=False)
    if target == STANDARD_OUTPUT:
        sys.stdout.write(text + "\n")
    else:
        write_text_atomically(target, text + "\n")


@contextmanager
def at_least_wide(console: Console, columns: int) -> Iterator[None]:
    """Lays out at least so many columns: a narrow terminal wraps lines that are too long, and no figure is cut."""
    before = console.width
    console.width = max(before, columns)
    try:
        yield
    finally:
        console.width = before


@contextmanager
def unredirected(console: Console) -> Iterator[Console]:
    """Yields a console on the same terminal that still reaches it while a converter's output goes to a log."""
    if not console.is_terminal:
        yield console
        return
    with os.fdopen(os.dup(console.file.fileno()), "w") as terminal:
        yield Console(file=terminal, highlight=False)


class ConsoleProgress:
    """A Progress that draws a bar on a terminal and writes a plain line now and then in a log.

    Args:
        console: of either.
        every_task: whether a log gets a line of work that was done before the first was due, too.
    """

    def __init__(self, console: Console, *, every_task: bool = True) -> None:
        self._console, self._every_task = console, every_task

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[ProgressTask]:
        """Yields a task drawn on the console."""
        if not self._console.is_terminal:
            plain = _PlainTask(self._console, description, total)
            yield plain
            plain.finish(even_quick=self._every_task)
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}", markup=False),
        )
        with RichProgress(*columns, console=self._console) as bar:
            yield _BarTask(bar, bar.add_task(description, total=total, status=""))

    def say(self, line: str) -> None:
        """Prints a line as it is."""
        self._console.print(line, markup=False, soft_wrap=True)


class _BarTask:
    def __init__(self, bar: RichProgress, task: TaskID) -> None:
        self._bar = bar
        self._task = task

    def advance(self, steps: int = 1, *, status: str = "") -> None:
        self._bar.update(self._task, advance=steps, status=status)


class _PlainTask:
    def __init__(self, console: Console, description: str, total: int) -> None:
        self._console, self._description, self._total = console, description, total
        self._done, self._status = 0, ""
        self._started = self._last_line = time.monotonic()

    def advance(self, steps: int = 1, *, status: str = "") -> None:
        self._done += steps
        self._status = status or self._status
        if self._done < self._total and time.monotonic() - self._last_line >= PLAIN_LINE_SECONDS:
            self._last_line = time.monotonic()
            self._line()

    def finish(self, *, even_quick: bool) -> None:
        if even_quick or time.monotonic() - self._started >= PLAIN_LINE_SECONDS:
            self._line()

    def _line(self) -> None:
        elapsed = time.monotonic() - self._started
        under_way = 0 < self._done < self._total
        left = f", {elapsed / self._done * (self._total - self._done):.0f} s left" if under_way else ""
        status = f", {self._status}" if self._status else ""
        counts = f"{self._description}: {self._done}/{self._total}"
        self._console.print(f"{counts}, {elapsed:.1f} s{left}{status}", markup=False, soft_wrap=True)


def _as_json(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _as_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if isinstance(value, frozenset):
        return sorted((_as_json(item) for item in value), key=str)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    raise TypeError(f"a report holds {type(value).__name__}, which has no JSON form")
