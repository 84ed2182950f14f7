"""A benchmark as tables of text, which a terminal and a Markdown file then set each in its way."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from aml_edge.benchmarks.environment import Environment, MachineLoad
from aml_edge.benchmarks.file_names import short_names
from aml_edge.benchmarks.kernels import is_timed
from aml_edge.benchmarks.latency import LatencyPlan, LatencyReport
from aml_edge.benchmarks.report import (
    FRONT,
    KERNELS,
    LOST,
    MAP,
    OVER_FP32,
    SEARCH,
    BenchmarkReport,
    GroupReport,
    RowReport,
)
from aml_edge.benchmarks.speedup import SpeedUp
from aml_edge.benchmarks.timing import ThreadsReport

NONE = "–"
NOT_RUN, NOT_TIMED = "not run here", "not timed"
BUSY_SHARE = 0.05
"""Of the processors' time, taken by others: what RUNTIMES calls a quiet machine stays below it."""


@dataclass(frozen=True)
class TextTable:
    """A table of text; the first column holds labels, the others numbers."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def latency_table(group: GroupReport, *, brief: bool = False) -> TextTable:
    """Returns one line a row and number of threads; `brief` leaves out spread and runs."""
    columns: list[tuple[str, Callable[[ThreadsReport], str]]] = [
        ("threads", lambda one: NONE if one.threads is None else str(one.threads)),
        ("p50 ms", lambda one: milliseconds(one.latency.p50_ms)),
        ("p90", lambda one: milliseconds(one.latency.p90_ms)),
        ("p99", lambda one: milliseconds(one.latency.p99_ms)),
    ]
    if not brief:
        columns += [
            ("spread", lambda one: percent(one.latency.spread)),
            ("runs", lambda one: str(one.latency.runs)),
        ]
    rows: list[tuple[str, ...]] = []
    for row in group.rows:
        for one in row.by_threads:
            cells = [cell(one) for _, cell in columns]
            rows.append((row.label, *cells, speed_up(one.speed_up)))
        if not row.by_threads:
            rows.append((row.label, *[NONE] * len(columns), _absence(row)))
    return TextTable(("", *(name for name, _ in columns), "× PyTorch eager"), tuple(rows))


def file_table(group: GroupReport) -> TextTable:
    """Returns one line a row: its file, and what a fresh process with the most threads met."""
    rows = [(row.label, megabytes(row.size_bytes), *_start_cells(row), images_per_second(row)) for row in group.rows]
    return TextTable(("", "file MB", "load ms", "first ms", "peak MB", "images/s"), tuple(rows))


def map_table(group: GroupReport) -> TextTable | None:
    """Returns one line a row that has an asymmetric mAP; None where none has."""
    rows = [
        (row.label, *(points(value) for value in (found.easy, found.medium, found.hard)), found.runtime)
        for row in group.rows
        if (found := row.retrieval) is not None
    ]
    return TextTable(("", "easy", "medium", "hard", "queries by"), tuple(rows)) if rows else None


def verdicts(group: GroupReport) -> tuple[str, ...]:
    """Returns each file of the group once, with what its verdict is worth, one sentence a file."""
    names = short_names([row.path for row in group.rows if row.path is not None])
    said = {row.path: f"{names[row.path]}: {row.verdict}" for row in group.rows if row.path is not None and row.verdict}
    return tuple(said.values())


def refusals(group: GroupReport) -> tuple[str, ...]:
    """Returns why rows were not run, one sentence a reason."""
    labels: dict[str, list[str]] = {}
    for row in group.rows:
        if row.not_run is not None:
            labels.setdefault(f"{_absence(row)}: {row.not_run}", []).append(row.label)
    return tuple(f"{'; '.join(rows)}: {reason}" for reason, rows in labels.items())


def title(group: GroupReport) -> str:
    """Returns what a group is, in one line."""
    side, fit = group.preprocessing.image_side_px, group.preprocessing.fit
    return f"{group.student} ({group.weights_sha256[:8]}), {group.backbone}, {side}×{side} px {fit}"


def cost_line(group: GroupReport) -> str:
    """Returns what the student costs on paper, in one line."""
    cost = group.cost
    if cost is None:
        return "parameters and GMACs: not known, since the student was not found"
    return (
        f"{cost.parameters / 1e6:.2f} M parameters, {cost.gmacs:.2f} GMACs, {cost.gflops:.2f} GFLOPs "
        f"at {cost.height_px}×{cost.width_px} px"
    )


def map_line(group: GroupReport) -> str | None:
    """Returns what the mAPs are of, in one line, or None where there are none."""
    found = next((row.retrieval for row in group.rows if row.retrieval is not None), None)
    return None if found is None else f"asymmetric mAP, {found.queries} queries of {found.dataset}"


def machine_lines(environment: Environment) -> tuple[str, ...]:
    """Returns the machine and its software."""
    no_vnni = ("no VNNI",) if environment.vnni is False else ()
    parts = [environment.cpu, f"{environment.cores} cores"]
    if environment.cpu_quota is not None:
        parts.append(f"quota of {environment.cpu_quota:g} cores")
    parts += [*environment.instruction_sets, *no_vnni, f"governor {environment.governor or 'not said by the system'}"]
    if environment.memory_bytes is not None:
        parts.append(f"{environment.memory_bytes / 1e9:.1f} GB")
    parts += environment.accelerators or ["no GPU"]
    versions = (f"{name} {version}" for name, version in environment.versions.items())
    return (", ".join(parts), ", ".join([environment.system, f"Python {environment.python}", *versions]))


def plan_line(plan: LatencyPlan, threads: tuple[int, ...]) -> str:
    """Returns how often and how long each row was timed."""
    return (
        f"each row: warm-up of at least {plan.warm_up_runs} calls and {plan.warm_up_seconds:g} s, then at least "
        f"{plan.runs} calls and {plan.seconds:g} s in {plan.rounds} rounds; "
        f"threads {' and '.join(str(count) for count in threads)}"
    )


def load_line(load: MachineLoad) -> str:
    """Returns what else the machine did."""
    shares = (
        ("other work", load.other_work),
        ("taken by the hypervisor", load.steal),
    )
    said = [f"{name} {percent(share)}" for name, share in shares if share is not None]
    if load.load_average is not None:
        said.append(f"load average before {load.load_average:.1f}")
    return f"{load.started}, {load.seconds:.0f} s; {', '.join(said) or 'its load is not said by the system'}"


def warnings(report: BenchmarkReport) -> tuple[str, ...]:
    """Returns what speaks against the numbers."""
    found = []
    if not report.plan.is_measurement:
        found.append("too few calls for a measurement: a look only")
    taken = sum(share for share in (report.load.other_work, report.load.steal) if share is not None)
    if taken > BUSY_SHARE:
        found.append(
            f"others took {percent(taken)} of this machine meanwhile: repeat it on a quiet one before quoting a time"
        )
    return tuple(found)


def include_lines(report: BenchmarkReport) -> tuple[tuple[str, str], ...]:
    """Returns each column's name and what it includes; nothing of what no table of this report has."""
    rows = [row for group in report.groups for row in group.rows]
    there = {
        MAP: any(row.retrieval is not None for row in rows),
        KERNELS: any(row.kernels is not None for row in rows),
        FRONT: any(row.on_front is not None for row in rows),
        LOST: any(row.map_drop is not None for row in rows),
        OVER_FP32: any(one.over_fp32 is not None for row in rows for one in row.by_threads),
        SEARCH: report.search is not None,
    }
    absent = {name for name, is_there in there.items() if not is_there}
    included = [(name, sentence) for name, sentence in report.includes.items() if name not in absent]
    counted = dict.fromkeys(group.cost.counted for group in report.groups if group.cost is not None)
    return (*included, *(("GMACs", sentence) for sentence in counted))


