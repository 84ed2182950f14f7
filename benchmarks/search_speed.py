"""How long an exact search takes, beside the plain expression of PyTorch and beside blocks of NumPy.

Run as ``python -m aml_edge.benchmarks.search_speed``. All in one process, by turns in an order drawn anew each round.
The database is a file, which the page cache holds after the first turn; the plain expression and NumPy have it in
memory. The product alone is what whoever searches must compute. Checked rows are those of an index, which are looked at
once a process: in the turn that is not timed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from aml_edge.benchmarks.environment import LoadWatch
from aml_edge.benchmarks.latency import LatencyReport, summarise
from aml_edge.embedder import Embeddings
from aml_edge.index.checked_rows import CheckedRows
from aml_edge.search import top_k

OURS, CHECKED, PLAIN, NUMPY, PRODUCT = (
    "top_k",
    "top_k, rows checked",
    "torch.topk(q @ d.T)",
    "numpy blocks",
    "q @ d.T alone",
)
NUMPY_BLOCK_VALUES = 1 << 23
SAMPLE_ROWS = 8192
"""Rows that are drawn at once."""


@dataclass(frozen=True)
class SearchCase:
    """What is searched.

    Args:
        rows, dimension, dtype: of the database, ``"float32"`` or ``"float16"``.
        queries: that ask together.
        k: what each finds.
    """

    rows: int
    dimension: int
    dtype: str
    queries: int
    k: int = 10


@dataclass(frozen=True)
class SearchSpeed:
    """What was timed.

    Args:
        reports: by what searched.
        agreement: share of found rows that `top_k` and the plain expression have at the same rank.
    """

    reports: Mapping[str, LatencyReport]
    agreement: float


def measure_search_speed(case: SearchCase, rounds: int, folder: Path) -> SearchSpeed:
    """Searches once without timing and `rounds` times with it, by turns.

    Args:
        case: what is searched: directions drawn evenly, seeded.
        rounds: at least 1.
        folder: where the database is written.
    """
    generator = np.random.default_rng(0)
    database = _written(case, folder / "database.npy", generator)
    queries = _directions(case.queries, case.dimension, generator)
    in_memory = np.array(database)
    tensor, asked = torch.from_numpy(in_memory), torch.from_numpy(queries)
    checked = CheckedRows(folder, range(case.rows), database)  # type: ignore[arg-type]  # names are not asked for
    contestants: Mapping[str, Callable[[], object]] = {
        OURS: lambda: top_k(queries, database, case.k),
        CHECKED: lambda: top_k(queries, checked, case.k),
        PLAIN: lambda: torch.topk(asked @ tensor.float().T, case.k),
        NUMPY: lambda: numpy_top_k(queries, in_memory, case.k),
        PRODUCT: lambda: asked @ tensor.float().T,
    }
    taken: dict[str, list[int]] = {name: [] for name in contestants}
    names = list(contestants)
    for turn in range(rounds + 1):
        for place in generator.permutation(len(names)):
            before = time.perf_counter_ns()
            contestants[names[place]]()
            if turn:
                taken[names[place]].append(time.perf_counter_ns() - before)
    plain = torch.topk(asked @ tensor.float().T, case.k).indices.numpy()
    agreement = float((top_k(queries, database, case.k).rows == plain).mean())
    return SearchSpeed({name: summarise(times) for name, times in taken.items()}, agreement)


def numpy_top_k(queries: Embeddings, database: npt.NDArray[np.floating], k: int) -> npt.NDArray[np.int64]:
    """Returns (Q, k) rows, nearest first and equal ones in database order, as NumPy finds them block by block."""
    similarities = np.empty((len(queries), 0), np.float32)
    rows = np.empty((len(queries), 0), np.int64)
    step = max(1, NUMPY_BLOCK_VALUES // max(queries.shape))
    for start in range(0, len(database), step):
        block = np.asarray(database[start : start + step], np.float32)
        similarities = np.concatenate([similarities, queries @ block.T], axis=1)
        numbers = np.broadcast_to(np.arange(start, start + len(block)), (len(queries), len(block)))
        rows = np.concatenate([rows, numbers], axis=1)
        width = min(k, similarities.shape[1])
        thresholds = np.partition(similarities, -width, axis=1)[:, -width]
        places = np.empty((len(queries), width), np.int64)
        for query, (values, threshold) in enumerate(zip(similarities, thresholds, strict=True)):
            candidates = np.flatnonzero(values >= threshold)
            places[query] = candidates[np.argsort(-values[candidates], kind="stable")[:width]]
        similarities = np.take_along_axis(similarities, places, axis=1)
        rows = np.take_along_axis(rows, places, axis=1)
    return rows


def _written(case: SearchCase, file: Path, generator: np.random.Generator) -> npt.NDArray[np.floating]:
    """Returns a database in a file, mapped to be read."""
    rows = np.lib.format.open_memmap(file, "w+", np.dtype(case.dtype), (case.rows, case.dimension))
    for start in range(0, case.rows, SAMPLE_ROWS):
        part = rows[start : start + SAMPLE_ROWS]
        part[:] = _directions(len(part), case.dimension, generator)
    rows.flush()
    mapped: npt.NDArray[np.floating] = np.load(file, mmap_mode="r")
    return mapped


def _directions(count: int, dimension: int, generator: np.random.Generator) -> Embeddings:
    rows = generator.standard_normal((count, dimension), np.float32)
    directions: Embeddings = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return directions


def main() -> None:
    """Prints milliseconds of each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000, help="of the database")
    parser.add_argument("--dimension", type=int, default=2048)
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 16, 256], help="that ask together")
    parser.add_argument("--dtype", nargs="+", choices=("float32", "float16"), default=["float32", "float16"])
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=15, help="timed ones, after one that is not")
    parser.add_argument("--threads", type=int, help="of PyTorch; its own number")
    arguments = parser.parse_args()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    print(
        f"{arguments.rows} × {arguments.dimension}, k {arguments.k}; {arguments.rounds} rounds after one untimed, "
        f"{torch.get_num_threads()} threads of PyTorch; median (90th percentile) and fastest, ms"
    )
    watch = LoadWatch()
    for dtype in arguments.dtype:
        for queries in arguments.queries:
            case = SearchCase(arguments.rows, arguments.dimension, dtype, queries, arguments.k)
            with tempfile.TemporaryDirectory() as folder:
                speed = measure_search_speed(case, arguments.rounds, Path(folder))
            print(f"{dtype}, {queries} queries; {speed.agreement:.2%} of places as torch.topk has them")
            for name, report in speed.reports.items():
                print(f"  {name:22} {report.p50_ms:8.1f} ({report.p90_ms:.1f}) {report.fastest_ms:8.1f}")
    load = watch.finish(time.process_time())
    if load.other_work is not None:
        print(f"other processes took {load.other_work:.0%} of the machine meanwhile")


if __name__ == "__main__":
    main()
