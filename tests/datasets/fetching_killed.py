"""Run by test_fetching.py in a process of its own: fetches the same data set, killed at one place after another.

The files are taken from a folder by hand, or from a web server of this process that serves it.

The process forks a child for every fetch, so that imports are paid once. A child sends itself SIGKILL at the n-th
thing that it does to the file system below its output, as Python's audit events tell it.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from aml_edge.datasets.fetched_files import FetchOptions
from aml_edge.datasets.fetching import fetch
from aml_edge.datasets.published import PUBLISHED, PublishedDataset
from aml_edge.progress import SilentProgress

DATASET = PUBLISHED["rparis6k"]
STRIDE = 3
SMALL = replace(DATASET, files=tuple(replace(file, size_bytes=1000) for file in DATASET.files))


def kill_at(event_number: int, out: Path) -> None:
    """Arranges for this process to be killed before the n-th event that touches `out` or what lies in it."""
    seen = 0

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if event.startswith(("open", "os.", "shutil.")) and any(str(out) in str(one) for one in arguments):
            seen += 1
            if seen == event_number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder and says nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


def served(folder: Path) -> PublishedDataset:
    """Returns the data set at the address of a server that ends with this process."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    return replace(SMALL, files=tuple(replace(file, url=f"{url}/{file.name}") for file in SMALL.files))


def run_in_child(dataset: PublishedDataset, by_hand: Path | None, out: Path, killed_at: int | None) -> bool:
    """Returns whether the child came to its end."""
    child = os.fork()
    if child == 0:
        if killed_at is not None:
            kill_at(killed_at, out)
        fetch(dataset, out, FetchOptions(by_hand), SilentProgress())
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.WEXITSTATUS(status) == 0
    return True


def tree(out: Path) -> tuple[tuple[str, bytes], ...]:
    """Returns all files below a folder with their content."""
    files = [path for path in sorted(out.rglob("*")) if path.is_file()]
    return tuple((str(path.relative_to(out)), path.read_bytes()) for path in files)


def main(folder: Path, outs: Path, *, download: bool) -> None:
    dataset, by_hand = (served(folder), None) if download else (SMALL, folder)
    event, trees = 1, set()
    gc.freeze()  # or every child copies what its collector touches
    done = False
    while not done:
        out = outs / f"killed-at-{event}"
        done = run_in_child(dataset, by_hand, out, event)
        run_in_child(dataset, by_hand, out, None)
        trees.add(tree(out))
        event += 1 if done else STRIDE
    print(json.dumps({"kills": len(list(outs.iterdir())) - 1, "trees": len(trees)}))


main(Path(sys.argv[1]), Path(sys.argv[2]), download=sys.argv[3] == "download")
