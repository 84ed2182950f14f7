"""The Pareto front as a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from aml_edge.artifact import Precision
from aml_edge.benchmarks.front_tables import front_line, front_table, lost, shown_fronts
from aml_edge.benchmarks.pareto import find_fronts
from aml_edge.benchmarks.report import BenchmarkReport, GroupReport, RowReport
from aml_edge.map_drop import Drop
from aml_edge.preprocessing import Fit, Preprocessing

MB = 1_000_000
FileRow = Callable[..., RowReport]


@pytest.fixture
def group(report: BenchmarkReport, file_row: FileRow) -> GroupReport:
    """Two files on the front and one that is beaten."""
    int8 = file_row("a.onnx", Precision.INT8, "onnxruntime", 5 * MB, 7.04, 0.336, (1.57, 1.5, 1.6))
    rows = (
        file_row("a.onnx", Precision.FP32, "onnxruntime", 20 * MB, 11.0, 0.3373),
        replace(int8, map_drop=Drop(0.131, -0.2, 0.4, 70)),
        file_row("a.onnx", Precision.FP16, "onnxruntime", 21 * MB, 12.0, 0.3373, (0.9, 0.85, 0.95)),
    )
    return replace(report.groups[0], rows=rows)


def without_map(group: GroupReport) -> GroupReport:
    return replace(group, rows=tuple(replace(row, retrieval=None, map_drop=None) for row in group.rows))


def test_a_line_says_what_is_compared_and_whether_anything_beats_it(group: GroupReport) -> None:
    (front,) = shown_fronts([group])
    assert front_line(front) == "Pareto front of size, time (p50 with 1 thread) and asymmetric mAP (medium)"
    table = front_table(front)
    assert table.header == ("", "file MB", "p50 ms", "mAP", "mAP lost", "× fp32", "front")
    assert table.rows == (
        ("onnx fp32, onnxruntime", "20.0", "11.0", "33.73", "–", "–", "yes"),
        ("onnx int8, onnxruntime", "5.0", "7.04", "33.60", "0.13 [-0.20, 0.40]", "1.57 [1.50, 1.60]", "yes"),
        ("onnx fp16, onnxruntime", "21.0", "12.0", "33.73", "–", "0.90 [0.85, 0.95]", "–"),
    )


def test_a_file_that_failed_is_marked(group: GroupReport) -> None:
    fp32, int8, fp16 = group.rows
    (front,) = shown_fronts([replace(group, rows=(fp32, replace(int8, verdict="failed"), fp16))])
    assert [row[-1] for row in front_table(front).rows] == ["yes", "failed", "–"]


def test_a_brief_table_leaves_intervals_out(group: GroupReport) -> None:
    (front,) = shown_fronts([group])
    assert [row[4:6] for row in front_table(front, brief=True).rows] == [("–", "–"), ("0.13", "1.57"), ("–", "0.90")]


def test_without_map_it_is_said_that_it_does_not_count(group: GroupReport) -> None:
    (front,) = shown_fronts([without_map(group)])
    assert front_line(front) == (
        "Pareto front of size and time (p50 with 1 thread); mAP, which was not measured, does not count"
    )
    table = front_table(front)
    assert table.header == ("", "file MB", "p50 ms", "× fp32", "front")
    assert [row[-1] for row in table.rows] == ["–", "yes", "–"]


def test_files_of_several_students_are_named_with_them(group: GroupReport) -> None:
    other = replace(group, student="small", preprocessing=Preprocessing(224, Fit.SQUASH), rows=group.rows[:1])
    (front,) = shown_fronts([group, other])
    assert [row[0] for row in front_table(front).rows][2:] == [
        "efficientnet_b3-untrained 362 px, onnx fp16, onnxruntime",
        "small 224 px, onnx fp32, onnxruntime",
    ]
    assert len(shown_fronts([without_map(group), without_map(group)])) == 2


def test_one_file_alone_has_no_table(group: GroupReport) -> None:
    assert shown_fronts([replace(group, rows=group.rows[:1])]) == shown_fronts([]) == ()


def test_a_runtime_that_chooses_its_threads_names_none(group: GroupReport) -> None:
    row = group.rows[0]
    chosen = replace(row, by_threads=(replace(row.by_threads[0], threads=None),))
    (front,) = find_fronts([replace(group, rows=(chosen,))])
    assert "time (p50) and" in front_line(front)
    two = replace(row, by_threads=(replace(row.by_threads[0], threads=2),))
    (front,) = find_fronts([replace(group, rows=(chosen, two))])
    assert "time (p50 with 2 threads) and" in front_line(front)


@pytest.mark.parametrize(
    ("drop", "text"),
    [
        (Drop(-0.001, -0.004, 0.004, 9), "0.00 [0.00, 0.00]"),
        (Drop(-1.5, -2.25, -0.5, 9), "-1.50 [-2.25, -0.50]"),
    ],
)
def test_what_rounds_to_nothing_has_no_sign(group: GroupReport, drop: Drop, text: str) -> None:
    (front,) = find_fronts([replace(group, rows=(replace(group.rows[0], map_drop=drop),))])
    assert lost(front.candidates[0]) == text
