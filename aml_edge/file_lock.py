"""A lock between processes that ends with the process that holds it, however that ends."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

if sys.platform != "win32":
    import fcntl

_POLL_SECONDS = 0.2


@contextmanager
def locked(lock: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Keeps other processes, and other threads, out of the same lock file; waits for whoever is in.

    Args:
        lock: made where it is missing, removed at the end; its folder is made too.
        on_wait: called once where another one is in.

    On Windows nothing is locked: there two processes may do the same work twice.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with _acquired(lock, on_wait):
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _acquired(lock: Path, on_wait: Callable[[], None]) -> TextIO:
    """Returns the lock file, opened and locked."""
    waiting = False
    while True:
        stream = lock.open("w")
        if sys.platform == "win32":
            return stream
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.close()
        except OSError:
            stream.close()
            raise
        else:
            if _is_still(lock, stream):
                return stream
            stream.close()  # whoever was in has removed it meanwhile: a later process would lock another file
            continue
        if not waiting:
            waiting = True
            on_wait()
        time.sleep(_POLL_SECONDS)


def _is_still(lock: Path, stream: TextIO) -> bool:
    try:
        return os.path.samestat(lock.stat(), os.fstat(stream.fileno()))
    except FileNotFoundError:
        return False
