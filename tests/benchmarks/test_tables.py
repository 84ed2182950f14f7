"""A benchmark on a terminal of a given width."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from aml_edge.artifact import Precision
from aml_edge.benchmarks.kernel_agreement import KernelAgreement
from aml_edge.benchmarks.kernels import Kernels
from aml_edge.benchmarks.report import BenchmarkReport, RowReport
from aml_edge.benchmarks.tables import WIDE_COLUMNS, render_benchmark
from aml_edge.map_drop import Drop


def lines(report: BenchmarkReport, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False)
    console.print(render_benchmark(report, width))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal_and_no_number_is_cut(report: BenchmarkReport, width: int) -> None:
    printed = lines(report, width)
    assert max(len(line) for line in printed) <= width
    text = "\n".join(printed)
    for number in ("400.0", "600.0", "50.00 [49.50, 51.25]", "45.6 + 789.0", "1234.6, batch 32", "65.43", "NaN", "6.2"):
        assert number in text
    assert "…" not in text


def test_a_wide_terminal_has_all_columns(report: BenchmarkReport) -> None:
    assert any("spread" in line and "runs" in line for line in lines(report, WIDE_COLUMNS)[:8])
    assert not any("runs" in line for line in lines(report, WIDE_COLUMNS - 1)[:8])


def test_each_row_s_numbers_stand_beside_its_name(report: BenchmarkReport) -> None:
    printed = [line.split() for line in lines(report, 120)]
    onnx = ["onnx", "fp32,", "onnxruntime"]
    assert [*onnx, "2", "100.0", "110.0", "150.0", "3", "%", "60", "2.50", "[2.40,", "2.60]"] in printed
    assert [*onnx, "12.3", "1234", "56.8", "45.6", "10.0,", "batch", "1"] in printed
    assert [*onnx, "65.43", "50.00", "NaN", "onnxruntime", "cpu"] in printed
    assert ["coreml", "fp16,", "coreml", *["–"] * 6, "not", "run", "here"] in printed


def test_title_cost_notes_and_reasons_are_there(report: BenchmarkReport) -> None:
    printed = lines(report, 120)
    assert printed[:3] == [
        "efficientnet_b3-untrained (01234567), efficientnet_b3, 362×362 px squash",
        "13.84 M parameters, 3.18 GMACs, 6.36 GFLOPs at 362×362 px",
        "random weights: good for sizes and speeds only.",
    ]
    assert "   asymmetric mAP, 70 queries of roxford5k" in printed
    place = printed.index("   a.onnx: verified")
    assert printed[place - 1 : place + 3] == [
        "",
        "   a.onnx: verified",
        "   a.mlpackage: changed since it was verified",
        "   coreml fp16, coreml: not run here: Core ML runs on Macs only.",
    ]
    assert "latency: one image." in printed
    assert "GMACs: Multiply-accumulates of conv." in printed


@pytest.fixture
def integers(report: BenchmarkReport, file_row: Callable[..., RowReport]) -> BenchmarkReport:
    """An int8 file whose fast kernels differ from the precise ones and are no faster than fp32."""
    fp32 = file_row("s-fp32.onnx", Precision.FP32, "onnxruntime", 20_000_000, 11.0, 0.3373)
    fast = file_row("s-int8.onnx", Precision.INT8, "onnxruntime", 5_000_000, 11.2, 0.3, (0.98, 0.95, 1.02))
    fast = replace(fast, label="onnx int8, onnxruntime fast")
    exact = replace(
        file_row("s-int8.onnx", Precision.INT8, "onnxruntime-precise", 5_000_000, 30.0, 0.3303),
        agreement=KernelAgreement(fast.label, 70, 0.95, 0.99),
        map_drop=Drop(0.7, 0.2, 1.1, 70),
        kernels=Kernels.PRECISE,
    )
    return replace(report, groups=(replace(report.groups[0], rows=(fp32, fast, exact)),))


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_the_front_and_what_is_said_of_it_fit_the_terminal(integers: BenchmarkReport, width: int) -> None:
    printed = lines(integers, width)
    assert max(len(line) for line in printed) <= width
    assert "…" not in "\n".join(printed)
    place = next(number for number, line in enumerate(printed) if line.startswith("Pareto front of size, time"))
    header = ["file", "MB", "p50", "ms", "mAP", "mAP", "lost", "×", "fp32", "front"]
    assert printed[place + 1].split() == header
    cells = ["5.0", "11.2", "33.03", "0.70", "[0.20,", "1.10]", "0.98", "[0.95,", "1.02]", "yes"]
    brief = ["5.0", "11.2", "33.03", "0.70", "0.98", "yes"]
    wanted = brief if width < WIDE_COLUMNS else cells
    assert any(line.split()[-len(wanted) :] == wanted for line in printed[place:])
    text = " ".join(" ".join(printed).split())
    assert "onnx int8, onnxruntime-precise: cosine at least 0.95000, median 0.99000, to onnx int8, onnxruntime" in text
    assert "onnx int8, onnxruntime fast: not measurably faster than fp32 there (0.98 [0.95, 1.02] times as" in text
    assert "s-int8.onnx: on this processor onnxruntime's fast integer kernels give other embeddings than the" in text


def test_what_is_not_verified_is_yellow(report: BenchmarkReport) -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system="standard", highlight=False)
    console.print(render_benchmark(report, 120))
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    assert "\x1b[33ma.mlpackage: changed since it was verified" in printed
    assert "   a.onnx: verified" in printed


def test_names_with_brackets_are_written_as_they_are(report: BenchmarkReport) -> None:
    group = report.groups[0]
    row = replace(group.rows[-1], label="[red]a[/].onnx", not_run="[bold]no[/bold]")
    odd = replace(report, groups=(replace(group, student="[/] of mine", rows=(row,), notes=("[/]",)),))
    text = "\n".join(lines(odd, 120))
    assert "[red]a[/].onnx: not run here: [bold]no[/bold]" in text
    assert text.startswith("[/] of mine (01234567)")


def test_a_long_name_is_folded_and_never_lost(report: BenchmarkReport) -> None:
    group = report.groups[0]
    name = "onnx fp32, onnxruntime, " + "a-very-long-name-" * 4 + ".onnx"
    long = replace(group, rows=(group.rows[0], replace(group.rows[2], label=name)))
    printed = lines(replace(report, groups=(long,)), 80)
    assert max(len(line) for line in printed) <= 80
    assert any("2.50 [2.40, 2.60]" in line for line in printed)


def test_no_group_leaves_the_circumstances(report: BenchmarkReport) -> None:
    printed = lines(replace(report, groups=()), 120)
    assert printed[0].startswith("Some CPU @ 2.70GHz, 2 cores")


def test_warnings_come_before_the_machine(report: BenchmarkReport) -> None:
    busy = replace(report, groups=(), load=replace(report.load, other_work=0.5))
    assert lines(busy, 120)[0].startswith("others took 50 % of this machine meanwhile")
