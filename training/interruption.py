"""Ctrl-C and SIGTERM while a network learns: heard at once, obeyed between two steps, where the state is whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Whether somebody has asked for the end."""

    asked = False


@contextmanager
def interruption() -> Iterator[Interruption]:
    """Yields what is told when SIGINT or SIGTERM comes; the second one raises KeyboardInterrupt wherever it is.

    Outside the main thread, where Python takes no signals, nothing is changed.
    """
    told = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield told
        return

    def hear(number: int, frame: FrameType | None) -> None:
        if told.asked:
            raise KeyboardInterrupt
        told.asked = True

    before = {number: signal.signal(number, hear) for number in _SIGNALS}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
