"""The Pareto front, against brute force over random triples and by cases that are plain."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from aml_edge.artifact import Precision
from aml_edge.benchmarks.pareto import dominates, find_fronts, mark_fronts, not_dominated
from aml_edge.benchmarks.report import BenchmarkReport, GroupReport, RowReport
from aml_edge.benchmarks.retrieval import AsymmetricMap

FileRow = Callable[..., RowReport]
GroupOf = Callable[..., GroupReport]


@pytest.fixture
def group_of(report: BenchmarkReport) -> GroupOf:
    """Returns a function that makes a group of rows, PyTorch's first."""
    (group,) = report.groups
    return lambda *rows, **changes: replace(group, rows=(group.rows[0], *rows), **changes)


@pytest.mark.parametrize("measures", [2, 3])
@pytest.mark.parametrize("values", [3, 1000])
def test_the_front_is_that_of_a_slow_loop(measures: int, values: int) -> None:
    drawn = random.Random(measures * values)  # few values make ties
    for _ in range(200):
        points = [tuple(float(drawn.randrange(values)) for _ in range(measures)) for _ in range(drawn.randrange(12))]
        expected = []
        for one in points:
            beaten = False
            for other in points:
                no_worse, better = 0, 0
                for place in range(measures):
                    no_worse += other[place] <= one[place]
                    better += other[place] < one[place]
                beaten = beaten or (no_worse == measures and better > 0)
            expected.append(not beaten)
        assert list(not_dominated(points)) == expected


def test_equal_points_are_both_on_the_front_and_none_beats_itself() -> None:
    assert not_dominated([(1.0, 2.0, 3.0)] * 2) == (True, True)
    assert not_dominated([]) == ()
    assert not dominates((1.0, 2.0), (1.0, 2.0))
    assert dominates((1.0, 1.0), (1.0, 2.0))
    assert not dominates((0.0, 3.0), (1.0, 2.0))


def marks(groups: Sequence[GroupReport]) -> list[list[bool | None]]:
    return [[row.on_front for row in group.rows] for group in mark_fronts(groups)]


def test_size_time_and_map_count(file_row: FileRow, group_of: GroupOf) -> None:
    group = group_of(
        file_row("a.onnx", Precision.FP32, "onnxruntime", 400, 11.0, 0.34),
        file_row("b.onnx", Precision.FP16, "onnxruntime", 200, 12.0, 0.34),  # smaller
        file_row("c.onnx", Precision.INT8, "onnxruntime", 100, 7.0, 0.33),  # smallest and fastest
        file_row("d.tflite", Precision.FP32, "litert", 401, 11.0, 0.34),  # a byte more than the first
    )
    assert marks([group]) == [[None, True, True, True, False]]
    (front,) = find_fronts([group])
    assert front.by_map
    assert [one.row.label for one in front.members] == [row.label for row in group.rows[1:4]]
    assert [one.latency_ms for one in front.candidates] == [11.0, 12.0, 7.0, 11.0]


def test_without_map_only_size_and_time_count(file_row: FileRow, group_of: GroupOf) -> None:
    group = group_of(
        file_row("a.onnx", Precision.FP32, "onnxruntime", 400, 11.0),
        file_row("b.onnx", Precision.FP16, "onnxruntime", 200, 12.0),
        file_row("c.onnx", Precision.INT8, "onnxruntime", 100, 7.0),
    )
    assert marks([group]) == [[None, False, False, True]]
    assert [front.by_map for front in find_fronts([group])] == [False]


def test_rows_of_exact_kernels_lend_their_map_and_take_no_part(file_row: FileRow, group_of: GroupOf) -> None:
    fp32 = file_row("a.onnx", Precision.FP32, "onnxruntime", 400, 11.0, 0.34)
    fast = file_row("b.onnx", Precision.INT8, "onnxruntime", 100, 12.0, 0.20)
    exact = file_row("b.onnx", Precision.INT8, "onnxruntime-precise", 100, 30.0, 0.33)
    (front,) = find_fronts([group_of(fp32, fast, exact)])
    assert [(one.row, one.judged) for one in front.candidates] == [(fp32, fp32), (fast, exact)]
    assert [one.mean_average_precision for one in front.candidates] == [0.34, 0.33]
    other_file = replace(exact, path=Path("other.onnx"))
    (front,) = find_fronts([group_of(fp32, fast, other_file)])
    assert [one.mean_average_precision for one in front.candidates] == [0.34, 0.20]
    assert marks([group_of(fp32, fast, exact)]) == [[None, True, True, None]]


