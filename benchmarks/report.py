"""What a benchmark says: numbers only; `aml_edge.benchmarks.tables` and `markdown` write them out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aml_edge.artifact import Format, Precision
from aml_edge.benchmarks.cost import CostReport
from aml_edge.benchmarks.environment import Environment, MachineLoad
from aml_edge.benchmarks.kernel_agreement import KernelAgreement
from aml_edge.benchmarks.kernels import Kernels
from aml_edge.benchmarks.latency import LatencyPlan
from aml_edge.benchmarks.retrieval import AsymmetricMap
from aml_edge.benchmarks.row_accuracy import SAMPLE
from aml_edge.benchmarks.search_latency import SearchReport
from aml_edge.benchmarks.timing import ThreadsReport
from aml_edge.benchmarks.worker import Throughput
from aml_edge.map_drop import Drop
from aml_edge.preprocessing import Preprocessing
from aml_edge.space import EmbeddingSpace

MAP, SEARCH, KERNELS, FRONT, OVER_FP32, LOST = "mAP", "search", "kernels", "front", "× fp32", "mAP lost"
INCLUDES: Mapping[str, str] = {
    "latency": "one image, fitted pixels in memory to the final embedding in memory: copies in and out, normalisation, "
    "network, whitening where the file has it; decoding and resizing are left out. Rows take short turns in shuffled "
    "rounds, one untimed call before each turn.",
    "spread": "interquartile range of the calls as a share of their median.",
    "speed-up": "times as fast as PyTorch eager with the same threads: median over rounds of the ratio of the two "
    "rows' median times in the same round, with a 95 % bootstrap interval over rounds.",
    "load": "from the path to a runtime that takes images, in a fresh process after its imports; the file was read "
    "before, so it comes from the system's cache. PyTorch also builds its network in that time.",
    "first": "the first image in that process.",
    "peak memory": "resident memory from the load to the end of the warm-up, beyond what the process held after its "
    "imports; parts of a file that are mapped and used count.",
    "images/s": "in batches where the runtime takes them; exported files have batch 1.",
    "file": "what is stored: weights and graph; PyTorch's weights alone.",
    MAP: "student's queries against the teacher's database, which is the index; in points of 100.",
    KERNELS: "of files whose convolutions take integers: fast ones, which the runtime takes by itself, and precise or "
    "reference ones, which show what the file computes, not what this processor makes of it. Reference kernels are not "
    f"timed, and embed {SAMPLE} queries unless --runtime names them.",
    LOST: "points of mAP (medium) that are lost to the fp32 file of the same format in the same runtime, with a 95 % "
    "paired bootstrap interval over queries.",
    OVER_FP32: "times as fast as the fp32 file of the same format in the same runtime, taken as the speed-up is.",
    FRONT: "no other file is at least as good in each of these measures and better in one; a file that failed is on "
    "none. Time is that of the fast kernels with the fewest threads, mAP that of the precise ones where the runtime "
    "has them; PyTorch and rows that were not timed take no part.",
    SEARCH: "one query's embedding to its ten nearest images, one query a call, rows and structures in memory; recall "
    "is the mean share of the exact search's ten.",
}
"""What each number includes, by the name of its column."""


@dataclass(frozen=True)
class RowReport:
    """A file in a runtime, or the student in PyTorch.

    Args:
        label: names the row within its group.
        path: of the file; None for the student.
        format, precision: of the file; None for the student.
        runtime: a name of `aml_edge.runtimes.RUNTIMES`, or ``"torch"``.
        device: ``"cpu"`` or an accelerator's.
        size_bytes: of the file, or of the student's weights; None where they are not there.
        by_threads: fewest threads first; empty where it was not run.
        throughput: in batch, with the most threads; None where the runtime takes one image a call or was not run.
        retrieval: None where no ground truth was given.
        not_run: why no time was taken, or None where it was.
        verdict: what the file's verdict is worth now, in words; None for the student.
        kernels: which integer kernels ran; None where the row is computed in floats, or the runtime does not say.
        agreement: of exact kernels with the fast ones of the same file; None for other rows, and without queries.
        map_drop: mAP lost to the fp32 file of the same format in the same runtime; None where one of them has none.
        on_front: whether the row is on the Pareto front (`aml_edge.benchmarks.pareto`); None where it takes no part.
    """

    label: str
    path: Path | None
    format: Format | None
    precision: Precision | None
    runtime: str
    device: str
    size_bytes: int | None
    by_threads: tuple[ThreadsReport, ...] = ()
    throughput: Throughput | None = None
    retrieval: AsymmetricMap | None = None
    not_run: str | None = None
    verdict: str | None = None
    kernels: Kernels | None = None
    agreement: KernelAgreement | None = None
    map_drop: Drop | None = None
    on_front: bool | None = None

    @property
    def narrowest(self) -> ThreadsReport | None:
        """The report with the fewest threads; None where it was not run."""
        return self.by_threads[0] if self.by_threads else None

    @property
    def widest(self) -> ThreadsReport | None:
        """The report with the most threads, whose start stands for the row; None where it was not run."""
        return self.by_threads[-1] if self.by_threads else None


@dataclass(frozen=True)
class GroupReport:
    """All files of one student that take the same pixels, beside that student.

    Args:
        student: its name.
        backbone: of the student.
        weights_sha256: of the student.
        space: that the files' embeddings live in.
        preprocessing: of the files.
        trained: whether the student is; None where it was not found.
        cost: of the student on one image; None where its architecture is not known.
        rows: PyTorch first.
        notes: what a reader must know of them.
    """

    student: str
    backbone: str
    weights_sha256: str
    space: EmbeddingSpace
    preprocessing: Preprocessing
    trained: bool | None
    cost: CostReport | None
    rows: tuple[RowReport, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class BenchmarkReport:
    """All that was measured, and where.

    Args:
        environment: the machine and its software.
        load: what else the machine did.
        plan: how often and how long each row was timed.
        threads: the numbers of threads that were asked for.
        groups: one for each student and kind of pixels.
        includes: what each number includes.
        search: how long one query's search of the index takes; None where no approximate index was named.
    """

    environment: Environment
    load: MachineLoad
    plan: LatencyPlan
    threads: tuple[int, ...]
    groups: tuple[GroupReport, ...]
    includes: Mapping[str, str]
    search: SearchReport | None = None
