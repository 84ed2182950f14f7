"""`ApproximateSearches`: which approximate indexes are asked beside an exact search, and how much they return."""

from __future__ import annotations

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

    def open(self, *indexes: TeacherIndex) -> OpenedSearches:
        """Returns each, of indexes whose rows follow each other, in memory; raises as `open_approximate`."""
        return OpenedSearches(tuple(open_database(indexes, spec) for spec in self.specs), self.depth)


@dataclass(frozen=True, eq=False)
class OpenedSearches:
    """The same, in memory."""

    databases: tuple[ApproximateDatabase, ...] = ()
    depth: int = DEPTH


EXACT_ONLY = ApproximateSearches()
"""Nothing is searched approximately."""
NONE_OPENED = OpenedSearches()
"""The same."""
