"""Keeps what libraries print, from Python or from C++, away from the user's terminal."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TextIO

_DESCRIPTORS = (1, 2)
_lock = threading.RLock()


@contextmanager
def output_captured(log: Path) -> Iterator[None]:
    """Sends all that the process prints or warns of to the file `log` for as long as the context lasts.

    Standard output and error are redirected as file descriptors, so C++ libraries are caught too; they are restored
    whatever happens inside. File descriptors belong to the process: other threads are captured as well, one capture
    waits for another, and a progress bar must not be drawn meanwhile.
    """
    with _lock, log.open("a", encoding="utf-8", errors="replace", buffering=1) as stream:
        _flush()
        saved = [os.dup(descriptor) for descriptor in _DESCRIPTORS]
        try:
            for descriptor in _DESCRIPTORS:
                os.dup2(stream.fileno(), descriptor)
            with redirect_stdout(stream), redirect_stderr(stream), warnings.catch_warnings():
                warnings.simplefilter("default")
                warnings.showwarning = _warn_on_standard_error
                yield
        finally:
            _flush()
            for descriptor, original in zip(_DESCRIPTORS, saved, strict=True):
                os.dup2(original, descriptor)
                os.close(original)


@contextmanager
def output_discarded() -> Iterator[None]:
    """Like `output_captured`, for output that nobody will want, such as a runtime's greeting."""
    with tempfile.TemporaryDirectory() as folder, output_captured(Path(folder) / "log"):
        yield


def _warn_on_standard_error(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    (file or sys.stderr).write(warnings.formatwarning(message, category, filename, lineno, line))


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()
