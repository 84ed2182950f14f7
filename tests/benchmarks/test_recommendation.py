"""Which files gain no time, which serve better, and in which words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from aml_edge.artifact import Precision
from aml_edge.benchmarks.front_tables import recommendations
from aml_edge.benchmarks.pareto import find_fronts
from aml_edge.benchmarks.recommendation import beats, find_no_gains
from aml_edge.benchmarks.report import BenchmarkReport, GroupReport, RowReport
from aml_edge.benchmarks.speedup import SpeedUp
from aml_edge.map_drop import Drop

FileRow = Callable[..., RowReport]
GroupOf = Callable[..., GroupReport]
MB = 1_000_000


@pytest.fixture
def group_of(report: BenchmarkReport) -> GroupOf:
    """Returns a function that makes a group of rows."""
    return lambda *rows: replace(report.groups[0], rows=rows)


@pytest.fixture
def fp32(file_row: FileRow) -> RowReport:
    return file_row("s-fp32.onnx", Precision.FP32, "onnxruntime", 20 * MB, 11.0, 0.3373)


def lost(points: float, low: float, high: float) -> Drop:
    return Drop(points, low, high, 70)


def test_a_file_that_is_faster_is_not_spoken_of(file_row: FileRow, fp32: RowReport, group_of: GroupOf) -> None:
    faster = file_row("s-int8.onnx", Precision.INT8, "onnxruntime", 5 * MB, 7.0, 0.33, (1.6, 1.01, 1.7))
    assert recommendations([group_of(fp32, faster)]) == ()
    alone = file_row("s-int8.onnx", Precision.INT8, "onnxruntime", 5 * MB, 7.0, 0.33)
    assert recommendations([group_of(alone)]) == recommendations([]) == ()


def test_fp32_with_the_better_map_is_named_beside_the_size(
    file_row: FileRow, fp32: RowReport, group_of: GroupOf
) -> None:
    int8 = file_row(
        *("s-int8.onnx", Precision.INT8, "onnxruntime", 5 * MB, 11.2, 0.3303, (0.98, 0.95, 1.02)),
        map_drop=lost(0.7, 0.2, 1.1),
    )
    (said,) = recommendations([group_of(fp32, int8)])
    assert said == (
        "onnx int8, onnxruntime: not measurably faster than fp32 there (0.98 [0.95, 1.02] times as fast, 1 thread); "
        "s-fp32.onnx has the better mAP (33.73, not 33.03: 0.70 [0.20, 1.10] lost), this file 0.25 of the size"
    )
    slower = replace(int8, by_threads=(replace(int8.by_threads[0], over_fp32=SpeedUp(0.98, 0.95, 0.99, 20)),))
    (said,) = recommendations([group_of(fp32, slower)])
    assert said.startswith(
        "onnx int8, onnxruntime: slower than fp32 there (0.98 [0.95, 0.99] times as fast, 1 thread); "
    )


@pytest.mark.parametrize(
    ("drop", "worth"),
    [
        (lost(0.7, -0.2, 1.1), "an mAP that 70 queries cannot tell from its (33.03: 0.70 [-0.20, 1.10] lost)"),
        (lost(-0.7, -1.1, -0.2), "a better mAP (33.03: -0.70 [-1.10, -0.20] lost)"),
    ],
)
def test_an_map_that_is_no_worse_speaks_for_the_smaller_file(
    file_row: FileRow, fp32: RowReport, group_of: GroupOf, drop: Drop, worth: str
) -> None:
    int8 = file_row(
        *("s-int8.onnx", Precision.INT8, "onnxruntime", 5 * MB, 11.2, 0.3303, (0.98, 0.95, 1.02)), map_drop=drop
    )
    (said,) = recommendations([group_of(fp32, int8)])
    assert said.endswith(f"; 0.25 of the size of s-fp32.onnx, and {worth}")


def test_without_map_only_the_size_speaks_for_it(file_row: FileRow, fp32: RowReport, group_of: GroupOf) -> None:
    int8 = file_row("s-int8.onnx", Precision.INT8, "onnxruntime", 5 * MB, 11.2, None, (0.98, 0.95, 1.02))
    (said,) = recommendations([group_of(replace(fp32, retrieval=None), int8)])
    assert said.endswith("; only its size speaks for it, 0.25 of the size of s-fp32.onnx")


def test_a_file_that_beats_it_is_named(file_row: FileRow, fp32: RowReport, group_of: GroupOf) -> None:
    fp16 = file_row("s-fp16.onnx", Precision.FP16, "onnxruntime", 10 * MB, 12.0, 0.3373, (0.9, 0.85, 0.95))
    int8 = file_row("s-int8.tflite", Precision.INT8, "litert", 5 * MB, 5.7, 0.3375)
    assert recommendations([group_of(fp32, fp16, int8)]) == (
        "onnx fp16, onnxruntime: slower than fp32 there (0.90 [0.85, 0.95] times as fast, 1 thread); s-int8.tflite in "
        "litert is the better file (5.0 MB, 5.70 ms, mAP 33.75; this one 10.0 MB, 12.0 ms, mAP 33.73)",
        "the fastest of the front: s-int8.tflite in litert (5.0 MB, 5.70 ms, mAP 33.75)",
    )


def test_the_fastest_is_named_once(file_row: FileRow, fp32: RowReport, group_of: GroupOf) -> None:
    slow = [
        file_row(f"s-{name}.onnx", name, "onnxruntime", 10 * MB, 12.0, 0.3373, (0.9, 0.85, 0.95))
        for name in (Precision.FP16, Precision.INT8_DYNAMIC)
    ]
    int8 = file_row("s-int8.tflite", Precision.INT8, "litert", 5 * MB, 5.7, 0.3375)
    said = recommendations([group_of(fp32, *slow, int8)])
    assert len(said) == 3
    assert [sentence.startswith("the fastest of the front: ") for sentence in said] == [False, False, True]


@pytest.mark.parametrize(
    ("size", "ms", "medium", "expected"),
    [
        (100, 10.0, 0.330, False),
        (105, 10.5, 0.3311, True),  # alike in size and time, more than 0.1 points better
        (105, 10.5, 0.3309, False),
        (89, 10.5, 0.3291, True),
        (105, 8.9, 0.3291, True),
        (91, 9.1, 0.3301, False),
        (106, 1.0, 0.4, False),
        (1, 10.6, 0.4, False),
        (1, 1.0, 0.3289, False),
    ],
)
def test_a_file_beats_another_where_it_is_alike_and_plainly_better(
    file_row: FileRow, group_of: GroupOf, size: int, ms: float, medium: float, expected: bool
) -> None:
    rows = (
        file_row("a.onnx", Precision.INT8, "onnxruntime", size, ms, medium),
        file_row("b.onnx", Precision.FP16, "onnxruntime", 100, 10.0, 0.330),
    )
    (front,) = find_fronts([group_of(*rows)])
    assert beats(*front.candidates, by_map=True) is expected


def test_without_map_a_file_beats_another_by_size_and_time(file_row: FileRow, group_of: GroupOf) -> None:
    rows = (
        file_row("a.onnx", Precision.INT8, "onnxruntime", 50, 10.0),
        file_row("b.onnx", Precision.FP16, "onnxruntime", 100, 10.0),
    )
    (front,) = find_fronts([group_of(*rows)])
    smaller, larger = front.candidates
    assert beats(smaller, larger, by_map=False) and not beats(larger, smaller, by_map=False)


def test_the_fastest_is_named_where_it_is_plainly_faster(file_row: FileRow, fp32: RowReport, group_of: GroupOf) -> None:
    fp16 = file_row("s-fp16.onnx", Precision.FP16, "onnxruntime", 10 * MB, 12.0, 0.3373, (0.9, 0.85, 0.95))
    int8 = file_row("s-int8.tflite", Precision.INT8, "litert", 5 * MB, 9.8, 0.3300)
    assert recommendations([group_of(fp32, fp16, int8)])[1:] == (
        "the fastest of the front: s-int8.tflite in litert (5.0 MB, 9.80 ms, mAP 33.00)",
    )  # < 0.9 · 11
    near = file_row("s-int8.tflite", Precision.INT8, "litert", 5 * MB, 10.0, 0.3300)
    (said,) = recommendations([group_of(fp32, fp16, near)])
    assert "fastest" not in said


def test_a_file_that_failed_is_never_recommended(file_row: FileRow, fp32: RowReport, group_of: GroupOf) -> None:
    fp16 = file_row("s-fp16.onnx", Precision.FP16, "onnxruntime", 10 * MB, 12.0, 0.3373, (0.9, 0.85, 0.95))
    failed = file_row("s-int8.tflite", Precision.INT8, "litert", 5 * MB, 5.7, 0.3375, verdict="failed")
    (found,) = find_no_gains([group_of(fp32, fp16, failed)])
    assert (found.better, found.fastest) == (None, None)
    (found,) = find_no_gains([group_of(fp32, fp16, replace(failed, verdict="not run"))])
    assert found.better is not None and found.better.row.path == failed.path


def test_fp32_of_another_runtime_or_student_is_not_what_it_is_compared_with(
    file_row: FileRow, fp32: RowReport, group_of: GroupOf
) -> None:
    int8 = file_row("s-int8.onnx", Precision.INT8, "onnxruntime", 5 * MB, 11.2, 0.33, (0.98, 0.95, 1.02))
    other = replace(fp32, runtime="another")
    assert find_no_gains([group_of(other, int8)]) == ()
    assert find_no_gains([group_of(fp32), group_of(int8)]) == ()


def test_a_runtime_that_chooses_its_threads_names_none(file_row: FileRow, fp32: RowReport, group_of: GroupOf) -> None:
    int8 = file_row("s-int8.onnx", Precision.INT8, "onnxruntime", 5 * MB, 11.2, 0.33, (0.98, 0.95, 1.02))
    chosen = replace(int8, by_threads=(replace(int8.by_threads[0], threads=None),))
    two = replace(int8, by_threads=(replace(int8.by_threads[0], threads=2),))
    assert "(0.98 [0.95, 1.02] times as fast); " in recommendations([group_of(fp32, chosen)])[0]
    assert "(0.98 [0.95, 1.02] times as fast, 2 threads); " in recommendations([group_of(fp32, two)])[0]
