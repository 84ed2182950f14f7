"""Keeps a converter's chatter in a file, and turns its failure into one line that names the file."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aml_edge.errors import AmlEdgeError, ExportError
from aml_edge.native_output import output_captured


@contextmanager
def conversion_logged(log: Path, purpose: str) -> Iterator[None]:
    """Sends all that is printed inside to `log`, which is kept only where the conversion fails.

    Args:
        log: where the log goes; a file of that name is replaced.
        purpose: what was tried, for the message, e.g. ``"export of 'demo' to onnx"``.

    Raises:
        ExportError: for whatever the converter raised; its traceback ends the log.
    """
    log.unlink(missing_ok=True)
    failure: Exception | None = None
    try:
        with output_captured(log):
            try:
                yield
            except AmlEdgeError:
                raise
            except Exception as problem:
                failure = problem
                traceback.print_exc()
    finally:
        if failure is None:
            log.unlink(missing_ok=True)
    if failure is not None:
        raise ExportError(f"{purpose} failed: {_one_line(failure)}; the converter's log is {log}") from failure


def _one_line(problem: Exception) -> str:
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return f"{type(problem).__name__}: {lines[0]}" if lines else type(problem).__name__
