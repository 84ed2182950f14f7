"""Verified, failed, not run: which report gives which, and in what words."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from aml_edge.artifact import Precision, Verdict
from aml_edge.bootstrap import Interval
from aml_edge.errors import VerificationError, VerificationNotRunError
from aml_edge.exporters.agreement import EmbeddingAgreement, PairError, Spread
from aml_edge.exporters.checks import Check, checks_of
from aml_edge.exporters.compatibility import CompatibilityReport
from aml_edge.exporters.half_precision import HeadRange
from aml_edge.exporters.judgement import Judgement, judge, require
from aml_edge.exporters.kernel_agreement import KernelAgreement
from aml_edge.exporters.rank_agreement import TopKOverlap
from aml_edge.exporters.retrieval_agreement import MapDifference
from aml_edge.exporters.tolerances import HALF_PRECISION

NAN = float("nan")
BROKEN = EmbeddingAgreement(Spread(NAN, NAN, NAN), Spread(NAN, NAN, NAN), PairError(NAN, NAN), 3, NAN)

Change = Callable[[CompatibilityReport], CompatibilityReport]


def with_agreement(report: CompatibilityReport, **changes: object) -> CompatibilityReport:
    return replace(report, agreement=replace(report.agreement, **changes))  # type: ignore[arg-type]


def with_medium_loss(report: CompatibilityReport, points: float) -> CompatibilityReport:
    assert report.retrieval is not None and report.retrieval.medium is not None
    change = MapDifference(-points / 100, Interval(-(points + 0.3) / 100, -(points - 0.2) / 100))
    medium = replace(report.retrieval.medium, export=change)
    return replace(report, retrieval=replace(report.retrieval, medium=medium))


def with_overlap(report: CompatibilityReport, mean: float) -> CompatibilityReport:
    return replace(report, ranking=replace(report.ranking, overlaps=(TopKOverlap(10, mean, 0.0, 0.01),)))


def with_teacher_loss(report: CompatibilityReport, loss: float) -> CompatibilityReport:
    assert report.teacher is not None
    return replace(report, teacher=replace(report.teacher, artifact_cosine=Spread(0.5, 0.6, 0.8 - loss)))


def with_half(report: CompatibilityReport, **changes: object) -> CompatibilityReport:
    assert report.half_precision is not None
    return replace(report, half_precision=replace(report.half_precision, **changes))  # type: ignore[arg-type]


def test_a_report_within_all_tolerances_is_verified(report: CompatibilityReport) -> None:
    assert judge(report, HALF_PRECISION) == Judgement(Verdict.VERIFIED)
    require(judge(report, HALF_PRECISION))


MISSES: dict[str, tuple[Change, str]] = {
    "map": (
        lambda report: with_medium_loss(report, 0.6),
        "points of mAP lost by the export, medium: 0.6 [0.40, 0.90] on 60 queries, at most 0.5 is allowed",
    ),
    "overlap": (
        lambda report: with_overlap(report, 0.94),
        "mean share of the first 10 in common: 0.94, at least 0.95 is needed",
    ),
    "correlation": (
        lambda report: replace(report, ranking=replace(report.ranking, mean_correlation=0.99)),
        "mean rank correlation: 0.99, at least 0.999 is needed",
    ),
    "cosine": (
        lambda report: with_agreement(report, cosine=Spread(0.998, 1, 1)),
        "smallest cosine: 0.998, at least 0.999 is needed",
    ),
    "centred cosine": (
        lambda report: with_agreement(report, centred_cosine=Spread(0.99, 1, 1)),
        "smallest centred cosine: 0.99, at least 0.995 is needed",
    ),
    "pair error": (
        lambda report: with_agreement(report, pair_error=PairError(0.02, 0)),
        "largest error of a pair's similarity: 0.02, at most 0.01 is allowed",
    ),
    "norm": (
        lambda report: with_agreement(report, largest_norm_error=0.01),
        "largest error of a norm: 0.01, at most 0.002 is allowed",
    ),
    "teacher": (
        lambda report: with_teacher_loss(report, 0.01),
        "median cosine to the teacher lost by the export: 0.01, at most 0.005 is allowed",
    ),
    "half precision": (
        lambda report: with_half(report, agreement=replace(report.agreement, cosine=Spread(0.9, 1, 1))),
        "in simulated half precision, smallest cosine: 0.9, at least 0.999 is needed",
    ),
    "head": (
        lambda report: with_half(report, head=HeadRange(1e5, 1e-4, 3.0, 48)),
        "in simulated half precision, largest input of the head: 100000, at most 65504 is allowed",
    ),
}


@pytest.mark.parametrize(("change", "reason"), MISSES.values(), ids=MISSES)
def test_each_tolerance_that_is_missed_fails_alone(report: CompatibilityReport, change: Change, reason: str) -> None:
    assert judge(change(report), HALF_PRECISION) == Judgement(Verdict.FAILED, (reason,))


def test_all_misses_are_listed(report: CompatibilityReport) -> None:
    worse = with_agreement(with_medium_loss(report, 3), cosine=Spread(0.5, 1, 1))
    reasons = judge(worse, HALF_PRECISION).reasons
    assert [reason.split(":")[0] for reason in reasons] == [
        "points of mAP lost by the export, medium",
        "smallest cosine",
    ]


def test_a_gain_is_no_miss(report: CompatibilityReport) -> None:
    better = with_teacher_loss(with_medium_loss(report, -3), -0.05)
    assert judge(better, HALF_PRECISION).verdict is Verdict.VERIFIED


def test_a_value_on_the_limit_is_kept() -> None:
    assert Check("cosine", "smallest cosine", 0.5, 0.5, True).holds
    assert Check("pair_error", "largest error", 0.5, 0.5, False).holds


@pytest.mark.parametrize("is_floor", [True, False])
def test_nan_keeps_no_limit(is_floor: bool) -> None:
    check = Check("cosine", "smallest cosine", NAN, 0.5, is_floor)
    assert not check.holds
    assert "smallest cosine: NaN, at " in check.miss


def test_nan_from_the_file_fails(report: CompatibilityReport) -> None:
    judgement = judge(replace(report, agreement=BROKEN), HALF_PRECISION)
    assert judgement.verdict is Verdict.FAILED
    assert judgement.reasons[0] == "3 of 188 embeddings hold NaN or an infinity"
    assert "smallest centred cosine: NaN, at least 0.995 is needed" in judgement.reasons


def test_nan_from_the_file_fails_even_where_nothing_else_can_be_said(report: CompatibilityReport) -> None:
    collapsed = replace(report, agreement=BROKEN, distinct_images=2, student_pair_distance=0.0)
    assert judge(collapsed, HALF_PRECISION).verdict is Verdict.FAILED


def test_nan_in_simulated_half_precision_fails(report: CompatibilityReport) -> None:
    judgement = judge(with_half(report, agreement=BROKEN), HALF_PRECISION)
    assert judgement.verdict is Verdict.FAILED
    assert judgement.reasons[0] == "in simulated half precision, 3 of 48 embeddings hold NaN or an infinity"


NOTHING_KNOWN: dict[str, tuple[Change, str]] = {
    "few images": (
        lambda report: replace(report, distinct_images=15),
        "too few images: 15 distinct ones of 188, 16 are needed; name a folder with more",
    ),
    "small index": (
        lambda report: replace(report, ranking=replace(report.ranking, database_images=10, overlaps=())),
        "too small an index: it holds 10 images, 11 are needed to compare rankings",
    ),
    "constant index": (
        lambda report: replace(report, index_pair_distance=0.0012),
        "the index's embeddings of different images do not differ (median distance 0.0012, at least 0.02 is needed), "
        "so its ranking is chance; build it with a trained teacher",
    ),
    "broken index": (
        lambda report: replace(report, index_pair_distance=NAN),
        "the index's embeddings of different images do not differ (median distance nan, at least 0.02 is needed), "
        "so its ranking is chance; build it with a trained teacher",
    ),
    "half precision not simulated": (
        lambda report: replace(report, half_precision=None),
        "half precision was not simulated, and this runtime hides what it does to the head",
    ),
    "broken student": (
        lambda report: replace(report, student_non_finite=2, student_pair_distance=NAN),
        "the student itself gives NaN or an infinity for 2 of 188 images",
    ),
    "constant student": (
        lambda report: replace(report, student_pair_distance=0.0001),
        "untrained: the student's embeddings of different images do not differ (median distance 0.0001, at least "
        "0.1250 is needed; 0.5000 in the index), so any file would pass; train the student, or name images that are "
        "less alike",
    ),
    "outside the space": (
        lambda report: replace(report, teacher=replace(report.teacher, student_own_first=0.51)),  # type: ignore[type-var]
        "untrained: the student is not in the teacher's space (an image is nearer to its own teacher embedding than "
        "to another's in 51% of pairs, 50% is chance, 75% is needed); train it with an asymmetric loss such as "
        "regression, or name the images that the index is of",
    ),
}


@pytest.mark.parametrize(("change", "reason"), NOTHING_KNOWN.values(), ids=NOTHING_KNOWN)
def test_what_proves_nothing_is_not_run(report: CompatibilityReport, change: Change, reason: str) -> None:
    assert judge(change(report), HALF_PRECISION) == Judgement(Verdict.NOT_RUN, (reason,))


@pytest.mark.parametrize(("change", "_"), NOTHING_KNOWN.values(), ids=NOTHING_KNOWN)
def test_what_proves_nothing_does_not_fail_either(report: CompatibilityReport, change: Change, _: str) -> None:
    worse = with_agreement(change(report), cosine=Spread(0.1, 0.1, 0.1))
    assert judge(worse, HALF_PRECISION).verdict is Verdict.NOT_RUN


def test_a_collapsed_index_does_not_excuse_a_collapsed_student(report: CompatibilityReport) -> None:
    collapsed = replace(report, student_pair_distance=0.019, index_pair_distance=0.02)
    assert judge(collapsed, HALF_PRECISION).verdict is Verdict.NOT_RUN


def test_few_indexed_images_say_nothing_of_the_space(report: CompatibilityReport) -> None:
    assert report.teacher is not None
    few = replace(report, teacher=replace(report.teacher, images=15, student_own_first=0.4))
    assert judge(few, HALF_PRECISION).verdict is Verdict.VERIFIED


def test_a_single_precision_file_needs_no_simulation(report: CompatibilityReport) -> None:
    single = replace(report, precision=Precision.FP32, half_precision=None)
    assert judge(single, HALF_PRECISION).verdict is Verdict.VERIFIED


def test_what_was_not_measured_is_said_and_does_not_fail(report: CompatibilityReport) -> None:
    assert report.census is not None
    bare = replace(
        report, retrieval=None, teacher=None, census=replace(report.census, transposes=4), unreadable=(("a.jpg", "x"),)
    )
    judgement = judge(bare, HALF_PRECISION)
    assert judgement.verdict is Verdict.VERIFIED
    assert judgement.warnings == (
        "no ground truth: mAP was not measured",
        "none of the images is in the index: how near the student is to the teacher was not measured",
        "4 transposes are left in the graph: they cost time on a phone",
        "1 images could not be read and were left out",
    )


def kernels(median: float, *, is_exact: bool) -> KernelAgreement:
    names = ("onnxruntime cpu, precise kernels", "onnxruntime cpu, fast kernels")
    return KernelAgreement(*(names if is_exact else names[::-1]), 16, Spread(0.9, 0.95, median), is_exact)


def test_kernels_that_round_ties_otherwise_are_no_news(report: CompatibilityReport) -> None:
    for is_exact in (True, False):
        alike = replace(report, kernels=kernels(0.9905, is_exact=is_exact))
        assert judge(alike, HALF_PRECISION) == Judgement(Verdict.VERIFIED)


@pytest.mark.parametrize(("median", "said"), [(0.985, "0.9850"), (0.2, "0.2000"), (NAN, "nan")])
def test_another_processor_s_kernels_that_differ_are_said_and_do_not_fail(
    report: CompatibilityReport, median: float, said: str
) -> None:
    judgement = judge(replace(report, kernels=kernels(median, is_exact=True)), HALF_PRECISION)
    assert judgement == Judgement(
        Verdict.VERIFIED,
        (),
        (
            "onnxruntime cpu, fast kernels gives other embeddings on this processor than onnxruntime cpu, precise "
            f"kernels: median centred cosine {said} on 16 images, rounding alone leaves 0.99; measure speed and "
            "accuracy on the processor that will run the file",
        ),
    )


def test_what_fast_kernels_verified_fails_where_exact_ones_differ(report: CompatibilityReport) -> None:
    assert judge(replace(report, kernels=kernels(0.9905, is_exact=False)), HALF_PRECISION).verdict is Verdict.VERIFIED
    judgement = judge(replace(report, kernels=kernels(0.989, is_exact=False)), HALF_PRECISION)
    assert judgement.verdict is Verdict.FAILED
    assert judgement.reasons == (
        "median centred cosine of onnxruntime cpu, fast kernels to onnxruntime cpu, precise kernels: 0.989, at least "
        "0.99 is needed",
    )
    assert judge(replace(report, kernels=kernels(NAN, is_exact=False)), HALF_PRECISION).verdict is Verdict.FAILED


def test_checks_name_every_tolerance(report: CompatibilityReport) -> None:
    keys = [check.key for check in checks_of(report, HALF_PRECISION)]
    assert keys == [
        "map_loss_points medium",
        "map_loss_points hard",
        "overlap 10",
        "overlap 100",
        "rank_correlation",
        "cosine",
        "centred_cosine",
        "pair_error",
        "norm_error",
        "teacher_cosine_loss",
        "half cosine",
        "half centred_cosine",
        "half pair_error",
        "half norm_error",
        "half head",
    ]
    assert all(math.isfinite(check.value) for check in checks_of(report, HALF_PRECISION))


def test_require_raises_with_the_reasons() -> None:
    with pytest.raises(VerificationError) as failed:
        require(Judgement(Verdict.FAILED, ("too far", "too short")))
    assert str(failed.value) == "the file failed verification; do not ship it: too far; too short"
    assert failed.value.exit_code == 3
    with pytest.raises(VerificationNotRunError) as not_run:
        require(Judgement(Verdict.NOT_RUN, ("untrained: so",)))
    assert str(not_run.value) == "the file was not verified, so nothing is known of it: untrained: so"
    assert not_run.value.exit_code == 1
