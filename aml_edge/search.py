"""Exact top-k search of a database of embeddings in PyTorch, in blocks: a memory-mapped one of any size will do.

A block's similarities are one matrix product. Its k best are looked for among the maxima of chunks first, which is one
vectorised pass: whatever is among the k best is in one of the k chunks of largest maximum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from aml_edge.embedder import Embeddings
from aml_edge.errors import UsageError
from aml_edge.row_reading import Rows as Rows
from aml_edge.row_reading import readable_tensor, row_blocks
from aml_edge.runtimes.torch_device import torch_device

BLOCK_VALUES = 7 << 20
"""Values of the database, or similarities, that are held at once on the CPU: 28 MiB of each in float32.

Larger ones are new pages from the system each time, which cost more than the product of a few queries.
"""

DEVICE_BLOCK_VALUES = 1 << 26
"""The same on another device, which needs much work at once."""

CHUNK_ROWS = 32
"""Similarities of which only the largest is looked at, at first."""


@dataclass(frozen=True)
class TopK:
    """The K nearest database rows of each query, nearest first; K is k, or the whole database where that is smaller.

    Args:
        rows: (Q, K).
        similarities: (Q, K) float32, not increasing along a row.
    """

    rows: npt.NDArray[np.int64]
    similarities: npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Best:
    """What was found so far: (Q, K) similarities and rows, nearest first, equal ones in database order."""

    similarities: torch.Tensor
    rows: torch.Tensor


def top_k(query_embeddings: Embeddings, database: Rows, k: int, *, device: str = "cpu") -> TopK:
    """Returns the k database rows of highest inner product with each query; the cosine, since rows are L2-normalised.

    Similarities are computed in float32, whatever the database is stored in. Equal ones come in database order.

    Args:
        query_embeddings: (Q, D).
        database: (M, D) float32 or float16; read once, in order.
        k: at least 1.
        device: of PyTorch, where the products are computed; blocks of the database are sent there.

    Raises:
        UsageError: k, a shape or the device cannot be, or a row of either side is not finite.
        RuntimeUnavailableError: this machine does not have the device.
    """
    queries = np.ascontiguousarray(query_embeddings, np.float32)
    _require_search(queries, database, k)
    place = torch_device(device)
    if not len(queries):
        width = min(k, len(database))
        return TopK(np.empty((0, width), np.int64), np.empty((0, width), np.float32))
    with torch.inference_mode():
        best = _search(queries, database, k, place)
        if not torch.isfinite(best.similarities).all():
            raise UsageError("a similarity overflows; search with rows that are L2-normalised.")
        return TopK(best.rows.cpu().numpy(), best.similarities.cpu().numpy())


def _search(query_embeddings: Embeddings, database: Rows, k: int, device: torch.device) -> _Best:
    queries = readable_tensor(query_embeddings).to(device)
    _require_finite(queries, "query_embeddings", 0)
    held = BLOCK_VALUES if device.type == "cpu" else DEVICE_BLOCK_VALUES
    block_rows = max(1, held // max(queries.shape))
    empty = queries.new_empty((len(queries), 0))
    best = _Best(empty, empty.long())
    for start, rows in row_blocks(database, block_rows):
        block = readable_tensor(np.ascontiguousarray(rows)).to(device)
        similarities = queries @ block.T  # (Q, n)
        # A value that is not finite spoils all similarities of its row; the smaller of the two is the sooner summed.
        if not torch.isfinite(min(block, similarities, key=torch.numel).sum()):
            _require_finite(block, "database", start)
        found = _best_of_block(similarities, best, start, k)
        best = best if found is None else _merge(best, found, k)
    return best


def _best_of_block(similarities: torch.Tensor, best: _Best, start: int, k: int) -> _Best | None:
    """Returns the k best of (Q, n) similarities in database order, or None where none is better than what was found."""
    worst = best.similarities[:, k - 1 : k]  # (Q, 1), or (Q, 0) before there are k
    if worst.shape[1] and (similarities.amax(1, keepdim=True) <= worst).all():
        return None
    width = min(k, similarities.shape[1])
    # One more than asked for: where the last two are equal, topk may have left out an equal one that comes first.
    values, rows = _largest(similarities, min(width + 1, similarities.shape[1]))
    tied = values[:, width - 1 : width] == values[:, width : width + 1]  # (Q, 1), or (Q, 0) where all are asked for
    if worst.shape[1]:
        tied &= values[:, width - 1 : width] > worst
    rows, order = rows[:, :width].sort(dim=1)
    values = values[:, :width].gather(1, order)
    for query in tied.nonzero()[:, 0].tolist():
        rows[query] = _first_largest(similarities[query], width)
        values[query] = similarities[query, rows[query]]
    return _Best(values, rows + start)


def _largest(similarities: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns (Q, width) largest of (Q, n) similarities, and where they are; any of equal ones."""
    queries, rows = similarities.shape
    chunks = rows // CHUNK_ROWS
    if chunks < 2 * width:
        return torch.topk(similarities, width)
    whole = chunks * CHUNK_ROWS
    # Chunk c holds rows c, c + chunks, c + 2 × chunks, …, so that the maximum is taken of whole vectors.
    maxima = similarities[:, :whole].view(queries, CHUNK_ROWS, chunks).amax(1)
    members = torch.arange(0, whole, chunks, device=similarities.device)
    candidates = (torch.topk(maxima, width, sorted=False).indices[:, :, None] + members).flatten(1)
    rest = torch.arange(whole, rows, device=similarities.device).expand(queries, -1)
    candidates = torch.cat([candidates, rest], 1)
    values, places = torch.topk(similarities.gather(1, candidates), width)
    return values, candidates.gather(1, places)


def _first_largest(similarities: torch.Tensor, width: int) -> torch.Tensor:
    """Returns where the largest of n similarities are, in ascending order; of equal ones the first."""
    return similarities.sort(descending=True, stable=True).indices[:width].sort().values


def _merge(best: _Best, found: _Best, k: int) -> _Best:
    """Returns the k best of both; of equal ones what was found before, whose rows come first."""
    similarities = torch.cat([best.similarities, found.similarities], 1)
    rows = torch.cat([best.rows, found.rows], 1)
    similarities, order = similarities.sort(dim=1, descending=True, stable=True)
    return _Best(similarities[:, :k], rows.gather(1, order[:, :k]))


def _require_search(queries: Embeddings, database: Rows, k: int) -> None:
    if k < 1:
        raise UsageError(f"`k` is {k}; a search finds at least one image.")
    if queries.ndim != 2 or len(database.shape) != 2 or queries.shape[1] != database.shape[1]:
        raise UsageError(
            f"`query_embeddings` has shape {queries.shape} and `database` {database.shape}; "
            "both must be (rows, D) with the same D."
        )
    if not len(database):
        raise UsageError("`database` is empty; a search needs at least one image.")


def _require_finite(rows: torch.Tensor, name: str, first: int) -> None:
    """Raises `UsageError` that names the first of (n, D) rows that holds NaN or Inf."""
    broken = (~torch.isfinite(rows).all(1)).nonzero()
    if len(broken):
        raise UsageError(f"row {first + int(broken[0])} of `{name}` is not finite; embed that image again.")
