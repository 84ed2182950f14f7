"""Ctrl-C and SIGTERM, sent for real to this process."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from aml_edge.training.interruption import interruption


@pytest.fixture(autouse=True)
def default_handlers() -> Iterator[None]:
    """A job that was begun in the background inherits that SIGINT is ignored; after the test all is as before."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_heard_and_nothing_ends(number: signal.Signals) -> None:
    with interruption() as told:
        assert not told.asked
        os.kill(os.getpid(), number)
        assert told.asked


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_the_second_one_ends_at_once(first: signal.Signals, second: signal.Signals) -> None:
    reached = []
    with pytest.raises(KeyboardInterrupt), interruption():
        os.kill(os.getpid(), first)
        reached.append("after the first")
        os.kill(os.getpid(), second)
        reached.append("after the second")
    assert reached == ["after the first"]


def test_each_has_its_own_ear() -> None:
    with interruption() as told:
        os.kill(os.getpid(), signal.SIGINT)
    with interruption() as again:
        assert told.asked and not again.asked


@pytest.mark.parametrize("error", [None, ValueError("in between"), KeyboardInterrupt()])
def test_handlers_are_what_they_were(error: BaseException | None) -> None:
    def mine(number: int, frame: object) -> None:
        """Hears nothing."""

    signal.signal(signal.SIGTERM, mine)
    try:
        with interruption():
            assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
            assert signal.getsignal(signal.SIGTERM) is not mine
            if error is not None:
                raise error
    except (ValueError, KeyboardInterrupt) as ended:
        assert ended is error
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is mine


def test_outside_the_main_thread_nothing_is_changed() -> None:
    """Where Python takes no signals; what is yielded there is never told."""
    seen: list[object] = []

    def work() -> None:
        with interruption() as told:
            seen.extend([told.asked, signal.getsignal(signal.SIGINT)])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False, signal.default_int_handler]