def test_reference_kernels_that_saw_a_sample_lend_nothing(file_row: FileRow, group_of: GroupOf) -> None:
    fast = file_row("a.tflite", Precision.INT8, "litert", 100, 6.0, 0.33)
    exact = file_row("a.tflite", Precision.INT8, "litert-reference", 100, None, None, not_run="slow")
    assert marks([group_of(fast, exact)]) == [[None, True, None]]
    (front,) = find_fronts([group_of(fast, exact)])
    assert [one.judged for one in front.candidates] == [fast]


def test_rows_without_a_time_take_no_part(file_row: FileRow, group_of: GroupOf) -> None:
    simulated = file_row("a.tflite", Precision.FP16, "mil", 1, None, 0.9, not_run="simulated")
    timed = file_row("b.onnx", Precision.FP32, "onnxruntime", 400, 11.0, 0.34)
    assert marks([group_of(simulated, timed)]) == [[None, None, True]]
    assert find_fronts([group_of(simulated)]) == find_fronts([]) == ()


def test_a_file_that_is_not_finite_is_on_no_front(file_row: FileRow, group_of: GroupOf) -> None:
    nan = math.nan
    broken = AsymmetricMap("onnxruntime cpu", "toy", 70, 3, nan, nan, nan)
    small = file_row("a.onnx", Precision.INT8, "onnxruntime", 1, 1.0, retrieval=broken)
    sound = file_row("b.onnx", Precision.FP32, "onnxruntime", 400, 11.0, 0.34)
    assert marks([group_of(small, sound)]) == [[None, False, True]]
    exact = replace(small, runtime="onnxruntime-precise")
    fast = replace(small, retrieval=sound.retrieval)
    assert marks([group_of(fast, exact, sound)]) == [[None, False, None, True]]


def test_a_file_that_failed_verification_is_on_no_front_and_keeps_none_off_it(
    file_row: FileRow, group_of: GroupOf
) -> None:
    small = file_row("a.onnx", Precision.INT8, "onnxruntime", 1, 1.0, 0.35, verdict="failed")
    large = file_row("b.onnx", Precision.FP32, "onnxruntime", 400, 11.0, 0.34)
    assert marks([group_of(small, large)]) == [[None, False, True]]
    assert marks([group_of(replace(small, verdict="not run"), large)]) == [[None, True, False]]


def test_an_map_of_no_positive_does_not_count(file_row: FileRow, group_of: GroupOf) -> None:
    group = group_of(
        file_row("a.onnx", Precision.FP32, "onnxruntime", 400, 11.0, math.nan),
        file_row("b.onnx", Precision.FP16, "onnxruntime", 200, 10.0, math.nan),
    )
    assert marks([group]) == [[None, False, True]]


def test_students_are_compared_by_their_map_and_not_without(file_row: FileRow, group_of: GroupOf) -> None:
    large = group_of(file_row("a.onnx", Precision.FP32, "onnxruntime", 400, 11.0, 0.30), student="large")
    small = group_of(file_row("b.onnx", Precision.FP32, "onnxruntime", 200, 5.0, 0.31), student="small")
    assert marks([large, small]) == [[None, False], [None, True]]
    assert len(find_fronts([large, small])) == 1
    unasked = [
        replace(group, rows=tuple(replace(row, retrieval=None) for row in group.rows)) for group in (large, small)
    ]
    assert marks(unasked) == [[None, True], [None, True]]
    assert len(find_fronts(unasked)) == 2


def test_a_row_with_several_numbers_of_threads_counts_with_the_fewest(file_row: FileRow, group_of: GroupOf) -> None:
    slow_alone = file_row("a.onnx", Precision.FP32, "onnxruntime", 100, 20.0)
    quick = file_row("b.onnx", Precision.FP16, "onnxruntime", 100, 2.0).by_threads
    both = replace(slow_alone, by_threads=(*slow_alone.by_threads, *quick))
    (front,) = find_fronts([group_of(both)])
    assert [one.latency_ms for one in front.candidates] == [20.0]
