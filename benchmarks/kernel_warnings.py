"""Where a file's fast kernels do not compute what it says: judgement, and sentences of it."""

from __future__ import annotations

from aml_edge.benchmarks.environment import Environment
from aml_edge.benchmarks.kernels import fast_runtime
from aml_edge.benchmarks.report import BenchmarkReport, GroupReport, RowReport

LOWEST_COSINE = 0.99
"""Below it, fast kernels give another embedding of some query than exact ones."""
MAP_TOLERANCE = 0.001
"""In 0..1: mAPs that differ by more are different, 0.1 points."""


def agreement_lines(group: GroupReport) -> tuple[str, ...]:
    """Returns how near exact kernels are to the fast ones, one sentence a row of exact kernels."""
    return tuple(
        f"{row.label}: cosine at least {found.smallest:.5f}, median {found.median:.5f}, to {found.fast} "
        f"over {found.images} queries"
        for row in group.rows
        if (found := row.agreement) is not None
    )


def kernel_warnings(report: BenchmarkReport) -> tuple[str, ...]:
    """Returns one sentence a file whose embeddings or mAP depend on the kernels."""
    return tuple(
        _sentence(exact, fast, report.environment)
        for group in report.groups
        for exact in group.rows
        if (fast := _fast_of(exact, group)) is not None and differ(exact, fast)
    )


def differ(exact: RowReport, fast: RowReport) -> bool:
    """Whether two rows of one file give different embeddings, or an mAP (medium) that differs."""
    agreement = exact.agreement
    apart = agreement is not None and not agreement.smallest >= LOWEST_COSINE
    if exact.retrieval is None or fast.retrieval is None:
        return apart
    return apart or abs(exact.retrieval.medium - fast.retrieval.medium) > MAP_TOLERANCE


def _fast_of(exact: RowReport, group: GroupReport) -> RowReport | None:
    wanted = (exact.path, fast_runtime(exact.runtime))
    return next((row for row in group.rows if exact.path is not None and (row.path, row.runtime) == wanted), None)


def _sentence(exact: RowReport, fast: RowReport, environment: Environment) -> str:
    assert exact.path is not None, "only files have exact kernels"
    measured = []
    if exact.agreement is not None:
        measured.append(f"lowest cosine {exact.agreement.smallest:.3f} over {exact.agreement.images} queries")
    if exact.retrieval is not None and fast.retrieval is not None:
        measured.append(f"mAP {100 * fast.retrieval.medium:.2f}, not {100 * exact.retrieval.medium:.2f}")
    saturates = fast.runtime == "onnxruntime" and environment.vnni is False
    why = "x86 without VNNI saturates; " if saturates else ""
    named = f", whose mAP `--runtime {fast.runtime} --runtime {exact.runtime}` measures"
    return (
        f"{exact.path.name}: on this processor {fast.runtime}'s fast integer kernels give other embeddings than the "
        f"{exact.kernels or 'exact'} ones ({'; '.join(measured)}): {why}judge the file by the row {exact.label}"
        f"{named if exact.retrieval is None else ''}"
    )
