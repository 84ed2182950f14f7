"""`QueryGroundTruth`: which rows of a database show what a query shows."""

from __future__ import annotations

from dataclasses import dataclass

from aml_edge.errors import DatasetError


@dataclass(frozen=True)
class QueryGroundTruth:
    """Database rows that show what one query shows.

    Args:
        easy, hard: plainly, or under difficult conditions.
        junk: so little that nobody can tell; neither right nor wrong to find.

    Raises:
        DatasetError: a row is negative, or labelled twice.
    """

    easy: tuple[int, ...]
    hard: tuple[int, ...]
    junk: tuple[int, ...]

    def __post_init__(self) -> None:
        labelled = (*self.easy, *self.hard, *self.junk)
        if labelled and min(labelled) < 0:
            raise DatasetError(f"a query's ground truth names database row {min(labelled)}; rows are counted from 0.")
        if len(set(labelled)) < len(labelled):
            twice = next(row for place, row in enumerate(labelled) if row in labelled[:place])
            raise DatasetError(f"a query's ground truth labels database row {twice} twice; label it once.")
