"""One at a time, and nothing left behind."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path
from typing import TextIO

import pytest

from aml_edge.file_lock import locked


def never() -> None:
    raise AssertionError("nobody else is in")


def test_the_lock_file_is_there_while_it_is_held_and_gone_afterwards(tmp_path: Path) -> None:
    lock = tmp_path / "folder" / "lock"
    for _ in range(2):
        with locked(lock, never):
            assert lock.is_file()
        assert not lock.exists()


def test_a_lock_file_that_nobody_holds_keeps_nobody_out(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    with locked(tmp_path / "lock", never):
        pass


def test_an_error_inside_frees_the_lock(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="inside"), locked(tmp_path / "lock", never):
        raise RuntimeError("inside")
    with locked(tmp_path / "lock", never):
        pass


def test_of_many_only_one_is_in(tmp_path: Path) -> None:
    """Each removes the file that the others wait for; they must not go on to lock a file that is no longer there."""
    inside, most, waits = 0, 0, 0

    def waited() -> None:
        nonlocal waits
        waits += 1

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with locked(tmp_path / "lock", waited):
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, inside) == (1, 0)
    assert not (tmp_path / "lock").exists()


def test_whoever_waits_says_so_once_and_gets_in(tmp_path: Path) -> None:
    said: list[str] = []
    entered = threading.Event()

    def wait() -> None:
        with locked(tmp_path / "lock", lambda: said.append("waiting")):
            entered.set()

    with locked(tmp_path / "lock", never):
        other = threading.Thread(target=wait)
        other.start()
        assert not entered.wait(0.5)
    other.join()
    assert entered.is_set()
    assert said == ["waiting"]


def test_a_lock_file_that_was_removed_meanwhile_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever was in removes it after the other has opened it: a lock on that file would keep nobody out."""
    lock, real = tmp_path / "lock", fcntl.flock

    def late(stream: TextIO, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", real)
        lock.unlink()
        real(stream, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with locked(lock, never):
        assert lock.is_file()
