"""The Pareto front, and what it is worth to take a smaller file, as text."""

from __future__ import annotations

from collections.abc import Sequence

from aml_edge.benchmarks.pareto import Candidate, Front, find_fronts
from aml_edge.benchmarks.recommendation import NoGain, find_no_gains
from aml_edge.benchmarks.report import LOST, OVER_FP32, GroupReport
from aml_edge.benchmarks.text_tables import NONE, TextTable, megabytes, milliseconds, points, speed_up

FEWEST_ROWS = 2
"""A file alone is on its front, which says nothing."""


def shown_fronts(groups: Sequence[GroupReport]) -> tuple[Front, ...]:
    """Returns the fronts that compare files."""
    return tuple(front for front in find_fronts(groups) if len(front.candidates) >= FEWEST_ROWS)


def front_line(front: Front) -> str:
    """Returns what is compared, in one line."""
    counts = sorted({count for one in front.candidates if (count := one.timed.threads) is not None})
    time = f"p50 with {_threads(counts[0])}" if counts else "p50"
    if front.by_map:
        return f"Pareto front of size, time ({time}) and asymmetric mAP (medium)"
    return f"Pareto front of size and time ({time}); mAP, which was not measured, does not count"


def front_table(front: Front, *, brief: bool = False) -> TextTable:
    """Returns one line a candidate: what is compared, beside fp32, and its place; `brief` leaves out intervals."""
    header = ("", "file MB", "p50 ms", *(("mAP", LOST) if front.by_map else ()), OVER_FP32, "front")
    several = len({id(one.group) for one in front.candidates}) > 1
    rows = tuple(
        (
            f"{_student(one)}, {one.row.label}" if several else one.row.label,
            megabytes(one.size_bytes),
            milliseconds(one.latency_ms),
            *((points(one.mean_average_precision), lost(one, brief=brief)) if front.by_map else ()),
            _over_fp32(one, brief=brief),
            "failed" if one.has_failed else "yes" if on else NONE,
        )
        for one, on in zip(front.candidates, front.on_front, strict=True)
    )
    return TextTable(header, rows)


def lost(candidate: Candidate, *, brief: bool = False) -> str:
    """Returns the points of mAP that a candidate loses to fp32, with their interval unless `brief`."""
    drop = candidate.judged.map_drop
    if drop is None:
        return NONE
    return _signed(drop.points) + ("" if brief else f" [{_signed(drop.low)}, {_signed(drop.high)}]")


def recommendations(groups: Sequence[GroupReport]) -> tuple[str, ...]:
    """Returns one sentence a file that is not faster than fp32, which names a better one, then the fastest of all."""
    found = find_no_gains(groups)
    fastest = {id(one.fastest): _fastest(one.fastest, by_map=one.by_map) for one in found if one.fastest is not None}
    return (*(_sentence(one) for one in found), *fastest.values())


def _sentence(found: NoGain) -> str:
    row, timed = found.reduced.row, found.reduced.timed
    slower = "slower" if found.over_fp32.high < 1 else "not measurably faster"
    threads = "" if timed.threads is None else f", {_threads(timed.threads)}"
    said = f"{row.label}: {slower} than fp32 there ({speed_up(found.over_fp32)} times as fast{threads})"
    if found.better is None:
        return f"{said}; {_trade(found)}"
    better, own = (_figures(one, by_map=found.by_map) for one in (found.better, found.reduced))
    return f"{said}; {_file(found.better)} is the better file ({better}; this one {own})"


def _trade(found: NoGain) -> str:
    """Returns what a file that nothing beats has, beside the fp32 file."""
    size = f"{found.reduced.size_bytes / found.fp32.size_bytes:.2f} of the size"
    drop = found.reduced.judged.map_drop
    if not found.by_map or drop is None:
        return f"only its size speaks for it, {size} of {_name(found.fp32)}"
    change = f"{points(found.reduced.mean_average_precision)}: {lost(found.reduced)} lost"
    if drop.low > 0:
        fp32 = points(found.fp32.mean_average_precision)
        return f"{_name(found.fp32)} has the better mAP ({fp32}, not {change}), this file {size}"
    worth = "a better mAP" if drop.high < 0 else f"an mAP that {drop.queries} queries cannot tell from its"
    return f"{size} of {_name(found.fp32)}, and {worth} ({change})"


def _fastest(candidate: Candidate, *, by_map: bool) -> str:
    return f"the fastest of the front: {_file(candidate)} ({_figures(candidate, by_map=by_map)})"


def _signed(value: float) -> str:
    """Returns two decimals; what rounds to nothing has no sign."""
    return f"{round(value, 2) + 0.0:.2f}"


def _over_fp32(candidate: Candidate, *, brief: bool) -> str:
    found = candidate.timed.over_fp32
    return speed_up(found) if found is None or not brief else f"{found.value:.2f}"


def _figures(candidate: Candidate, *, by_map: bool) -> str:
    figures = f"{megabytes(candidate.size_bytes)} MB, {milliseconds(candidate.latency_ms)} ms"
    return f"{figures}, mAP {points(candidate.mean_average_precision)}" if by_map else figures


def _file(candidate: Candidate) -> str:
    return f"{_name(candidate)} in {candidate.row.runtime}"


def _name(candidate: Candidate) -> str:
    assert candidate.row.path is not None, "a candidate is a file"
    return candidate.row.path.name


def _student(candidate: Candidate) -> str:
    return f"{candidate.group.student} {candidate.group.preprocessing.image_side_px} px"


def _threads(count: int) -> str:
    return f"{count} thread{'' if count == 1 else 's'}"
