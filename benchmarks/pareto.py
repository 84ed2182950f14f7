"""Which files no other one beats: the Pareto front of size, latency and asymmetric mAP.

A candidate is a file in a runtime as a phone would run it. Its time is the median of the fast kernels with the fewest
threads. Its mAP (medium) is that of the exact kernels where the same runtime has some and they met all queries, since
the fast ones may measure the processor; else that of the row itself. So no row of exact kernels takes part: it is the
same file. PyTorch is no file, and rows that were not timed, simulated ones among them, have no time. A file that failed
verification is on no front and keeps none off it: nobody should ship it.

Where every candidate of a report has an mAP, all of them are compared. Without, size and time are compared within a
group: they say nothing of two networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from aml_edge.artifact import Verdict
from aml_edge.benchmarks.kernels import fast_runtime
from aml_edge.benchmarks.report import GroupReport, RowReport
from aml_edge.benchmarks.timing import ThreadsReport


@dataclass(frozen=True)
class Candidate:
    """A file in a runtime.

    Args:
        group: that its row belongs to.
        row: its row.
        size_bytes: of the file.
        timed: with the fewest threads.
        judged: whose mAP counts: the row of its exact kernels, else itself.
    """

    group: GroupReport
    row: RowReport
    size_bytes: int
    timed: ThreadsReport
    judged: RowReport

    @property
    def latency_ms(self) -> float:
        """Median time of one image."""
        return self.timed.latency.p50_ms

    @property
    def mean_average_precision(self) -> float:
        """Medium, in 0..1; NaN without ground truth, and where nothing can be ranked."""
        return math.nan if self.judged.retrieval is None else self.judged.retrieval.medium

    @property
    def is_broken(self) -> bool:
        """Whether it gives embeddings that are not finite, of which there is no mAP."""
        return any(row.retrieval is not None and row.retrieval.non_finite > 0 for row in (self.row, self.judged))

    @property
    def has_failed(self) -> bool:
        """Whether it failed, here or when it was verified; such a file is on no front."""
        return self.is_broken or self.row.verdict == Verdict.FAILED


@dataclass(frozen=True)
class Front:
    """Candidates that are compared with each other.

    Args:
        candidates: in the order of their rows.
        on_front: of each, whether it has not failed, and no other is at least as good in every measure and better in
            one.
        by_map: whether mAP counts beside size and latency.
    """

    candidates: tuple[Candidate, ...]
    on_front: tuple[bool, ...]
    by_map: bool

    @property
    def members(self) -> tuple[Candidate, ...]:
        """Those on the front."""
        return tuple(one for one, on in zip(self.candidates, self.on_front, strict=True) if on)


def find_fronts(groups: Sequence[GroupReport]) -> tuple[Front, ...]:
    """Returns the front of all groups where every candidate has an mAP, else one of each group that has candidates."""
    by_group = [_candidates(group) for group in groups]
    together = tuple(candidate for candidates in by_group for candidate in candidates)
    by_map = not any(math.isnan(one.mean_average_precision) for one in together if not one.is_broken)
    return tuple(_front(one, by_map=by_map) for one in ([together] if by_map else by_group) if one)


def mark_fronts(groups: Sequence[GroupReport]) -> tuple[GroupReport, ...]:
    """Returns the groups, each row with whether it is on its front."""
    marks = {
        id(candidate.row): on
        for front in find_fronts(groups)
        for candidate, on in zip(front.candidates, front.on_front, strict=True)
    }
    return tuple(
        replace(group, rows=tuple(replace(row, on_front=marks.get(id(row))) for row in group.rows)) for group in groups
    )


def not_dominated(points: Sequence[tuple[float, ...]]) -> tuple[bool, ...]:
    """Returns of each point whether no other is at most as large in every coordinate and smaller in one."""
    return tuple(not any(dominates(other, point) for other in points) for point in points)


def dominates(point: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether a point is at most as large as another in every coordinate, and smaller in one."""
    pairs = tuple(zip(point, other, strict=True))
    return all(one <= two for one, two in pairs) and any(one < two for one, two in pairs)


def _front(candidates: Sequence[Candidate], *, by_map: bool) -> Front:
    sound = [one for one in candidates if not one.has_failed]
    marks = iter(not_dominated([_costs(one, by_map=by_map) for one in sound]))
    return Front(tuple(candidates), tuple(not one.has_failed and next(marks) for one in candidates), by_map)


def _costs(candidate: Candidate, *, by_map: bool) -> tuple[float, ...]:
    """Returns what is to be small: bytes, milliseconds, and minus mAP where that counts."""
    spent = (float(candidate.size_bytes), candidate.latency_ms)
    return (*spent, -candidate.mean_average_precision) if by_map else spent


def _candidates(group: GroupReport) -> tuple[Candidate, ...]:
    exact = {
        (row.path, runtime): row
        for row in group.rows
        if (runtime := fast_runtime(row.runtime)) is not None and row.retrieval is not None
    }
    return tuple(
        Candidate(group, row, row.size_bytes, timed, exact.get((row.path, row.runtime), row))
        for row in group.rows
        if row.path is not None
        and row.size_bytes is not None
        and (timed := row.narrowest) is not None
        and fast_runtime(row.runtime) is None
    )
