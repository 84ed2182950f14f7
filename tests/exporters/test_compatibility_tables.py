"""What a person reads of a verification."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from aml_edge.artifact import Format, Manifest, Precision, Verdict
from aml_edge.exporters.agreement import EmbeddingAgreement, PairError, Spread
from aml_edge.exporters.checks import checks_of
from aml_edge.exporters.compatibility import CompatibilityReport
from aml_edge.exporters.compatibility_tables import render_verification
from aml_edge.exporters.judgement import Judgement, judge
from aml_edge.exporters.kernel_agreement import KernelAgreement
from aml_edge.exporters.tolerances import HALF_PRECISION
from aml_edge.exporters.verification import Verification
from aml_edge.formats import OperatorCensus
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.quantization_record import (
    CalibrationRecord,
    Draw,
    QuantizationMethod,
    QuantizationRecord,
    SimulationAgreement,
)
from aml_edge.space import EmbeddingSpace

NAN = float("nan")
MANIFEST = Manifest(
    EmbeddingSpace("efficientnet_lite2-gem", "a" * 64, 1280),
    Preprocessing(224, Fit.SQUASH),
    "demo",
    "efficientnet_lite0",
    "b" * 64,
    Format.TFLITE,
    Precision.FP16,
    "LiteRT",
)


def verification_of(report: CompatibilityReport) -> Verification:
    return Verification(
        Path("artifacts/demo.tflite"),
        MANIFEST,
        judge(report, HALF_PRECISION),
        report,
        checks_of(report, HALF_PRECISION),
    )


def printed(verification: Verification, *, width: int = 100) -> str:
    console = Console(width=width, record=True, highlight=False, file=None, quiet=False)
    with console.capture() as captured:
        console.print(render_verification(verification))
    return captured.get()


def test_sections_stand_in_the_order_of_importance(report: CompatibilityReport) -> None:
    text = printed(verification_of(report))
    titles = [
        "Asymmetric mAP",
        "Ranking of the teacher's index",
        "Embeddings, cosine",
        "Faults",
        "Operators",
        "VERIFIED",
    ]
    places = [text.index(title) for title in titles]
    assert places == sorted(places)


def test_every_line_fits_a_hundred_columns(report: CompatibilityReport) -> None:
    text = printed(verification_of(report))
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 100
    # and nothing was cut to fit
    assert "…" not in text


@pytest.mark.parametrize(
    "line",
    [
        "student demo (bbbbbbbb), space efficientnet_lite2-gem (aaaaaaaa), 1280-D, no whitening",
        "run by litert cpu on 188 images of landmarks (188 distinct), index of 800",
        "medium, 60   50.00   50.00  50.00  +0.00 [-0.10, +0.10]  +0.00 [-0.10, +0.10]  ≥ -0.5 kept",
        "share of the first 10 in common     0.8000    0.9900     0.0125  mean ≥ 0.95 kept",
        "file–student, centred            0.999600        0.999800  0.999900  smallest ≥ 0.995 kept",
        "student–teacher (distillation)   0.500000        0.600000  0.800000",
        "file–teacher (and export)        0.500000        0.600000  0.800000  median lost ≤ 0.005 kept",
        "file                           0.002000    0.000400  largest ≤ 0.01 kept",
        "head's input at most 8.2, half precision holds 65504; to the power 3 without rescaling it would fit",
        "86, of them transposes 1: CONV_2D 66, ADD 20",
        "weights float16 6.10 M",
        "VERIFIED: 15 of 15 tolerances kept",
    ],
)
def test_says(report: CompatibilityReport, line: str) -> None:
    assert line in " ".join(printed(verification_of(report), width=160).split("\n"))


def test_what_is_in_integers_and_what_is_not_is_said(report: CompatibilityReport) -> None:
    record = QuantizationRecord(
        QuantizationMethod.POST_TRAINING,
        CalibrationRecord("photos", 128, 0, Draw.RANDOM, "e" * 64),
        {"conv_stem": "steps", "head": "powers"},
        equalised=True,
        bias_corrected=True,
        activation_bits=8,
        simulation=SimulationAgreement(32, 0.999567, 0.9999),
    )
    census = OperatorCensus({}, {}, 0, integer_convolutions=48, float_convolutions=1)
    verification = verification_of(replace(report, census=census))
    manifest = replace(verification.manifest, precision=Precision.INT8, quantization=record)
    text = printed(replace(verification, manifest=manifest), width=160)
    assert text.splitlines()[1].strip() == "tflite int8"
    for line in (
        "convolutions: 48 in integers, 1 in floating point",
        "post-training, calibrated on 128 images",
        "in floating point: conv_stem: steps",
        "in floating point: head: powers",
        "file against its simulation: centred cosine ≥ 0.99956 on 32 images",
    ):
        assert f"   {line}\n" in "\n".join(one.rstrip() for one in text.split("\n"))
    assert "in integers" not in printed(verification_of(report))


def test_kernels_stand_beside_each_other(report: CompatibilityReport) -> None:
    fast, reference = "litert cpu, fast kernels", "litert cpu, reference kernels"
    kernels = KernelAgreement(fast, reference, 16, Spread(0.971234, 0.98, 0.985), is_exact=False)
    text = printed(verification_of(replace(report, runtime=fast, kernels=kernels)))
    assert "run by litert cpu, fast kernels on 188 images of landmarks" in text
    assert "other kernels, centred           0.971234        0.980000  0.985000  median ≥ 0.99 MISSED" in text
    assert "other kernels: litert cpu, reference kernels, on 16 images, beside litert cpu, fast kernels" in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 100
    exact = replace(kernels, is_exact=True)
    row = next(
        line
        for line in printed(verification_of(replace(report, kernels=exact))).splitlines()
        if line.strip().startswith("other kernels, centred")
    )
    assert row.split() == ["other", "kernels,", "centred", "0.971234", "0.980000", "0.985000"]


def test_a_miss_is_marked_where_it_stands_and_listed_at_the_end(report: CompatibilityReport) -> None:
    broken = EmbeddingAgreement(Spread(NAN, NAN, NAN), Spread(NAN, NAN, NAN), PairError(NAN, NAN), 3, NAN)
    text = printed(verification_of(replace(report, agreement=broken)))
    assert "file–student                          NaN             NaN       NaN  smallest ≥ 0.999 MISSED" in text
    assert "3 of 188" in text
    assert "FAILED: 11 of 15 tolerances kept\n   − 3 of 188 embeddings hold NaN or an infinity" in text
    assert "nan" not in text


def test_what_was_not_run_shows_no_limit_kept(report: CompatibilityReport) -> None:
    text = printed(verification_of(replace(report, student_pair_distance=0.0)))
    assert "NOT RUN\n   − untrained: the student's embeddings of different images do not differ" in text
    assert "kept" not in text


def test_what_was_not_measured_says_so(report: CompatibilityReport) -> None:
    text = printed(verification_of(replace(report, retrieval=None, teacher=None, census=None)))
    assert "not run: no ground truth" in text
    assert "to the teacher: not run, none of the images is in the index" in text
    assert "not run: no file" in text
    assert "note: no ground truth: mAP was not measured" in text


def test_nothing_measured_still_has_a_verdict() -> None:
    text = printed(Verification(Path("a.onnx"), MANIFEST, Judgement(Verdict.NOT_RUN, ("untrained: so",))))
    assert text.splitlines()[0] == "a.onnx"
    assert text.rstrip().endswith("NOT RUN\n   − untrained: so")


def test_names_are_not_read_as_markup(report: CompatibilityReport) -> None:
    text = printed(replace(verification_of(replace(report, source="[bold]set[/]")), path=Path("[red]a.onnx")))
    assert "[red]a.onnx" in text
    assert "[bold]set[/]" in text
