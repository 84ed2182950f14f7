"""One turn of evaluating rows on disk, ours or the usual way, with every part of it timed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch

from aml_edge.benchmarks.evaluation_data import EvaluationSize, files_of, ground_truth_of, queries_of
from aml_edge.benchmarks.memory import peak_resident_bytes
from aml_edge.benchmarks.usual_evaluation import evaluate_usually
from aml_edge.embedder import Embeddings
from aml_edge.index.joined import JoinedIndex
from aml_edge.ranking import evaluate_index
from aml_edge.row_reading import readable_tensor, row_blocks

REPEATS = 5
"""Of each part of our turn, one after the other, of which the median is taken."""
READ_BYTES = 1 << 24
BLOCK_ROWS = 4096
"""Of a product, as `evaluate_index` takes them at 2048-D."""
_OWN_IO = Path("/proc/self/io")


@dataclass(frozen=True)
class OurTurn:
    """What one process took, s and bytes.

    Args:
        average_precisions: of easy, medium and hard, one a query.
        product_alone_s: of blocks in memory.
        product_s: of reading, converting and multiplying, and nothing else.
        whole_s: of `evaluate_index` on an index whose rows were read before.
        first_s: of the first one, which checks every row.
        beyond_s: what is needed beyond the product: by how much the whole takes longer than the product just before.
        reading_s: plain reading of the files, which were read just before.
        from_disk: share of them that the disk read then; None where the system does not say.
        cold_reading_s, cold_whole_s: the same after the files were put out of the page cache; None where they cannot.
        peak_bytes: of the process.
    """

    average_precisions: tuple[tuple[float, ...], ...]
    product_alone_s: float
    product_s: float
    whole_s: float
    first_s: float
    beyond_s: float
    reading_s: float
    from_disk: float | None
    cold_reading_s: float | None
    cold_whole_s: float | None
    peak_bytes: int | None

    @property
    def first_beyond_s(self) -> float:
        """What is needed beyond the product where every row is checked on the way."""
        return self.first_s - self.product_s


@dataclass(frozen=True)
class UsualTurn:
    """What one process took, s and bytes; `load_s` is of reading all rows into memory as float32."""

    average_precisions: tuple[tuple[float, ...], ...]
    load_s: float
    product_s: float
    sort_s: float
    loop_s: float
    peak_bytes: int | None

    @property
    def beyond_s(self) -> float:
        """What is needed beyond the product."""
        return self.sort_s + self.loop_s


def our_turn(index: JoinedIndex, size: EvaluationSize, memory_bytes: int) -> OurTurn:
    """Returns the median of some repeats of each part, in turns."""
    queries, truth = queries_of(size), ground_truth_of(size)
    seconds: dict[str, list[float]] = {name: [] for name in ("alone", "product", "whole")}

    def evaluate() -> None:
        evaluate_index(queries, index, truth, memory_bytes=memory_bytes)

    _read(index)
    from_disk, read_before = None, _read_from_disk()
    reading_s = _seconds(lambda: _read(index))
    if read_before is not None:
        from_disk = min(1.0, (_read_from_disk() or 0) - read_before) / _bytes(index)
    first_s = _seconds(evaluate)
    for _ in range(REPEATS):
        seconds["alone"].append(_seconds(lambda: _multiply_alone(queries, size)))
        seconds["product"].append(_seconds(lambda: _multiply(queries, index)))
        seconds["whole"].append(_seconds(evaluate))
    report = evaluate_index(queries, index, truth, memory_bytes=memory_bytes)
    peak = peak_resident_bytes()
    cold_reading_s = _seconds(lambda: _read(index)) if _put_out_of_cache(index) else None
    cold_whole_s = _seconds(evaluate) if _put_out_of_cache(index) else None
    return OurTurn(
        average_precisions=tuple(one.average_precisions for one in (report.easy, report.medium, report.hard)),
        product_alone_s=median(seconds["alone"]),
        product_s=median(seconds["product"]),
        whole_s=median(seconds["whole"]),
        first_s=first_s,
        beyond_s=median(whole - product for whole, product in zip(seconds["whole"], seconds["product"], strict=True)),
        reading_s=reading_s,
        from_disk=from_disk,
        cold_reading_s=cold_reading_s,
        cold_whole_s=cold_whole_s,
        peak_bytes=peak,
    )


def usual_turn(index: JoinedIndex, size: EvaluationSize) -> UsualTurn:
    """Returns what the usual way takes, everything once."""
    began = time.perf_counter()
    database = np.empty((size.rows, size.dimension), np.float32)
    for start, block in row_blocks(index.checked_embeddings, BLOCK_ROWS):
        database[start : start + len(block)] = block
    load_s = time.perf_counter() - began
    found = evaluate_usually(queries_of(size), database, ground_truth_of(size))
    return UsualTurn(
        average_precisions=found.average_precisions,
        load_s=load_s,
        product_s=found.product_s,
        sort_s=found.sort_s,
        loop_s=found.loop_s,
        peak_bytes=peak_resident_bytes(),
    )


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _multiply(queries: Embeddings, index: JoinedIndex) -> None:
    asking, product = torch.from_numpy(queries), torch.empty(len(queries), BLOCK_ROWS)
    for part in (index.first, *index.others):
        for _, block in row_blocks(part.embeddings, BLOCK_ROWS):
            torch.mm(asking, readable_tensor(block).T, out=product[:, : len(block)])


def _multiply_alone(queries: Embeddings, size: EvaluationSize) -> None:
    asking, product = torch.from_numpy(queries), torch.empty(len(queries), BLOCK_ROWS)
    block = torch.ones(BLOCK_ROWS, size.dimension)
    for start in range(0, size.rows, BLOCK_ROWS):
        rows = min(BLOCK_ROWS, size.rows - start)
        torch.mm(asking, block[:rows].T, out=product[:, :rows])


def _read(index: JoinedIndex) -> None:
    buffer = bytearray(READ_BYTES)
    for file in files_of(index):
        with file.open("rb", buffering=0) as stream:
            while stream.readinto(buffer):
                pass


def _bytes(index: JoinedIndex) -> int:
    return sum(file.stat().st_size for file in files_of(index))


def _read_from_disk() -> int | None:
    """Returns bytes that this process had the disk read so far; None where the system does not say."""
    if not _OWN_IO.exists():
        return None
    fields = dict(line.split(": ") for line in _OWN_IO.read_text().splitlines())
    return int(fields["read_bytes"])


def _put_out_of_cache(index: JoinedIndex) -> bool:
    """Asks the system to keep nothing of the files in memory; returns whether it can be asked."""
    if not hasattr(os, "posix_fadvise"):
        return False
    for file in files_of(index):
        with file.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True
