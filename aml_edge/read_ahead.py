"""`read_ahead`: what threads make of one value after another, in order, in bounded memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

AHEAD_PER_WORKER = 2
"""Results that wait or are being made, per thread: this bounds the memory."""

_THREADS = "read-ahead"

Value = TypeVar("Value")
Result = TypeVar("Result")


def read_ahead(
    function: Callable[[Value], Result], values: Iterable[Value], *, workers: int, at_least: int = 0
) -> Generator[Result, None, None]:
    """Yields the function's result for each value, in order; `workers` threads work ahead of whoever takes them.

    Args:
        function: what is made of a value.
        values: one after the other.
        workers: threads.
        at_least: results that are worked ahead, where a few per thread are too few for who takes many at once.
    """
    window = max(AHEAD_PER_WORKER * workers, at_least)
    pool = ThreadPoolExecutor(workers, thread_name_prefix=_THREADS)
    ahead: deque[Future[Result]] = deque()
    try:
        for value in values:
            ahead.append(pool.submit(function, value))
            if len(ahead) == window:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        collected_here = threading.current_thread().name.startswith(_THREADS)  # by the garbage collector, in a worker
        pool.shutdown(wait=not collected_here, cancel_futures=True)
