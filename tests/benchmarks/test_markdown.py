"""A benchmark as Markdown, read back."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from aml_edge.artifact import Precision
from aml_edge.benchmarks.kernel_agreement import KernelAgreement
from aml_edge.benchmarks.latency import QUICK_PLAN
from aml_edge.benchmarks.markdown import format_markdown
from aml_edge.benchmarks.report import BenchmarkReport, RowReport
from aml_edge.map_drop import Drop


def tables(markdown: str) -> list[list[list[str]]]:
    """Returns the cells of each table, the rule under its header left out, their escapes undone."""
    found = []
    for block in markdown.split("\n\n"):
        if block.startswith("| "):
            lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in block.splitlines()]
            cells = [[re.sub(r"\\(.)", r"\1", cell.strip()) for cell in line] for line in lines]
            assert cells[1] == ["---", *["---:"] * (len(cells[0]) - 1)]
            assert {len(line) for line in cells} == {len(cells[0])}
            found.append([cells[0], *cells[2:]])
    return found


def test_every_table_is_there_with_every_column(report: BenchmarkReport) -> None:
    latency, files, found = tables(format_markdown(report))
    assert latency[0] == ["", "threads", "p50 ms", "p90", "p99", "spread", "runs", "× PyTorch eager"]
    assert latency[3] == ["PyTorch eager, cuda", "–", "5.00", "5.50", "7.50", "3 %", "60", "50.00 [49.50, 51.25]"]
    assert latency[-1] == ["coreml fp16, coreml", *["–"] * 6, "not run here"]
    assert files[1] == ["PyTorch eager", "55.5", "1234", "56.8", "45.6", "4.2, batch 8"]
    assert found[1:] == [
        ["onnx fp32, onnxruntime", "65.43", "50.00", "NaN", "onnxruntime cpu"],
        ["coreml fp16, coreml", "NaN", "NaN", "NaN", "mil simulated"],
    ]


def test_the_rest_stands_around_them(report: BenchmarkReport) -> None:
    markdown = format_markdown(replace(report, plan=QUICK_PLAN))
    blocks = markdown.split("\n\n")
    assert blocks[0] == "### efficientnet\\_b3-untrained (01234567), efficientnet\\_b3, 362×362 px squash"
    assert blocks[1] == "13.84 M parameters, 3.18 GMACs, 6.36 GFLOPs at 362×362 px"
    assert blocks[2] == "random weights: good for sizes and speeds only."
    assert "coreml fp16, coreml: not run here: Core ML runs on Macs only." in blocks
    assert "a.onnx: verified" in blocks
    assert "a.mlpackage: changed since it was verified" in blocks
    assert blocks[-2] == "**too few calls for a measurement: a look only**"
    items = blocks[-1].splitlines()
    assert all(item.startswith("- ") for item in items)
    assert items[0].startswith("- Some CPU @ 2.70GHz, 2 cores, avx2, amx\\_bf16, ")
    assert items[-2:] == ["- latency: one image.", "- GMACs: Multiply-accumulates of conv."]
    assert markdown.endswith("\n") and not markdown.endswith("\n\n")


def test_the_front_and_what_is_said_of_it_are_there(
    report: BenchmarkReport, file_row: Callable[..., RowReport]
) -> None:
    fp32 = file_row("s_fp32.onnx", Precision.FP32, "onnxruntime", 20_000_000, 11.0, 0.3373)
    fast = file_row("s_int8.onnx", Precision.INT8, "onnxruntime", 5_000_000, 11.2, 0.3, (0.98, 0.95, 1.02))
    exact = replace(
        file_row("s_int8.onnx", Precision.INT8, "onnxruntime-precise", 5_000_000, 30.0, 0.3303),
        agreement=KernelAgreement(fast.label, 70, 0.95, 0.99),
        map_drop=Drop(0.7, 0.2, 1.1, 70),
    )
    group = replace(report.groups[0], rows=(fp32, fast, exact))
    markdown = format_markdown(replace(report, groups=(group,)))
    blocks = markdown.split("\n\n")
    place = blocks.index("Pareto front of size, time (p50 with 1 thread) and asymmetric mAP (medium)")
    front = tables(markdown)[3]
    assert front[0] == ["", "file MB", "p50 ms", "mAP", "mAP lost", "× fp32", "front"]
    assert front[1] == ["onnx fp32, onnxruntime", "20.0", "11.0", "33.73", "–", "–", "yes"]
    assert front[2][3:] == ["33.03", "0.70 [0.20, 1.10]", "0.98 [0.95, 1.02]", "yes"]
    assert blocks[place + 2].startswith("onnx int8, onnxruntime: not measurably faster than fp32 there ")
    assert "; s\\_fp32.onnx has the better mAP (33.73, not 33.03: " in blocks[place + 2]
    assert blocks[-2].startswith("**s\\_int8.onnx: on this processor onnxruntime's fast integer kernels give other ")
    said = "onnx int8, onnxruntime-precise: cosine at least 0.95000, median 0.99000, to onnx int8, onnxruntime over 70"
    assert any(block.startswith(said) for block in blocks)


def test_names_cannot_break_out_of_their_cell(report: BenchmarkReport) -> None:
    group = report.groups[0]
    name = "a|b_c*d<e>`f`\\|g\nh"
    odd = replace(group, rows=(replace(group.rows[2], label=name, retrieval=None),), notes=("<script>", "_"))
    latency, files = tables(format_markdown(replace(report, groups=(odd,))))
    assert latency[1][0] == files[1][0] == name.replace("\n", " ")


def test_without_map_there_is_no_such_table(report: BenchmarkReport) -> None:
    group = report.groups[0]
    without = replace(group, rows=tuple(replace(row, retrieval=None) for row in group.rows))
    markdown = format_markdown(replace(report, groups=(without,)))
    assert len(tables(markdown)) == 2
    assert "mAP" not in markdown


def test_no_group_leaves_the_circumstances(report: BenchmarkReport) -> None:
    markdown = format_markdown(replace(report, groups=()))
    assert markdown.startswith("- Some CPU @ 2.70GHz")
