"""Where a smaller precision buys no time, and which file serves better."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aml_edge.artifact import Precision, Verdict
from aml_edge.benchmarks.pareto import Candidate, Front, costs, dominates, find_fronts
from aml_edge.benchmarks.report import GroupReport
from aml_edge.benchmarks.speedup import SpeedUp

FASTER_FROM = 1.0
"""A file is faster than another where the whole interval of how many times as fast it is lies above."""

FASTEST_BELOW = 0.9
"""Medians of rows whose ratio has no interval differ plainly from this share on."""


@dataclass(frozen=True)
class NoGain:
    """A file that is not measurably faster than the fp32 file of its format in the same runtime.

    Args:
        reduced: the file.
        fp32: the other.
        over_fp32: how many times as fast it is, with the fewest threads.
        better: the fastest file of the front that is at least as good in every measure and better in one, or None.
        fastest: the fastest file of the front, where it is plainly faster than both and not `better`; else None.
        by_map: whether mAP counts.
    """

    reduced: Candidate
    fp32: Candidate
    over_fp32: SpeedUp
    better: Candidate | None
    fastest: Candidate | None
    by_map: bool


def find_no_gains(groups: Sequence[GroupReport]) -> tuple[NoGain, ...]:
    """Returns what there is to say of each file that gains no time; none of a failed verdict is named as better."""
    return tuple(no_gain for front in find_fronts(groups) for no_gain in _of_front(front))


def _of_front(front: Front) -> Iterator[NoGain]:
    named = [one for one in front.members if one.row.verdict != Verdict.FAILED]
    by_time = sorted(named, key=lambda one: one.latency_ms)
    for reduced in front.candidates:
        over_fp32, fp32 = reduced.timed.over_fp32, _fp32_of(reduced, front)
        if over_fp32 is None or fp32 is None or over_fp32.low > FASTER_FROM:
            continue
        own = costs(reduced, by_map=front.by_map)
        better = next((one for one in by_time if dominates(costs(one, by_map=front.by_map), own)), None)
        least = FASTEST_BELOW * min(reduced.latency_ms, fp32.latency_ms)
        fastest = next((one for one in by_time[:1] if one is not better and one.latency_ms < least), None)
        yield NoGain(reduced, fp32, over_fp32, better, fastest, front.by_map)


def _fp32_of(reduced: Candidate, front: Front) -> Candidate | None:
    wanted = (reduced.row.format, Precision.FP32, reduced.row.runtime)
    return next(
        (
            one
            for one in front.candidates
            if one.group is reduced.group and (one.row.format, one.row.precision, one.row.runtime) == wanted
        ),
        None,
    )
