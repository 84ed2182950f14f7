"""What each number and each missing number becomes in text."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from aml_edge.benchmarks import text_tables
from aml_edge.benchmarks.kernels import Kernels
from aml_edge.benchmarks.latency import QUICK_PLAN, LatencyPlan
from aml_edge.benchmarks.report import INCLUDES, BenchmarkReport, GroupReport
from aml_edge.benchmarks.speedup import SpeedUp
from aml_edge.map_drop import Drop
from aml_edge.preprocessing import Fit, Preprocessing


@pytest.fixture
def group(report: BenchmarkReport) -> GroupReport:
    return report.groups[0]


def test_latencies_are_a_line_for_each_number_of_threads(group: GroupReport) -> None:
    table = text_tables.latency_table(group)
    assert table.header == ("", "threads", "p50 ms", "p90", "p99", "spread", "runs", "× PyTorch eager")
    assert table.rows == (
        ("PyTorch eager", "1", "400.0", "440.0", "600.0", "3 %", "60", "–"),
        ("PyTorch eager", "2", "250.0", "275.0", "375.0", "3 %", "60", "–"),
        ("PyTorch eager, cuda", "–", "5.00", "5.50", "7.50", "3 %", "60", "50.00 [49.50, 51.25]"),
        ("onnx fp32, onnxruntime", "1", "200.0", "220.0", "300.0", "3 %", "60", "2.00 [1.90, 2.12]"),
        ("onnx fp32, onnxruntime", "2", "100.0", "110.0", "150.0", "3 %", "60", "2.50 [2.40, 2.60]"),
        ("coreml fp16, coreml", "–", "–", "–", "–", "–", "–", "not run here"),
    )


def test_a_brief_table_leaves_spread_and_runs_out(group: GroupReport) -> None:
    table = text_tables.latency_table(group, brief=True)
    assert table.header == ("", "threads", "p50 ms", "p90", "p99", "× PyTorch eager")
    assert table.rows[0] == ("PyTorch eager", "1", "400.0", "440.0", "600.0", "–")
    assert table.rows[-1] == ("coreml fp16, coreml", "–", "–", "–", "–", "not run here")


def test_files_are_a_line_each_with_their_start_and_rate(group: GroupReport) -> None:
    table = text_tables.file_table(group)
    assert table.header == ("", "file MB", "load ms", "first ms", "peak MB", "images/s")
    assert table.rows == (
        ("PyTorch eager", "55.5", "1234", "56.8", "45.6", "4.2, batch 8"),
        ("PyTorch eager, cuda", "55.5", "1234", "56.8", "45.6 + 789.0", "1234.6, batch 32"),
        ("onnx fp32, onnxruntime", "12.3", "1234", "56.8", "45.6", "10.0, batch 1"),  # 60 runs in 6 s, 2 threads
        ("coreml fp16, coreml", "6.2", "–", "–", "–", "–"),
    )


def test_memory_and_size_that_nobody_knows_are_dashes(group: GroupReport) -> None:
    row = group.rows[0]
    start = replace(row.by_threads[-1].fresh_start, peak_bytes=None)
    unknown = replace(row, size_bytes=None, by_threads=(replace(row.by_threads[-1], fresh_start=start),))
    (cells,) = text_tables.file_table(replace(group, rows=(unknown,))).rows
    assert cells == ("PyTorch eager", "–", "1234", "56.8", "–", "4.2, batch 8")


def test_map_is_in_points_for_rows_that_have_one_and_nan_is_said(group: GroupReport) -> None:
    table = text_tables.map_table(group)
    assert table is not None
    assert table.header == ("", "easy", "medium", "hard", "queries by")
    assert table.rows == (
        ("onnx fp32, onnxruntime", "65.43", "50.00", "NaN", "onnxruntime cpu"),
        ("coreml fp16, coreml", "NaN", "NaN", "NaN", "mil simulated"),
    )
    assert text_tables.map_line(group) == "asymmetric mAP, 70 queries of roxford5k"


def test_without_ground_truth_there_is_no_table_of_map(group: GroupReport) -> None:
    without = replace(group, rows=tuple(replace(row, retrieval=None) for row in group.rows))
    assert (text_tables.map_table(without), text_tables.map_line(without)) == (None, None)


def test_a_group_without_rows_has_empty_tables(group: GroupReport) -> None:
    empty = replace(group, rows=())
    assert text_tables.latency_table(empty).rows == text_tables.file_table(empty).rows == ()
    assert text_tables.map_table(empty) is None


def test_each_file_s_verdict_is_said_once(group: GroupReport) -> None:
    again = replace(group.rows[2], label="onnx fp32, another runtime")
    several = replace(group, rows=(*group.rows, again))
    assert text_tables.verdicts(several) == ("a.onnx: verified", "a.mlpackage: changed since it was verified")
    assert text_tables.verdicts(replace(group, rows=group.rows[:2])) == ()


def test_what_was_not_run_says_why(group: GroupReport) -> None:
    assert text_tables.refusals(group) == ("coreml fp16, coreml: not run here: Core ML runs on Macs only.",)


def test_what_is_not_timed_is_not_said_to_be_absent(group: GroupReport) -> None:
    reference = replace(group.rows[-1], label="tflite int8", runtime="litert-reference", not_run="it is slow")
    odd = replace(group, rows=(reference,))
    assert text_tables.latency_table(odd).rows == (("tflite int8", *["–"] * 6, "not timed"),)
    assert text_tables.refusals(odd) == ("tflite int8: not timed: it is slow",)
    several = replace(odd, rows=(reference, group.rows[-1], replace(reference, label="tflite int8-int16")))
    assert text_tables.refusals(several) == (
        "tflite int8; tflite int8-int16: not timed: it is slow",
        "coreml fp16, coreml: not run here: Core ML runs on Macs only.",
    )


def test_the_title_names_student_backbone_and_pixels(group: GroupReport) -> None:
    assert text_tables.title(group) == "efficientnet_b3-untrained (01234567), efficientnet_b3, 362×362 px squash"
    boxed = replace(group, preprocessing=Preprocessing(64, Fit.LETTERBOX))
    assert text_tables.title(boxed).endswith(", 64×64 px letterbox")


def test_the_cost_is_a_line_known_or_not(group: GroupReport) -> None:
    assert text_tables.cost_line(group) == "13.84 M parameters, 3.18 GMACs, 6.36 GFLOPs at 362×362 px"
    unknown = text_tables.cost_line(replace(group, cost=None))
    assert unknown == "parameters and GMACs: not known, since the student was not found"


def test_the_machine_is_told_with_what_it_does_not_say(report: BenchmarkReport) -> None:
    assert text_tables.machine_lines(report.environment) == (
        "Some CPU @ 2.70GHz, 2 cores, avx2, amx_bf16, governor not said by the system, 8.2 GB, no GPU",
        "Linux 6.1 x86_64, Python 3.12.1, torch 2.13.0, onnxruntime 1.23.0",
    )
    bound = replace(
        report.environment, cpu_quota=1.5, governor="performance", memory_bytes=None, accelerators=("H100", "H200")
    )
    assert text_tables.machine_lines(bound)[0] == (
        "Some CPU @ 2.70GHz, 2 cores, quota of 1.5 cores, avx2, amx_bf16, governor performance, H100, H200"
    )


def test_a_processor_without_vnni_says_so(report: BenchmarkReport) -> None:
    lines = [text_tables.machine_lines(replace(report.environment, vnni=vnni))[0] for vnni in (True, None, False)]
    assert ["no VNNI" in line for line in lines] == [False, False, True]
    assert ", avx2, amx_bf16, no VNNI, governor" in lines[2]


def test_the_plan_is_told() -> None:
    plan = LatencyPlan(12, 0.5, 20, 3, 0.25)
    assert text_tables.plan_line(plan, (1, 8)) == (
        "each row: warm-up of at least 12 calls and 0.5 s, then at least 60 calls and 5 s in 20 rounds; threads 1 and 8"
    )


def test_the_load_is_told_as_far_as_it_is_known(report: BenchmarkReport) -> None:
    assert text_tables.load_line(report.load) == (
        "2026-01-02T03:04:05+00:00, 61 s; other work 1 %, taken by the hypervisor 0 %, load average before 0.2"
    )
    unknown = replace(report.load, load_average=None, steal=None, other_work=None)
    assert text_tables.load_line(unknown).endswith(", 61 s; its load is not said by the system")


def test_a_quiet_machine_and_a_whole_plan_are_not_warned_of(report: BenchmarkReport) -> None:
    assert text_tables.warnings(report) == ()
    assert text_tables.warnings(replace(report, load=replace(report.load, steal=None, other_work=None))) == ()


def test_a_look_and_a_busy_machine_are_warned_of(report: BenchmarkReport) -> None:
    busy = replace(report, plan=QUICK_PLAN, load=replace(report.load, steal=0.03, other_work=0.04))
    assert text_tables.warnings(busy) == (
        "too few calls for a measurement: a look only",
        "others took 7 % of this machine meanwhile: repeat it on a quiet one before quoting a time",
    )


def test_what_is_counted_is_said_once(report: BenchmarkReport) -> None:
    twice = replace(report, groups=(report.groups[0], report.groups[0], replace(report.groups[0], cost=None)))
    assert text_tables.include_lines(twice) == (("latency", "one image."), ("GMACs", "Multiply-accumulates of conv."))


def test_what_an_map_is_is_said_only_where_there_is_one(report: BenchmarkReport) -> None:
    said = replace(report, includes={"latency": "one image.", "mAP": "of queries."})
    assert [name for name, _ in text_tables.include_lines(said)] == ["latency", "mAP", "GMACs"]
    unasked = replace(report.groups[0], rows=tuple(replace(row, retrieval=None) for row in report.groups[0].rows))
    assert [name for name, _ in text_tables.include_lines(replace(said, groups=(unasked,)))] == ["latency", "GMACs"]


def test_kernels_and_the_front_are_explained_only_where_there_are_any(report: BenchmarkReport) -> None:
    names = ("kernels", "mAP lost", "× fp32", "front")
    said = replace(report, includes=dict.fromkeys(names, "what it is."))
    assert [name for name, _ in text_tables.include_lines(said)] == ["GMACs"]
    (group,) = report.groups
    row = group.rows[2]
    timed = replace(row.by_threads[0], over_fp32=SpeedUp(1.0, 1.0, 1.0, 3))
    drop = Drop(0.0, 0.0, 0.0, 70)
    full = replace(row, kernels=Kernels.FAST, map_drop=drop, on_front=False, by_threads=(timed,))
    known = replace(said, groups=(replace(group, rows=(full,)),))
    assert [name for name, _ in text_tables.include_lines(known)] == [*names, "GMACs"]
    assert all(name in INCLUDES for name in names)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.00"),
        (0.126, "0.13"),
        (9.87, "9.87"),
        (10.0, "10.0"),
        (999.94, "999.9"),
        (1000, "1000"),
        (12345, "12345"),
    ],
)
def test_milliseconds_have_the_digits_that_mean_something(value: float, text: str) -> None:
    assert text_tables.milliseconds(value) == text


def test_small_numbers_are_written_out() -> None:
    assert text_tables.megabytes(None) == "–"
    assert text_tables.megabytes(1_250_000_000) == "1250.0"
    assert text_tables.percent(0.126) == "13 %"
    assert [text_tables.points(value) for value in (0.0, 1.0, math.nan, math.inf)] == ["0.00", "100.00", "NaN", "NaN"]
    assert text_tables.speed_up(None) == "–"
    assert text_tables.speed_up(SpeedUp(1.234, 1.1, 1.377, 3)) == "1.23 [1.10, 1.38]"
