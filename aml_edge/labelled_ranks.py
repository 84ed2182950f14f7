"""Ranks of the labelled images of each query, exact, without sorting the database or holding a matrix of ranks.

Only positives and ignored images have a part in the measures, so only their ranks are needed: how many images score
higher, and how many that score the same come before in database order. The database is streamed in blocks; a tile of
similarities is computed, each of its rows sorted, and what lies above each labelled image's score looked up.
Where the similarities of some queries to the whole database fit into memory, one pass does; else a first pass over the
blocks that hold labelled images gives their scores, and a second one counts. A labelled image's score in the second
pass is the one of the first, so ranks are those of one matrix, whatever rounding a product has. All products have one
shape, since a library may sum in another order in another shape: equal rows have equal similarities then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from aml_edge.embedder import Embeddings
from aml_edge.errors import DatasetError, UsageError
from aml_edge.ground_truth import QueryGroundTruth
from aml_edge.progress import Progress, ProgressTask, SilentProgress
from aml_edge.row_reading import readable_tensor, row_blocks
from aml_edge.score_counting import ScoreCounts
from aml_edge.search import Rows

Ranks = npt.NDArray[np.intp]
MEMORY_BYTES = 1 << 28
"""Of blocks and similarities that are held at once, where nothing else is asked for."""
_BLOCK_VALUES = 1 << 23
"""Of a product at most: 32 MiB, so that what was converted is still in a processor's cache when it is checked."""
_TILE_ROWS = 1 << 16
"""Database rows of a tile at most; longer rows sort no faster."""
_QUERIES = 1 << 12
"""Queries of a tile that are worth a narrower one: the database is read once for so many."""


@dataclass(frozen=True, eq=False)
class LabelledRanks:
    """Ranks of what is labelled for one query, from 0, ascending, in the whole ranking of the database.

    Args:
        easy, hard, junk: as many as the query's ground truth names.
    """

    easy: Ranks
    hard: Ranks
    junk: Ranks


def labelled_ranks(
    query_embeddings: Embeddings,
    database: Rows,
    ground_truth: Sequence[QueryGroundTruth],
    *,
    memory_bytes: int = MEMORY_BYTES,
    progress: Progress | None = None,
) -> tuple[LabelledRanks, ...]:
    """Returns the ranks of each query's labelled images by inner product, equal ones in database order.

    Args:
        query_embeddings: (N, D).
        database: (M, D) float32 or float16; products are float32.
        ground_truth: N, in rows of the database.
        memory_bytes: of blocks and similarities that are held at once, but at least one row of each.
        progress: where the work is announced, one step a database row and pass.

    Raises:
        UsageError: shapes do not belong together, or a row is not finite.
        DatasetError: the ground truth names a row that the database does not have.
    """
    queries = np.ascontiguousarray(query_embeddings, np.float32)
    _require_ranking(queries, database, len(ground_truth), memory_bytes)
    plan = _Plan.of((len(queries), *database.shape), memory_bytes)
    ranks: list[LabelledRanks] = []
    starts = range(0, len(queries), plan.queries)
    with (progress or SilentProgress()).task("ranking", len(starts) * len(database)) as task:
        for start in starts:
            truths = ground_truth[start : start + plan.queries]
            counts = ScoreCounts(_labelled_rows(truths, start, len(database)), first_query=start)
            _Chunk(queries[start : start + plan.queries], database, plan).count(counts, task)
            ranks += _split(counts, truths)
    return tuple(ranks)


def labelled_ranks_of(
    similarities: npt.NDArray[np.floating], ground_truth: Sequence[QueryGroundTruth]
) -> tuple[LabelledRanks, ...]:
    """Returns the ranks of each query's labelled images from (N, M) similarities, equal ones in database order.

    Raises:
        UsageError: a similarity is NaN, which has no rank.
        DatasetError: the ground truth names a row that the database does not have.
    """
    counts = ScoreCounts(_labelled_rows(ground_truth, 0, similarities.shape[1]))
    counts.note(0, similarities)
    counts.add(0, similarities, workers=torch.get_num_threads())
    return tuple(_split(counts, ground_truth))


