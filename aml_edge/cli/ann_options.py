"""``--ann``: which approximate indexes, for the commands that build them and those that ask them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from aml_edge.errors import UsageError

if TYPE_CHECKING:
    from aml_edge.approximate.searches import ApproximateSearches
    from aml_edge.approximate.specification import ApproximateSpec

ANN_METAVAR = "FACTORY"
BUILT_ANN_HELP = (
    "An approximate index beside the rows: a string of FAISS's index factory, and after a colon how it is searched, "
    "e.g. IVF4096,PQ64:nprobe=16. May be given again."
)
SEARCH_PANEL = "Approximate search"


@dataclass(frozen=True)
class SearchOptions:
    """Which approximate indexes are asked beside an exact search."""

    ann: Annotated[
        list[str] | None,
        typer.Option(
            rich_help_panel=SEARCH_PANEL,
            metavar=ANN_METAVAR,
            help="An approximate index of the index, as it was built, and after a colon how it is searched: what "
            "approximation costs too. May be given again.",
        ),
    ] = None
    ann_depth: Annotated[
        int | None, typer.Option(rich_help_panel=SEARCH_PANEL, help="How many images each such search returns; 1000.")
    ] = None

    def searches(self) -> ApproximateSearches:
        """Returns what is asked; raises `UsageError` where a depth comes without anything to search."""
        from aml_edge.approximate.searches import ApproximateSearches

        specs = specs_of(self.ann)
        if self.ann_depth is None:
            return ApproximateSearches(specs)
        if not specs:
            raise UsageError(f"`ann_depth` is {self.ann_depth}, but nothing is searched approximately; add --ann.")
        return ApproximateSearches(specs, self.ann_depth)


def specs_of(ann: Sequence[str] | None) -> tuple[ApproximateSpec, ...]:
    """Returns what ``--ann`` names, each once; raises `UsageError` where one names nothing."""
    from aml_edge.approximate.specification import approximate_spec

    return tuple(dict.fromkeys(approximate_spec(text) for text in ann or ()))
