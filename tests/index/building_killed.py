"""Run by test_building.py in a process of its own: builds the same index, killed at one place after another.

The process forks a child for every build, so that imports are paid once. Either a child sends itself SIGKILL at the
n-th thing that it does to the file system below its output, as Python's audit events tell it, and is then left alone;
or a network embeds, and its process is killed after random times, again and again, until it came to its end.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
import time
from itertools import count
from pathlib import Path

from aml_edge.datasets.image_source import image_source
from aml_edge.embedder import Embedder, FakeEmbedder
from aml_edge.index.building import IndexOptions, build_index
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.preprocessing import Preprocessing
from aml_edge.runtimes.torch_runtime import TorchEmbedder
from aml_edge.space import EmbeddingSpace

SPACE = EmbeddingSpace("teacher", "a" * 64, 8)
OPTIONS = IndexOptions(shard_images=2, skip_unreadable=True)
BUILDS = 12


def fake() -> Embedder:
    return FakeEmbedder(SPACE, Preprocessing(image_side_px=16))


def network() -> Embedder:
    student = Student(StudentSpec("mobilenetv2_035", SPACE.dimension))
    return TorchEmbedder(student, space=SPACE, preprocessing=Preprocessing(image_side_px=32), threads=1)


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


def fork_build(embedder: Embedder, images: Path, out: Path, killed_at: int | None = None) -> int:
    """Returns the process that builds."""
    child = os.fork()
    if child == 0:
        if killed_at is not None:
            kill_at(killed_at, out)
        build_index(embedder, image_source(images), out, OPTIONS)
        os._exit(0)
    return child


def came_to_its_end(status: int) -> bool:
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.WEXITSTATUS(status) == 0
    return True


def is_done(out: Path) -> bool:
    """Whether a build was killed after the last thing that it had to do: then it would find its index in the way."""
    return (out / "index.json").exists() and not Path(f"{out}.partial").exists()


def run_in_child(images: Path, out: Path, killed_at: int | None = None) -> bool:
    """Returns whether the child came to its end."""
    _, status = os.waitpid(fork_build(fake(), images, out, killed_at), 0)
    return came_to_its_end(status)


def kill_at_events(images: Path, outs: Path) -> int:
    """Returns how many places there were to be killed at."""
    event = 1
    while not run_in_child(images, outs / f"killed-at-{event}", event):
        if not is_done(outs / f"killed-at-{event}"):
            run_in_child(images, outs / f"killed-at-{event}")
        event += 1
    return event - 1


def kill_at_random(images: Path, outs: Path) -> int:
    """Returns how many kills `BUILDS` builds met.

    A build lives as long as one undisturbed at first, at most; then longer and longer, since the machine may be busier
    than it was.
    """
    embedder, delays, kills = network(), random.Random(0), 0
    began = time.monotonic()
    assert came_to_its_end(os.waitpid(fork_build(embedder, images, outs / "undisturbed"), 0)[1])
    longest = time.monotonic() - began
    for build in range(BUILDS):
        for attempt in count():
            child = fork_build(embedder, images, outs / f"killed-{build}")
            time.sleep(delays.uniform(0, longest * 1.2**attempt))
            os.kill(child, signal.SIGKILL)  # what has ended stays to be waited for, and is not killed any more
            if came_to_its_end(os.waitpid(child, 0)[1]):
                break
            kills += 1
            if is_done(outs / f"killed-{build}"):
                break
    return kills


gc.freeze()  # or every child copies what its collector touches
print({"events": kill_at_events, "random": kill_at_random}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3])))