@dataclass(frozen=True)
class _Plan:
    """How many rows are held at once.

    Args:
        queries: of a tile.
        tile_rows: database rows of a tile: all of them, or a multiple of a block's.
        block_rows: database rows of a product.
    """

    queries: int
    tile_rows: int
    block_rows: int

    @classmethod
    def of(cls, shape: tuple[int, ...], memory_bytes: int) -> _Plan:
        """Returns the plan for N queries, M database rows of D values: half for two blocks, half for a tile."""
        queries, database, dimension = shape
        tile_values = max(1, memory_bytes // 2 // 4)
        block_rows = max(1, min(min(tile_values // 2, _BLOCK_VALUES) // max(1, dimension), _TILE_ROWS, database))
        whole_rows = tile_values // max(1, database)
        if whole_rows >= min(queries, _QUERIES // 32):
            return cls(max(1, min(whole_rows, queries)), database, block_rows)
        wanted = min(_TILE_ROWS, tile_values // min(queries, _QUERIES))
        block_rows = max(1, min(block_rows, wanted))
        tile_rows = max(1, wanted // block_rows) * block_rows
        return cls(max(1, min(tile_values // tile_rows, queries)), tile_rows, block_rows)


@dataclass(frozen=True)
class _Chunk:
    """Some queries before the whole database."""

    queries: Embeddings
    database: Rows
    plan: _Plan

    def count(self, counts: ScoreCounts, task: ProgressTask) -> None:
        """Counts every similarity of the queries, block by block."""
        once = self.plan.tile_rows >= len(self.database)
        if not once:
            block_rows = self.plan.block_rows
            starts = sorted({row // block_rows * block_rows for row in counts.labelled_rows.tolist()})
            for start, scores in self._tiles(block_rows, starts, task):
                counts.note(start, scores)
        for start, scores in self._tiles(self.plan.tile_rows, None, task):
            if once:
                counts.note(start, scores)
            else:
                counts.put_back(start, scores)
            counts.add(start, scores, may_sort=True, workers=torch.get_num_threads())

    def _tiles(
        self, tile_rows: int, starts: Sequence[int] | None, task: ProgressTask
    ) -> Iterator[tuple[int, Embeddings]]:
        """Yields first row and (queries, n) similarities of tiles; one is good until the next is asked for."""
        # The product of a matrix and one vector is another algorithm, whose sums depend on where a row stands.
        asking = readable_tensor(np.repeat(self.queries, 2, axis=0) if len(self.queries) == 1 else self.queries)
        tile = torch.empty(len(asking), min(tile_rows, len(self.database)))
        block_rows, rows = self.plan.block_rows, len(self.database)
        wanted = range(0, rows, block_rows) if starts is None else starts
        # The last block begins earlier, among rows that were seen, so that it is as long as the others.
        blocks = row_blocks(self.database, block_rows, [min(start, rows - block_rows) for start in wanted])
        for first, (start, block) in zip(wanted, blocks, strict=True):
            end = start + len(block)
            place, tile_start = first % tile_rows, first // tile_rows * tile_rows
            columns = tile[:, place : place + end - first]
            if first == start:
                torch.mm(asking, readable_tensor(block).T, out=columns)
            else:
                columns[:] = torch.mm(asking, readable_tensor(block).T)[:, first - start :]
            if starts is None:
                task.advance(end - first)
            if end % tile_rows == 0 or end == rows:
                yield tile_start, tile[: len(self.queries), : end - tile_start].numpy()


def _labelled_rows(truths: Sequence[QueryGroundTruth], first_query: int, database: int) -> list[npt.NDArray[np.intp]]:
    labelled = [np.array([*truth.easy, *truth.hard, *truth.junk], np.intp) for truth in truths]
    for query, rows in enumerate(labelled, start=first_query):
        if len(rows) and rows.max() >= database:
            raise DatasetError(
                f"the ground truth of query {query} names database row {rows.max()}, "
                f"but the database has {database} images; use the database that it was made for."
            )
    return labelled


def _split(counts: ScoreCounts, truths: Sequence[QueryGroundTruth]) -> Iterator[LabelledRanks]:
    for ranks, truth in zip(counts.ranks(), truths, strict=True):
        easy, hard, junk = np.split(ranks, np.cumsum([len(truth.easy), len(truth.hard)]))
        yield LabelledRanks(np.sort(easy), np.sort(hard), np.sort(junk))


def _require_ranking(queries: Embeddings, database: Rows, truths: int, memory_bytes: int) -> None:
    if queries.ndim != 2 or len(database.shape) != 2 or queries.shape[1] != database.shape[1]:
        raise UsageError(
            f"`query_embeddings` has shape {queries.shape} and `database` {database.shape}; "
            "both must be (rows, D) with the same D."
        )
    if len(queries) != truths:
        raise UsageError(
            f"`query_embeddings` has {len(queries)} rows, but there are {truths} queries with ground truth; "
            "give one row a query."
        )
    if memory_bytes < 1:
        raise UsageError(f"`memory_bytes` is {memory_bytes}; it must be above 0, e.g. {MEMORY_BYTES}.")
    broken = np.flatnonzero(~np.isfinite(queries).all(axis=1))
    if len(broken):
        raise UsageError(f"row {broken[0]} of `query_embeddings` is not finite; embed that image again.")
