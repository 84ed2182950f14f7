"""The silent Progress says nothing and can stand wherever one is asked for."""

from __future__ import annotations

import pytest

from aml_edge.progress import Progress, SilentProgress


def count(progress: Progress) -> int:
    """Does three steps of work as a library function would."""
    done = 0
    with progress.task("counting", 3) as task:
        for _ in range(3):
            done += 1
            task.advance(status=f"{done}")
    return done


def test_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    progress = SilentProgress()
    assert count(progress) == 3
    progress.say("a line")
    assert capfd.readouterr() == ("", "")


def test_keeps_no_error_to_itself() -> None:
    with pytest.raises(RuntimeError, match="of the work"), SilentProgress().task("failing", 1):
        raise RuntimeError("of the work")
