"""`checks_of`: every value of a report that a tolerance is about, beside its limit."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from aml_edge.exporters.agreement import EmbeddingAgreement
from aml_edge.exporters.compatibility import CompatibilityReport
from aml_edge.exporters.retrieval_agreement import SettingAgreement
from aml_edge.exporters.tolerances import Tolerances
from aml_edge.runtimes.half_rounding import LARGEST_HALF

HALF = "in simulated half precision, "
LEAST_KERNEL_COSINE = 0.99
"""Median of a file's fast kernels to its exact ones, centred. Ties that are rounded otherwise left 0.999 on
EfficientNet-Lite0 and 0.996 to 0.997 on B0, whose worst image had 0.976 once. Where 16 bits saturate, all images move:
of Lite2 the cosine to fp32 fell from 0.992 to 0.975 on average, not centred."""


@dataclass(frozen=True)
class Check:
    """One value against its limit.

    Args:
        key: e.g. ``"centred_cosine"``, ``"map_loss_points easy"``, ``"half cosine"``: the tolerance's name and where.
        what: in words, e.g. ``"smallest centred cosine"``.
        value: as measured; NaN never holds.
        limit: the tolerance.
        is_floor: whether the value must be at least the limit, else at most.
        sample: what the value was estimated on, and how surely, e.g. ``"[-0.01, 2.15] on 40 queries"``; empty where it
            is no estimate.
    """

    key: str
    what: str
    value: float
    limit: float
    is_floor: bool
    sample: str = ""

    @property
    def holds(self) -> bool:
        """Whether the value keeps to the limit."""
        compare: Callable[[float, float], bool] = operator.ge if self.is_floor else operator.le
        return compare(self.value, self.limit)

    @property
    def miss(self) -> str:
        """What to say where the limit is missed."""
        value = f"{self.value:.6g} {self.sample}".rstrip() if math.isfinite(self.value) else "NaN"
        rule = f"at least {self.limit:g} is needed" if self.is_floor else f"at most {self.limit:g} is allowed"
        return f"{self.what}: {value}, {rule}"


def checks_of(report: CompatibilityReport, tolerances: Tolerances) -> tuple[Check, ...]:
    """Returns every value of a report that a tolerance is about, in the order of the report."""
    return (
        *_retrieval_checks(report, tolerances),
        *_embedding_checks(report, tolerances),
        *_approximation_checks(report, tolerances),
    )


def _retrieval_checks(report: CompatibilityReport, tolerances: Tolerances) -> Iterator[Check]:
    if report.retrieval is not None:
        for name, setting in report.retrieval.settings:
            loss, what = -100 * setting.export.value, f"points of mAP lost by the export, {name}"
            sample = _sample(setting)
            yield Check(f"map_loss_points {name}", what, loss, tolerances.map_loss_points, False, sample)
    for overlap in report.ranking.overlaps:
        what = f"mean share of the first {overlap.k} in common"
        yield Check(f"overlap {overlap.k}", what, overlap.mean, tolerances.overlap, True)
    correlation = report.ranking.mean_correlation
    yield Check("rank_correlation", "mean rank correlation", correlation, tolerances.rank_correlation, True)


def _sample(setting: SettingAgreement) -> str:
    """Returns the interval of the points that are lost, and how many queries it is of."""
    gained = setting.export.interval
    low, high = (-100 * end + 0.0 for end in (gained.high, gained.low))
    return f"[{low:.2f}, {high:.2f}] on {setting.queries} queries"


def _embedding_checks(report: CompatibilityReport, tolerances: Tolerances) -> Iterator[Check]:
    yield from _agreement_checks(report.agreement, tolerances, "", "")
    if report.teacher is not None:
        loss = report.teacher.student_cosine.median - report.teacher.artifact_cosine.median
        what = "median cosine to the teacher lost by the export"
        yield Check("teacher_cosine_loss", what, loss, tolerances.teacher_cosine_loss, False)
    if report.half_precision is not None:
        yield from _agreement_checks(report.half_precision.agreement, tolerances, "half ", HALF)
        largest = report.half_precision.head.largest
        yield Check("half head", f"{HALF}largest input of the head", largest, LARGEST_HALF, False)
    kernels = report.kernels
    if kernels is not None and not kernels.is_exact:
        what = f"median centred cosine of {kernels.verified} to {kernels.other}"
        yield Check("kernels", what, kernels.centred_cosine.median, LEAST_KERNEL_COSINE, True)


def _approximation_checks(report: CompatibilityReport, tolerances: Tolerances) -> Iterator[Check]:
    """Yields what approximate search may cost, where someone said so."""
    most, least = tolerances.ann_map_loss_points, tolerances.ann_overlap
    for cost in report.approximation:
        if most is not None:
            for measure in cost.measures:
                loss, what = -100 * measure.difference, f"points lost by {cost.ann}, {measure.name}"
                yield Check(f"ann_map_loss_points {cost.ann} {measure.name}", what, loss, most, False)
        if least is not None:
            for share in cost.found:
                what = f"mean share of the first {share.k} that {cost.ann} finds"
                yield Check(f"ann_overlap {cost.ann} {share.k}", what, share.mean, least, True)


def _agreement_checks(agreement: EmbeddingAgreement, tolerances: Tolerances, key: str, where: str) -> Iterator[Check]:
    cosine, centred = agreement.cosine.smallest, agreement.centred_cosine.smallest
    yield Check(f"{key}cosine", f"{where}smallest cosine", cosine, tolerances.cosine, True)
    yield Check(f"{key}centred_cosine", f"{where}smallest centred cosine", centred, tolerances.centred_cosine, True)
    pair, norm = agreement.pair_error.largest, agreement.largest_norm_error
    yield Check(f"{key}pair_error", f"{where}largest error of a pair's similarity", pair, tolerances.pair_error, False)
    yield Check(f"{key}norm_error", f"{where}largest error of a norm", norm, tolerances.norm_error, False)
