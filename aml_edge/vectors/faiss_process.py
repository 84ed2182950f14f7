"""Reads a FAISS file in a process of its own, since FAISS is C++: what a damaged or unusual file can do ends there.

`main` is what runs there. It writes one line of JSON that says what the index is, then blocks: for each the int64
labels of its rows, where it has labels, and the rows, float32. What goes wrong is the last line on standard error.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from aml_edge.vectors.source import rows_at_once

EXACT = {
    "IndexFlat",
    "IndexFlat1D",
    "IndexFlatIP",
    "IndexFlatL2",
    "IndexHNSWFlat",
    "IndexIVFFlat",
    "IndexNSGFlat",
    "IndexRefineFlat",
}
"""What keeps the vectors that were added to it, by the name of its class."""
CANNOT_RECONSTRUCT = ("LSH", "Lattice", "FastScan", "Binary")
"""Parts of the names of classes that have no vectors to give back, or that end the process where they are asked."""
LABELLED = {"IndexIDMap", "IndexIDMap2"}
FAILED = 3
_PLACE = re.compile(r"^Error in .* at \S+:\d+: (Error: '.*' failed: )?")
"""Where in FAISS's source an error arose, which says nothing to who reads of it."""
_BYTES_BEYOND_FILE = 4 << 30
"""Of memory, for Python, FAISS and blocks; mapped files are not counted."""
_TIMES_FILE = 3
"""Memory for an index of so many bytes; an honest one takes no more."""

_Rows = npt.NDArray[np.float32]
_Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class FaissHeader:
    """What the process says first.

    Args:
        kind: names of the classes, outermost first.
        metric: in words.
        count, dimension: of the vectors.
        approximate: whether they come back with a loss.
        labelled: whether each has a number of its own.
    """

    kind: str
    metric: str
    count: int
    dimension: int
    approximate: bool
    labelled: bool


@dataclass(frozen=True)
class _Opened:
    header: FaissHeader
    read: Callable[[int, int], tuple[_Labels | None, _Rows]]


def main() -> None:
    """Serves the file that is named on the command line to whoever reads standard output."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what FAISS prints must not get between the answers
    _limit_memory(os.path.getsize(sys.argv[1]))
    try:
        serve(sys.argv[1], answers)
        answers.flush()
    except BrokenPipeError:
        os._exit(FAILED)  # whoever asked has gone
    except Exception as problem:
        reason = _PLACE.sub("", " ".join(str(problem).split())) or type(problem).__name__
        print(reason, file=sys.stderr, flush=True)
        os._exit(FAILED)


def serve(path: str, answers: IO[bytes]) -> None:
    """Writes the header and the blocks of a FAISS file."""
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.read_index(path, faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_READ_ONLY)  # lives as long as its name
    opened = _open(faiss, index)
    header = opened.header
    answers.write(json.dumps(asdict(header)).encode() + b"\n")
    for start, size in parts(header.count, header.dimension):
        labels, rows = opened.read(start, size)
        if labels is not None:
            answers.write(np.ascontiguousarray(labels, np.int64).data)
        answers.write(np.ascontiguousarray(rows, np.float32).data)


def parts(count: int, dimension: int) -> Iterator[tuple[int, int]]:
    """Yields start and size of each block of so many rows."""
    at_once = rows_at_once(dimension, 4)
    for start in range(0, count, at_once):
        yield start, min(at_once, count - start)


def _open(faiss: Any, index: Any) -> _Opened:
    """Returns how to read an index, which its class decides; raises `ValueError` where that cannot be done."""
    index, name = faiss.downcast_index(index), type(faiss.downcast_index(index)).__name__
    if name in LABELLED:
        inner, labels = _open(faiss, index.index), faiss.vector_to_array(index.id_map)
        _require_as_many(len(labels), inner.header.count)
        return _Opened(
            _header(index, f"{name} of {inner.header.kind}", approximate=inner.header.approximate, labelled=True),
            lambda start, size: (labels[start : start + size], inner.read(start, size)[1]),
        )
    if any(part in name for part in CANNOT_RECONSTRUCT):
        raise ValueError(f"an {name} does not give vectors back")
    inverted = faiss.try_extract_index_ivf(index)
    if inverted is not None and name.startswith("IndexIVF"):
        return _open_inverted(faiss, index, name)
    header = _header(index, name, approximate=name not in EXACT, labelled=False)
    if inverted is not None:
        inverted.make_direct_map()
    return _Opened(header, lambda start, size: (None, index.reconstruct_n(start, size)))


def _open_inverted(faiss: Any, index: Any, name: str) -> _Opened:
    """Returns how to read an index of inverted lists, in the order of the numbers that its vectors have."""
    lists = index.invlists
    found = [_list_labels(faiss, lists, number) for number in range(index.nlist)]
    labels = np.sort(np.concatenate(found)) if found else np.empty(0, np.int64)
    _require_as_many(len(labels), int(index.ntotal))
    labelled = not np.array_equal(labels, np.arange(len(labels)))
    index.set_direct_map_type(faiss.DirectMap.Hashtable)
    header = _header(index, name, approximate=name not in EXACT, labelled=labelled)

    def read(start: int, size: int) -> tuple[_Labels | None, _Rows]:
        wanted = labels[start : start + size]
        return wanted if labelled else None, index.reconstruct_batch(wanted)

    return _Opened(header, read)


def _list_labels(faiss: Any, lists: Any, number: int) -> _Labels:
    size = int(lists.list_size(number))
    if not size:
        return np.empty(0, np.int64)
    return np.array(faiss.rev_swig_ptr(lists.get_ids(number), size), np.int64)


def _header(index: Any, kind: str, *, approximate: bool, labelled: bool) -> FaissHeader:
    metric = {0: "inner product", 1: "L2"}.get(int(index.metric_type), f"metric {int(index.metric_type)}")
    return FaissHeader(kind, metric, int(index.ntotal), int(index.d), approximate, labelled)


def _require_as_many(labels: int, vectors: int) -> None:
    if labels != vectors:
        raise ValueError(f"it has {labels} labels for {vectors} vectors")


def _limit_memory(file_bytes: int) -> None:
    """Keeps a file that claims more than it holds from taking the machine's memory, where limits exist."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        most = _BYTES_BEYOND_FILE + _TIMES_FILE * file_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (most, resource.getrlimit(resource.RLIMIT_DATA)[1]))
