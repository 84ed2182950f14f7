"""`found_ranks`: ranks of labelled images in lists that an approximate search returned.

A list ends at its depth, or where FAISS found no more. A positive that is not in it has the rank `NEVER`: no cut-off
reaches it, so AP gets nothing for it (what 2⁶² leaves of a precision is below any rounding), and precision at k counts
as if the list went on with wrong images. Junk in the list is taken out as from a whole ranking; junk that is not in it
changes nothing. Rows of an index that are not in the data set's database do not count either, as an exact evaluation
does not read them, though they use up depth.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from aml_edge.ground_truth import QueryGroundTruth
from aml_edge.labelled_ranks import LabelledRanks, Ranks

NEVER = 1 << 62
"""The rank of what was not returned: more than any database has images."""


def found_ranks(found: npt.NDArray[np.int64], ground_truth: Sequence[QueryGroundTruth]) -> tuple[LabelledRanks, ...]:
    """Returns the ranks of each query's labelled images in what was found.

    Args:
        found: (N, K) rows of the database, nearest first, each once; −1 is none and is left out.
        ground_truth: N, in rows of the database.

    Returns:
        Easy and hard ranks as many as are labelled, `NEVER` where they were not found; junk as much as was found.
    """
    return tuple(_ranks(rows[rows >= 0], truth) for rows, truth in zip(found, ground_truth, strict=True))


def _ranks(found: npt.NDArray[np.int64], truth: QueryGroundTruth) -> LabelledRanks:
    easy, hard, junk = (_places(found, rows) for rows in (truth.easy, truth.hard, truth.junk))
    return LabelledRanks(easy, hard, junk[junk < NEVER])


def _places(found: npt.NDArray[np.int64], labelled: Sequence[int]) -> Ranks:
    """Returns the ascending places of labelled rows among those that were found."""
    wanted = np.asarray(labelled, np.int64)
    if not len(found):
        return np.full(len(wanted), NEVER, np.intp)
    order = np.argsort(found)
    near = order[np.minimum(np.searchsorted(found, wanted, sorter=order), len(found) - 1)]
    ranks: Ranks = np.sort(np.where(found[near] == wanted, near, NEVER)).astype(np.intp)
    return ranks