def milliseconds(value: float) -> str:
    """Returns a time with three digits that mean something."""
    return f"{value:.{2 if value < 10 else 1 if value < 1000 else 0}f}"


def megabytes(size_bytes: int | None) -> str:
    """Returns a size in 10⁶ bytes."""
    return NONE if size_bytes is None else f"{size_bytes / 1e6:.1f}"


def percent(share: float) -> str:
    """Returns a share of one as per cent."""
    return f"{100 * share:.0f} %"


def points(value: float) -> str:
    """Returns an mAP in points of 100."""
    return f"{100 * value:.2f}" if math.isfinite(value) else "NaN"


def speed_up(found: SpeedUp | None) -> str:
    """Returns how many times faster, with its interval."""
    return NONE if found is None else f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def images_per_second(row: RowReport) -> str:
    """Returns what batches reach, or one image a call where the runtime takes no more."""
    if row.throughput is not None:
        return f"{row.throughput.images_per_second:.1f}, batch {row.throughput.batch_images}"
    widest = row.widest
    return NONE if widest is None else f"{_rate(widest.latency):.1f}, batch 1"


def _absence(row: RowReport) -> str:
    return NOT_RUN if is_timed(row.runtime) else NOT_TIMED


def _rate(latency: LatencyReport) -> float:
    return latency.runs / latency.seconds


def _start_cells(row: RowReport) -> tuple[str, str, str]:
    widest = row.widest
    if widest is None:
        return (NONE, NONE, NONE)
    start = widest.fresh_start
    peak = megabytes(start.peak_bytes)
    if start.device_peak_bytes is not None:
        peak += f" + {megabytes(start.device_peak_bytes)}"
    return (milliseconds(start.load_ms), milliseconds(start.first_ms), peak)
