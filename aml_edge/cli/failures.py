"""How a command that fails ends: one line that says what, why and what to do, and an exit code."""

from __future__ import annotations

import errno

import typer
from rich.console import Console
from rich.text import Text

from aml_edge.errors import AmlEdgeError

_TRACEBACK_STEP = "run `aml-edge --debug` with the same arguments to see where."
_PERMISSION_STEP = "change its permissions, or name another path."
_NEXT_STEPS: dict[int | None, str] = {
    errno.ENOSPC: "free some space, or name a path on another disk.",
    errno.EDQUOT: "free some space, or name a path on another disk.",
    errno.EACCES: _PERMISSION_STEP,
    errno.EPERM: _PERMISSION_STEP,
    errno.EROFS: _PERMISSION_STEP,
    errno.ENOENT: "check the path.",
    errno.EEXIST: "name another path.",
    errno.EISDIR: "name a file.",
    errno.ENOTDIR: "check the path: a file stands where a folder is needed.",
    errno.ENAMETOOLONG: "choose a shorter name.",
    errno.EMFILE: "raise the limit of open files: `ulimit -n`.",
}


def exit_with_error(error: Exception) -> typer.Exit:
    """Prints what went wrong and what to do on standard error and returns the exit that carries its code."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text.assemble(("error:", "red"), " ", _message(error)))
    return typer.Exit(error.exit_code if isinstance(error, AmlEdgeError) else AmlEdgeError.exit_code)


def say_interrupted() -> None:
    """Prints on standard error, on a line of its own, that the person at the terminal has stopped the command."""
    Console(stderr=True, highlight=False).print("[yellow]interrupted[/]")


def _message(error: Exception) -> str:
    if isinstance(error, AmlEdgeError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror}; {_NEXT_STEPS.get(error.errno, _TRACEBACK_STEP)}"
    summary = " ".join(str(error).split())
    return f"unexpected {type(error).__name__}{': ' if summary else ''}{summary}; {_TRACEBACK_STEP}"
