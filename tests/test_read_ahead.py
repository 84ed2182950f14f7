"""Results of threads: in order, few ahead, and nothing left running."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from aml_edge.read_ahead import AHEAD_PER_WORKER, read_ahead


@pytest.mark.parametrize("workers", [1, 2, 5, 64])
def test_results_come_in_the_order_of_the_values(workers: int) -> None:
    def slow_first(value: int) -> int:
        time.sleep(0.005 if value % 3 == 0 else 0)
        return value * value

    assert list(read_ahead(slow_first, range(20), workers=workers)) == [value * value for value in range(20)]


def test_values_are_taken_only_as_far_ahead_as_the_bound() -> None:
    taken = [0]

    def values() -> Iterator[int]:
        for value in range(50):
            taken[0] += 1
            yield value

    for done, result in enumerate(read_ahead(lambda value: value, values(), workers=3), start=1):
        assert result == done - 1
        assert taken[0] <= done + 3 * AHEAD_PER_WORKER


@pytest.mark.parametrize(("at_least", "window"), [(0, 4), (3, 4), (9, 9)])
def test_as_many_are_worked_ahead_as_are_taken_at_once(at_least: int, window: int) -> None:
    """Two workers: two each, or what is asked for where that is more."""
    taken: list[int] = []
    results = read_ahead(taken.append, range(50), workers=2, at_least=at_least)
    next(results)
    deadline = time.monotonic() + 10
    while len(taken) < window and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.01)
    assert sorted(taken) == list(range(window))
    results.close()


def test_what_goes_wrong_is_raised_in_its_place_and_no_thread_is_left() -> None:
    before = threading.active_count()
    results = read_ahead(lambda value: 1 // value, [1, 1, 0, 1], workers=2)
    assert [next(results), next(results)] == [1, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert threading.active_count() == before


def test_threads_end_with_the_iterator() -> None:
    before = threading.active_count()
    results = read_ahead(lambda value: value, range(100), workers=3)
    next(results)
    assert threading.active_count() > before
    results.close()
    assert threading.active_count() == before


def test_no_values_give_no_results() -> None:
    assert list(read_ahead(str, [], workers=2)) == []


def test_who_is_given_up_may_be_collected_by_one_of_its_own_threads() -> None:
    """The garbage collector runs in any thread; none can wait for itself."""
    given_up: list[Any] = []  # a generator, which can be closed
    may_go = threading.Event()
    problems: list[BaseException] = []

    def close(value: int) -> int:
        if value == 1:
            may_go.wait(10)
            try:
                given_up.pop().close()
            except BaseException as problem:
                problems.append(problem)
        return value

    given_up.append(read_ahead(close, range(9), workers=1))
    assert next(given_up[0]) == 0
    may_go.set()
    deadline = time.monotonic() + 10
    while given_up and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.05)
    assert not given_up and not problems
