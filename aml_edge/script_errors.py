"""How a measuring script (`python -m aml_edge.benchmarks.NAME`) ends where it cannot measure: in one line."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager

from aml_edge.errors import AmlEdgeError


@contextmanager
def errors_in_a_line(parser: ArgumentParser) -> Iterator[None]:
    """Ends the process with one line on standard error, and the error's exit code, where a script cannot go on."""
    try:
        yield
    except AmlEdgeError as problem:
        parser.exit(problem.exit_code, f"error: {problem}\n")
    except OSError as problem:
        where = "" if problem.filename is None else f"{problem.filename}: "
        parser.exit(AmlEdgeError.exit_code, f"error: {where}{problem.strerror or problem}\n")
