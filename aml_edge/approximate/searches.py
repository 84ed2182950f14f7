"""`ApproximateSearches`: which approximate indexes are asked beside an exact search, and how much they return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aml_edge.approximate.database import ApproximateDatabase, open_database
from aml_edge.approximate.specification import ApproximateSpec
from aml_edge.errors import UsageError
from aml_edge.index import TeacherIndex

DEPTH = 1000
"""How many images a search returns, where nothing else is asked for."""


@dataclass(frozen=True)
class ApproximateSearches:
    """What is searched approximately too.

    Args:
        specs: of the approximate indexes.
        depth: how many images a search returns; all of them where there are fewer.

    Raises:
        UsageError: the depth is below 1.
    """

    specs: tuple[ApproximateSpec, ...] = ()
    depth: int = DEPTH

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise UsageError(f"`ann_depth` is {self.depth}; a search returns at least one image.")

    def open(self, indexes: Sequence[TeacherIndex]) -> tuple[ApproximateDatabase, ...]:
        """Returns each, of indexes whose rows follow each other, in memory; raises as `open_approximate`."""
        return tuple(open_database(indexes, spec) for spec in self.specs)
