"""Run by test_synthetic.py in a process of its own: makes a data set, killed at one place after another.

The process forks a child for every attempt, so that imports are paid once. A child sends itself SIGKILL at the n-th
thing that it does to the file system below its output, as Python's audit events tell it.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from pathlib import Path

from aml_edge.datasets.synthetic.writing import write_synthetic


def kill_at(event_number: int, out: Path) -> None:
    """Arranges for this process to be killed before the n-th event that touches `out` or what lies in it."""
    seen = 0

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if event.startswith(("open", "os.")) and any(str(out) in str(one) for one in arguments):
            seen += 1
            if seen == event_number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def main() -> None:
    """Arguments: a folder for the outputs, a file with the pickled spec, and the numbers of the events to be killed at.

    Prints for each whether the child was killed: a number beyond the last event is not.
    """
    outs, spec = Path(sys.argv[1]), pickle.loads(Path(sys.argv[2]).read_bytes())
    for event_number in map(int, sys.argv[3:]):
        child = os.fork()
        if child == 0:
            out = outs / f"killed at {event_number}"
            kill_at(event_number, out)
            write_synthetic(out, spec)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(event_number, os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL)


if __name__ == "__main__":
    main()
