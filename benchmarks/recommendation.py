"""Where a smaller precision buys no time, and which file serves better."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aml_edge.artifact import Precision
from aml_edge.benchmarks.kernel_warnings import MAP_TOLERANCE
from aml_edge.benchmarks.pareto import Candidate, Front, find_fronts
from aml_edge.benchmarks.report import GroupReport
from aml_edge.benchmarks.speedup import SpeedUp

FASTER_FROM = 1.0
"""A file is faster than another where the whole interval of how many times as fast it is lies above."""
ALIKE, PLAINLY_LESS = 1.05, 0.9
"""Sizes and medians of two files whose ratio is at most the first count as alike, below the second as plainly less."""


@dataclass(frozen=True)
class NoGain:
    """A file that is not measurably faster than the fp32 file of its format in the same runtime.

    Args:
        reduced: the file.
        fp32: the other.
        over_fp32: how many times as fast it is, with the fewest threads.
        better: the fastest file of the front that `beats` it, or None.
        fastest: the fastest file of the front, where it is plainly faster than both; else None.
        by_map: whether mAP counts.
    """

    reduced: Candidate
    fp32: Candidate
    over_fp32: SpeedUp
    better: Candidate | None
    fastest: Candidate | None
    by_map: bool


def find_no_gains(groups: Sequence[GroupReport]) -> tuple[NoGain, ...]:
    """Returns what there is to say of each file that gains no time; none that failed is named as better."""
    return tuple(no_gain for front in find_fronts(groups) for no_gain in _of_front(front))


def beats(one: Candidate, other: Candidate, *, by_map: bool) -> bool:
    """Whether a file is alike or better in size, time and mAP, and plainly better in one of them."""
    ratios = (one.size_bytes / other.size_bytes, one.latency_ms / other.latency_ms)
    gain = one.mean_average_precision - other.mean_average_precision if by_map else 0.0
    alike = max(ratios) <= ALIKE and gain >= -MAP_TOLERANCE
    return alike and (min(ratios) < PLAINLY_LESS or gain > MAP_TOLERANCE)


def _of_front(front: Front) -> Iterator[NoGain]:
    by_time = sorted(front.members, key=lambda one: one.latency_ms)
    for reduced in front.candidates:
        over_fp32, fp32 = reduced.timed.over_fp32, _fp32_of(reduced, front)
        if over_fp32 is None or fp32 is None or over_fp32.low > FASTER_FROM:
            continue
        better = next((one for one in by_time if beats(one, reduced, by_map=front.by_map)), None)
        least = PLAINLY_LESS * min(reduced.latency_ms, fp32.latency_ms)
        fastest = next((one for one in by_time[:1] if one.latency_ms < least), None)
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
