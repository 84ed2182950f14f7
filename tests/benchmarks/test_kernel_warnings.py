"""What is said where a file's kernels differ."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from aml_edge.artifact import Precision
from aml_edge.benchmarks.kernel_agreement import KernelAgreement
from aml_edge.benchmarks.kernel_warnings import agreement_lines, differ, kernel_warnings
from aml_edge.benchmarks.kernels import Kernels
from aml_edge.benchmarks.report import BenchmarkReport, RowReport

FileRow = Callable[..., RowReport]


@pytest.fixture
def reported(report: BenchmarkReport) -> Callable[..., BenchmarkReport]:
    """Returns a function that makes a report of rows on a processor with or without VNNI."""

    def make(*rows: RowReport, vnni: bool | None = False) -> BenchmarkReport:
        group = replace(report.groups[0], rows=rows)
        return replace(report, groups=(group,), environment=replace(report.environment, vnni=vnni))

    return make


@pytest.fixture
def onnx(file_row: FileRow) -> tuple[RowReport, RowReport]:
    """A file whose fast kernels lose two points of mAP."""
    fast = file_row("a.onnx", Precision.INT8, "onnxruntime", 100, 7.0, 0.312, kernels=Kernels.FAST)
    exact = file_row("a.onnx", Precision.INT8, "onnxruntime-precise", 100, 9.0, 0.332, kernels=Kernels.PRECISE)
    return fast, replace(exact, agreement=KernelAgreement(fast.label, 70, 0.93456, 0.97))


@pytest.fixture
def litert(file_row: FileRow) -> tuple[RowReport, RowReport]:
    """A file of whose reference kernels a sample is known, which differs."""
    fast = file_row("a.tflite", Precision.INT8, "litert", 100, 7.0, 0.33, kernels=Kernels.FAST)
    exact = file_row("a.tflite", Precision.INT8, "litert-reference", 100, None, None, kernels=Kernels.REFERENCE)
    return fast, replace(exact, agreement=KernelAgreement(fast.label, 16, 0.98, 0.999))


def test_kernels_that_differ_are_warned_of_with_the_reason_where_it_is_known(
    reported: Callable[..., BenchmarkReport], onnx: tuple[RowReport, RowReport]
) -> None:
    said = (
        "a.onnx: on this processor onnxruntime's fast integer kernels give other embeddings than the precise ones "
        "(lowest cosine 0.935 over 70 queries; mAP 31.20, not 33.20): {why}judge the file by the row onnx int8, "
        "onnxruntime-precise"
    )
    assert kernel_warnings(reported(*onnx)) == (said.format(why="x86 without VNNI saturates; "),)
    assert kernel_warnings(reported(*onnx, vnni=True)) == (said.format(why=""),)
    assert kernel_warnings(reported(*onnx, vnni=None)) == (said.format(why=""),)


def test_a_sample_that_differs_says_how_to_measure_the_rest(
    reported: Callable[..., BenchmarkReport], litert: tuple[RowReport, RowReport]
) -> None:
    assert kernel_warnings(reported(*litert)) == (
        "a.tflite: on this processor litert's fast integer kernels give other embeddings than the reference ones "
        "(lowest cosine 0.980 over 16 queries): judge the file by the row tflite int8, litert-reference, whose mAP "
        "`--runtime litert --runtime litert-reference` measures",
    )


@pytest.mark.parametrize(
    ("smallest", "fast_map", "exact_map", "expected"),
    [
        (0.9901, 0.3300, 0.3309, False),
        (0.9899, 0.3300, 0.3300, True),
        (math.nan, 0.3300, 0.3300, True),
        (0.9999, 0.3300, 0.3311, True),
        (0.9999, 0.3311, 0.3300, True),
        (0.9999, math.nan, math.nan, False),
        (None, 0.3300, 0.3300, False),
        (None, 0.3300, 0.3400, True),
        (0.9999, 0.3300, None, False),
        (0.9, None, None, True),
    ],
)
def test_kernels_differ_by_cosine_or_by_map(
    file_row: FileRow, smallest: float | None, fast_map: float | None, exact_map: float | None, expected: bool
) -> None:
    fast = file_row("a.onnx", Precision.INT8, "onnxruntime", 100, 7.0, fast_map)
    exact = file_row("a.onnx", Precision.INT8, "onnxruntime-precise", 100, 9.0, exact_map)
    agreement = None if smallest is None else KernelAgreement(fast.label, 70, smallest, smallest)
    assert differ(replace(exact, agreement=agreement), fast) is expected


def test_what_agrees_or_stands_alone_is_not_warned_of(
    reported: Callable[..., BenchmarkReport], onnx: tuple[RowReport, RowReport], litert: tuple[RowReport, RowReport]
) -> None:
    fast, exact = onnx
    agreeing = replace(exact, retrieval=fast.retrieval, agreement=KernelAgreement(fast.label, 70, 0.9999, 1.0))
    assert kernel_warnings(reported(fast, agreeing)) == ()
    assert kernel_warnings(reported(exact)) == kernel_warnings(reported(litert[0], exact)) == ()
    assert kernel_warnings(reported()) == ()


def test_how_near_they_are_is_always_said(
    reported: Callable[..., BenchmarkReport], onnx: tuple[RowReport, RowReport], litert: tuple[RowReport, RowReport]
) -> None:
    (group,) = reported(*onnx, *litert).groups
    assert agreement_lines(group) == (
        "onnx int8, onnxruntime-precise: cosine at least 0.93456, median 0.97000, to onnx int8, onnxruntime over 70 "
        "queries",
        "tflite int8, litert-reference: cosine at least 0.98000, median 0.99900, to tflite int8, litert over 16 "
        "queries",
    )
