"""Run by test_building.py in a process of its own: builds an approximate index, killed at one place after another.

The process forks a child for every build, so that imports are paid once. A child sends itself SIGKILL at the n-th
thing that it does to the file system below the index, as Python's audit events tell it.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path

import faiss

from aml_edge.approximate.building import build_approximate
from aml_edge.approximate.specification import ApproximateSpec
from aml_edge.index import open_index


def kill_at(event_number: int, folder: Path) -> None:
    """Arranges for this process to be killed before the n-th event that touches the approximate indexes."""
    seen = 0

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if event.startswith(("open", "os.", "shutil.")) and any(str(folder) in str(one) for one in arguments):
            seen += 1
            if seen == event_number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def run_in_child(index: Path, killed_at: int | None) -> bool:
    """Returns whether the child came to its end."""
    child = os.fork()
    if child == 0:
        if killed_at is not None:
            kill_at(killed_at, index / "approximate")
        build_approximate(open_index(index), ApproximateSpec("IVF8,SQ8"))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.WEXITSTATUS(status) == 0
    return True


def main(indexes: Path) -> None:
    faiss.omp_set_num_threads(1)  # a thread pool does not survive a fork
    kills = 0
    gc.freeze()  # or every child copies what its collector touches
    for index in sorted(indexes.iterdir()):
        kills += 1
        if run_in_child(index, kills):
            break
        approximate = index / "approximate"
        whole = (approximate / "IVF8,SQ8").exists()
        names = {path.name for path in (approximate / "IVF8,SQ8").iterdir()} if whole else set()
        assert names in (set(), {"vectors.faiss", "record.json"}), names  # whole or not there
        assert run_in_child(index, None)
        assert sorted(path.name for path in approximate.iterdir()) == ["IVF8,SQ8"]
    print(kills - 1)


main(Path(sys.argv[1]))
