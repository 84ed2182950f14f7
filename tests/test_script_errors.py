"""How a measuring script ends where it cannot measure."""

from __future__ import annotations

import argparse

import pytest

from aml_edge.errors import TrainingError, UsageError
from aml_edge.script_errors import errors_in_a_line


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UsageError("`k` is 0; at least one."), 2, "error: `k` is 0; at least one.\n"),
        (TrainingError("it cannot go on."), 1, "error: it cannot go on.\n"),
        (FileNotFoundError(2, "No such file or directory", "x"), 1, "error: x: No such file or directory\n"),
        (OSError("the disk is gone"), 1, "error: the disk is gone\n"),
    ],
)
def test_an_error_is_one_line_with_its_code(
    error: Exception, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, errors_in_a_line(argparse.ArgumentParser()):
        raise error
    assert ended.value.code == code
    assert capsys.readouterr() == ("", said)


def test_mistakes_of_ours_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError), errors_in_a_line(argparse.ArgumentParser()):
        raise ZeroDivisionError
