"""Run by test_building.py in a process of its own: builds the same index, killed at one place after another.

The process forks a child for every build, so that imports are paid once. A child sends itself SIGKILL at the n-th
thing that it does to the file system below its output, as Python's audit events tell it.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path

from aml_edge.datasets.image_source import image_source
from aml_edge.embedder import FakeEmbedder
from aml_edge.index.building import IndexOptions, build_index
from aml_edge.preprocessing import Preprocessing
from aml_edge.space import EmbeddingSpace

SPACE = EmbeddingSpace("teacher", "a" * 64, 8)
OPTIONS = IndexOptions(shard_images=2, skip_unreadable=True)


def build(images: Path, out: Path) -> None:
    build_index(FakeEmbedder(SPACE, Preprocessing(image_side_px=16)), image_source(images), out, OPTIONS)


def kill_at(event_number: int, out: Path) -> None:
    """Arranges for this process to be killed before the n-th event that touches `out` or what lies beside it."""
    seen = 0

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if event.startswith(("open", "os.", "shutil.")) and any(str(out) in str(one) for one in arguments):
            seen += 1
            if seen == event_number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def run_in_child(images: Path, out: Path, killed_at: int | None) -> bool:
    """Returns whether the child came to its end."""
    child = os.fork()
    if child == 0:
        if killed_at is not None:
            kill_at(killed_at, out)
        build(images, out)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.WEXITSTATUS(status) == 0
    return True


def main(images: Path, outs: Path) -> None:
    event = 1
    gc.freeze()  # or every child copies what its collector touches
    while not run_in_child(images, outs / f"killed-at-{event}", event):
        done = (outs / f"killed-at-{event}" / "index.json").exists()
        left = (outs / f"killed-at-{event}.partial").exists()
        if left or not done:  # else it was killed after the last thing that it had to do
            run_in_child(images, outs / f"killed-at-{event}", None)
        event += 1
    print(event - 1)


main(Path(sys.argv[1]), Path(sys.argv[2]))
