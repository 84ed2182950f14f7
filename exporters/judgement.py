"""`judge`: pass, fail or not run, with reasons; never one for another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from aml_edge.artifact import Precision, Verdict
from aml_edge.errors import VerificationError, VerificationNotRunError
from aml_edge.exporters.checks import HALF, LEAST_KERNEL_COSINE, checks_of
from aml_edge.exporters.compatibility import CompatibilityReport
from aml_edge.exporters.tolerances import Tolerances
from aml_edge.exporters.verification_images import FEWEST_DISTINCT_IMAGES

FEWEST_INDEXED_IMAGES = 11
"""Fewer leave nothing outside the first 10."""
SMALLEST_PAIR_DISTANCE = 0.02
"""Median 1 − cosine of different photographs. Students with random weights measured from 0.000 (1280 channels or more,
projected at random) to 0.014 for most trunks; ImageNet-trained ones 0.3, also of a narrow subject."""
SMALLEST_DISTANCE_RATIO = 0.25
"""The same over that of the teacher's index: a weak student, fitted by a regression alone, still measured 0.45; random
EfficientNet-B3 0.23; a trained student on files of random noise 0.1."""
LEAST_OWN_FIRST = 0.75
"""How often an image must be nearer to its own teacher embedding than to another's: half of the time is chance (0.49
with a random adaptor), and the same weak student measured 0.94."""
MOST_TRANSPOSES = 1
"""One at the input is what an export may leave."""


@dataclass(frozen=True)
class Judgement:
    """What verification says.

    Args:
        verdict: verified, failed or not run.
        reasons: every tolerance that was missed, or why nothing could be said; empty where verified.
        warnings: what does not change the verdict but should be known.
    """

    verdict: Verdict
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def judge(report: CompatibilityReport, tolerances: Tolerances) -> Judgement:
    """Returns the verdict on a report.

    NaN or an infinity from the file fails it whatever else; then, where student and images cannot tell a good file from
    a bad one, nothing is said; then every tolerance counts.
    """
    missed = tuple(check.miss for check in checks_of(report, tolerances) if not check.holds)
    warnings = tuple(_warnings(report))
    broken = tuple(_non_finite(report))
    if broken:
        return Judgement(Verdict.FAILED, broken + missed, warnings)
    unprovable = tuple(_unprovable(report))
    if unprovable:
        return Judgement(Verdict.NOT_RUN, unprovable, warnings)
    return Judgement(Verdict.FAILED if missed else Verdict.VERIFIED, missed, warnings)


def require(judgement: Judgement) -> None:
    """Raises `VerificationError` where the verdict is failed, `VerificationNotRunError` where there is none."""
    reasons = "; ".join(judgement.reasons)
    if judgement.verdict is Verdict.FAILED:
        raise VerificationError(f"the file failed verification; do not ship it: {reasons}")
    if judgement.verdict is Verdict.NOT_RUN:
        raise VerificationNotRunError(f"the file was not verified, so nothing is known of it: {reasons}")


def _non_finite(report: CompatibilityReport) -> Iterator[str]:
    if report.agreement.non_finite:
        yield f"{report.agreement.non_finite} of {report.images} embeddings hold NaN or an infinity"
    half = report.half_precision
    if half is not None and half.agreement.non_finite:
        yield f"{HALF}{half.agreement.non_finite} of {half.images} embeddings hold NaN or an infinity"


def _unprovable(report: CompatibilityReport) -> Iterator[str]:
    if report.distinct_images < FEWEST_DISTINCT_IMAGES:
        yield (
            f"too few images: {report.distinct_images} distinct ones of {report.images}, "
            f"{FEWEST_DISTINCT_IMAGES} are needed; name a folder with more"
        )
    if report.ranking.database_images < FEWEST_INDEXED_IMAGES:
        yield (
            f"too small an index: it holds {report.ranking.database_images} images, "
            f"{FEWEST_INDEXED_IMAGES} are needed to compare rankings"
        )
    elif not report.index_pair_distance >= SMALLEST_PAIR_DISTANCE:
        yield (
            f"the index's embeddings of different images do not differ (median distance "
            f"{report.index_pair_distance:.4f}, at least {SMALLEST_PAIR_DISTANCE:g} is needed), so its ranking is "
            "chance; build it with a trained teacher"
        )
    if report.precision is Precision.FP16 and report.half_precision is None:
        yield "half precision was not simulated, and this runtime hides what it does to the head"
    if report.student_non_finite:
        yield f"the student itself gives NaN or an infinity for {report.student_non_finite} of {report.images} images"
    else:
        yield from _untrained(report)


def _untrained(report: CompatibilityReport) -> Iterator[str]:
    least = max(SMALLEST_PAIR_DISTANCE, SMALLEST_DISTANCE_RATIO * report.index_pair_distance)
    if report.distinct_images >= FEWEST_DISTINCT_IMAGES and not report.student_pair_distance >= least:
        yield (
            "untrained: the student's embeddings of different images do not differ (median distance "
            f"{report.student_pair_distance:.4f}, at least {least:.4f} is needed; {report.index_pair_distance:.4f} in "
            "the index), so any file would pass; train the student, or name images that are less alike"
        )
    teacher = report.teacher
    if (
        teacher is not None
        and teacher.images >= FEWEST_DISTINCT_IMAGES
        and not (teacher.student_own_first >= LEAST_OWN_FIRST)
    ):
        yield (
            "untrained: the student is not in the teacher's space (an image is nearer to its own teacher embedding "
            f"than to another's in {teacher.student_own_first:.0%} of pairs, 50% is chance, {LEAST_OWN_FIRST:.0%} is "
            "needed); train it with an asymmetric loss such as regression, or name the images that the index is of"
        )


def _warnings(report: CompatibilityReport) -> Iterator[str]:
    if report.retrieval is None:
        yield "no ground truth: mAP was not measured"
    if report.teacher is None:
        yield "none of the images is in the index: how near the student is to the teacher was not measured"
    if report.census is not None and report.census.transposes > MOST_TRANSPOSES:
        yield f"{report.census.transposes} transposes are left in the graph: they cost time on a phone"
    kernels = report.kernels
    if kernels is not None and not kernels.centred_cosine.median >= LEAST_KERNEL_COSINE:
        yield (
            f"{kernels.other} gives other embeddings on this processor than {kernels.verified}: median centred "
            f"cosine {kernels.centred_cosine.median:.4f} on {kernels.images} images, rounding alone leaves "
            f"{LEAST_KERNEL_COSINE:g}; measure speed and accuracy on the processor that will run the file"
        )
    if report.unreadable:
        yield f"{len(report.unreadable)} images could not be read and were left out"
