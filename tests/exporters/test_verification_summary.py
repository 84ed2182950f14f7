"""A verification in a line or two."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from aml_edge.artifact import Format, Manifest, Precision, Verdict
from aml_edge.exporters.agreement import Spread
from aml_edge.exporters.compatibility import CompatibilityReport
from aml_edge.exporters.judgement import Judgement
from aml_edge.exporters.verification import Verification
from aml_edge.exporters.verification_summary import summarise_verification
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.space import EmbeddingSpace


def verification(judgement: Judgement, report: CompatibilityReport | None) -> Verification:
    space = EmbeddingSpace("toy teacher", "a" * 64, 64)
    manifest = Manifest(
        space, Preprocessing(224, Fit.SQUASH), "demo", "b", "b" * 64, Format.ONNX, Precision.FP16, "opset 20"
    )
    return Verification(Path("demo.onnx"), manifest, judgement, report)


def test_a_verified_file_is_one_line_of_numbers(report: CompatibilityReport) -> None:
    assert str(summarise_verification(verification(Judgement(Verdict.VERIFIED), report))) == (
        "verified: medium mAP 50.00 → 50.00, cosine ≥ 0.99990, centred ≥ 0.99960, centred in simulated half ≥ 0.99960, "
        "188 images in litert cpu"
    )


def test_what_was_not_measured_is_left_out(report: CompatibilityReport) -> None:
    bare = replace(report, retrieval=None, half_precision=None)
    assert str(summarise_verification(verification(Judgement(Verdict.VERIFIED), bare))) == (
        "verified: cosine ≥ 0.99990, centred ≥ 0.99960, 188 images in litert cpu"
    )


def test_a_bound_is_cut_and_never_rounded_up(report: CompatibilityReport) -> None:
    near = replace(report, agreement=replace(report.agreement, cosine=Spread(0.999998, 1, 1)))
    assert "cosine ≥ 0.99999," in str(summarise_verification(verification(Judgement(Verdict.VERIFIED), near)))


def test_the_setting_that_is_shown_is_named(report: CompatibilityReport) -> None:
    assert report.retrieval is not None
    only_hard = replace(report, retrieval=replace(report.retrieval, medium=None))
    assert "hard mAP 50.00" in str(summarise_verification(verification(Judgement(Verdict.VERIFIED), only_hard)))


def test_a_failed_file_has_its_numbers_and_every_reason(report: CompatibilityReport) -> None:
    bare = replace(report, retrieval=None, half_precision=None)
    failed = Judgement(Verdict.FAILED, ("smallest cosine: [0.9], at least 0.999 is needed", "too short"))
    assert str(summarise_verification(verification(failed, bare))) == (
        "failed: cosine ≥ 0.99990, centred ≥ 0.99960, 188 images in litert cpu\n"
        "− smallest cosine: [0.9], at least 0.999 is needed\n"
        "− too short"
    )


def test_values_that_are_not_finite_are_said(report: CompatibilityReport) -> None:
    broken = replace(report.agreement, cosine=Spread(float("nan"), 1, 1))
    failed = verification(Judgement(Verdict.FAILED, ("3 hold NaN",)), replace(report, agreement=broken))
    assert "cosine ≥ NaN, " in str(summarise_verification(failed))


def test_reasons_stand_instead_of_numbers_where_nothing_was_proven(report: CompatibilityReport) -> None:
    one = Judgement(Verdict.NOT_RUN, ("too few images: [3]",))
    assert str(summarise_verification(verification(one, report))) == "not run: too few images: [3]"


@pytest.mark.parametrize("verdict", [Verdict.FAILED, Verdict.NOT_RUN])
def test_reasons_stand_alone_where_nothing_was_measured(verdict: Verdict) -> None:
    two = Judgement(verdict, ("too far", "too short"))
    assert str(summarise_verification(verification(two, None))) == f"{verdict}:\n− too far\n− too short"
