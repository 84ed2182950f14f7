"""`ScoreCounts`: how many images come before each labelled one, counted from one tile of similarities after the other.

A similarity that equals a labelled image's counts where its image comes first in database order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from aml_edge.errors import UsageError

Scores = npt.NDArray[np.floating]
Labelled = npt.NDArray[np.intp]
FEW = 16
"""One score in so many is picked out sooner than all are sorted; picking out half of them takes five times as long."""
LOWEST = 4
"""Thresholds that are counted one by one, each in a twelfth of the time that sorting takes."""


class ScoreCounts:
    """The counts of some queries.

    Args:
        labelled: database rows that are labelled for each of N queries, in any order, none twice.
        first_query: number of the first query, for messages.
    """

    def __init__(self, labelled: Sequence[Labelled], *, first_query: int = 0) -> None:
        sizes = [len(rows) for rows in labelled]
        self._bounds = np.concatenate([[0], np.cumsum(sizes, dtype=np.intp)])
        self._orders = [np.argsort(rows) for rows in labelled]
        # All of these are (L,), a query after the other, by row within a query.
        self._rows = _joined([rows[order] for rows, order in zip(labelled, self._orders, strict=True)])
        self._owners = np.repeat(np.arange(len(labelled)), sizes)
        self._by_row = np.argsort(self._rows, kind="stable")
        self._sorted_rows = self._rows[self._by_row]
        self._scores: Scores = np.zeros(len(self._rows))
        self._before = np.zeros(len(self._rows), np.intp)
        self._first_query = first_query

    @property
    def labelled_rows(self) -> Labelled:
        """(L,) all rows that are labelled for any query, ascending."""
        return self._sorted_rows

    def note(self, start: int, scores: Scores) -> None:
        """Remembers what the labelled rows of a tile score.

        Args:
            start: row of the database that is the tile's first.
            scores: (N, n) similarities.
        """
        if self._scores.dtype != scores.dtype:
            self._scores = self._scores.astype(scores.dtype)
        inside = self._inside(start, scores.shape[1])
        self._scores[inside] = scores[self._owners[inside], self._rows[inside] - start]

    def put_back(self, start: int, scores: Scores) -> None:
        """Writes what was remembered into a tile that was computed again."""
        inside = self._inside(start, scores.shape[1])
        scores[self._owners[inside], self._rows[inside] - start] = self._scores[inside]

    def add(self, start: int, scores: Scores, *, may_sort: bool = False, workers: int = 1) -> None:
        """Counts a tile, once the scores of all labelled rows are known.

        Args:
            start, scores: as in `note`.
            may_sort: the tile's rows may be left sorted, which saves a copy.
            workers: threads that share the queries.

        Raises:
            UsageError: a similarity is NaN.
        """

        def count_some(first: int) -> None:
            for query in range(first, len(scores), workers):
                self._count(query, start, scores[query], may_sort=may_sort)

        if workers == 1:
            count_some(0)
            return
        with ThreadPoolExecutor(workers) as pool:
            for _ in pool.map(count_some, range(workers)):
                pass

    def ranks(self) -> Iterator[npt.NDArray[np.intp]]:
        """Yields, for each query, the ranks of its labelled rows, from 0, in the order they were given in."""
        for query, order in enumerate(self._orders):
            ranks = np.empty(len(order), np.intp)
            ranks[order] = self._before[self._bounds[query] : self._bounds[query + 1]]
            yield ranks

    def _inside(self, start: int, width: int) -> npt.NDArray[np.intp]:
        """Returns places, among all labelled rows, of those in a tile."""
        low, high = np.searchsorted(self._sorted_rows, [start, start + width])
        return self._by_row[low:high]

    def _count(self, query: int, start: int, scores: Scores, *, may_sort: bool) -> None:
        mine = slice(self._bounds[query], self._bounds[query + 1])
        rows, thresholds = self._rows[mine], self._scores[mine]
        low, high = np.searchsorted(rows, [start, start + len(scores)])
        if len(scores) and np.isnan(scores.max()):
            raise UsageError(
                f"`similarities` holds NaN for query {self._first_query + query}; "
                "an embedding that is not finite has no rank."
            )
        if not len(rows):
            return
        higher, no_lower = _counts(scores, thresholds, low, may_sort=may_sort and low == high)
        before = self._before[mine]  # a view, which is written to
        before[:high] += higher[:high]  # of rows before the tile, and in it: what is higher
        before[high:] += no_lower[high:]  # of rows behind it: what is equal too
        for place in low + np.flatnonzero(no_lower[low:high] - higher[low:high] > 1):
            before[place] += np.count_nonzero(scores[: rows[place] - start] == thresholds[place])


def _counts(scores: Scores, thresholds: Scores, first: int, *, may_sort: bool) -> tuple[Labelled, Labelled]:
    """Returns how many scores are above each threshold, and, for those from `first` on, how many are not below it.

    Most of what is labelled is found early. Where few scores reach all thresholds but the lowest ones, these few are
    picked out and sorted, and each of the lowest is counted by itself; else all scores are sorted.
    """
    order = np.argsort(thresholds)
    lowest, others = order[:LOWEST], order[LOWEST:]
    if len(others):
        wanted = scores >= thresholds[others[0]]
        few = bool(np.count_nonzero(wanted) * FEW <= len(scores))
    else:
        wanted, few = np.zeros(len(scores), np.bool_), True
    if few:
        ordered = np.sort(scores[wanted])
    elif may_sort:
        scores.sort()
        ordered = scores
    else:
        ordered = np.sort(scores)
    higher = len(ordered) - np.searchsorted(ordered, thresholds, side="right")
    no_lower = len(ordered) - np.searchsorted(ordered, thresholds)
    if few:
        for place in lowest:
            higher[place] = np.count_nonzero(scores > thresholds[place])
            if place >= first:
                no_lower[place] = np.count_nonzero(scores >= thresholds[place])
    return higher, no_lower


def _joined(parts: Sequence[Labelled]) -> Labelled:
    return np.concatenate(parts) if parts else np.empty(0, np.intp)
