"""An analysis for people: names, figures and bars, and what is said where there is no figure."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console, RenderableType

from aml_edge.exporters.quantization.analysis import QuantizationAnalysis
from aml_edge.exporters.quantization.analysis_tables import (
    WIDEST_COLUMNS,
    bar,
    block_table,
    drift_table,
    render_analysis,
)
from aml_edge.exporters.quantization.sensitivity import EmbeddingError
from aml_edge.map_drop import Drop


def printed(renderable: RenderableType) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=WIDEST_COLUMNS, highlight=False).print(renderable)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_a_block_has_a_line_with_its_figures(small_analysis: QuantizationAnalysis) -> None:
    lines = printed(block_table(small_analysis))
    assert lines[0].split() == ("in integers cosine min mean pair error mean mAP medium lost hard lost".split())
    assert lines[1].split() == (
        "conv_stem * 0.99000 0.99900 0.0100 0.0010 +0.21 [-0.10, +0.53] no positive ██████".split()
    )
    assert lines[2].split() == (
        "blocks.0.0 0.98000 0.99800 0.0200 0.0020 -0.04 [-0.20, +0.10] +1.00 [+0.50, +1.50] ████████████".split()
    )
    assert [line.split("  ")[0] for line in lines[4:]] == ["as exported", "all blocks"]
    assert not any("█" in line for line in lines[4:])


def test_what_is_not_finite_says_so(small_analysis: QuantizationAnalysis) -> None:
    nan = float("nan")
    broken = replace(small_analysis.blocks[0], error=EmbeddingError(nan, nan, nan, nan), medium=Drop(nan, nan, nan, 20))
    (line,) = (
        line
        for line in printed(block_table(replace(small_analysis, blocks=(broken, *small_analysis.blocks[1:]))))
        if line.startswith("conv_stem")
    )
    assert line.split() == "conv_stem * NaN NaN NaN NaN NaN no positive ████████████".split()


def test_the_steepest_rises_are_listed_with_both_sides(small_analysis: QuantizationAnalysis) -> None:
    lines = printed(drift_table(small_analysis.drift[1:2]))
    assert lines[0].split() == "site rms fp32 rms integers relative error above its input".split()
    assert lines[1].split() == "blocks.0.0.conv_pw 2 2.1 12.50 % +7.50 %".split()


def test_the_whole_says_what_it_is_over(small_analysis: QuantizationAnalysis) -> None:
    lines = printed(render_analysis(small_analysis))
    assert all(len(line) <= WIDEST_COLUMNS for line in lines)
    text = "\n".join(lines)
    assert "of 80 images: centred cosine" in text
    assert "points of 100 [95 % over 60 queries], below zero a gain; simulated" in text
    assert "* stays in floating point as exported, unless told otherwise" in text
    assert "relative error of an activation over 16 images, fp32 beside integers" in text
    assert "of the embedding: 2.90 %" in text
    none_by_default = tuple(replace(part, float_by_default=False) for part in small_analysis.blocks)
    assert "stays in" not in "\n".join(printed(render_analysis(replace(small_analysis, blocks=none_by_default))))


@pytest.mark.parametrize(
    ("value", "largest", "shown"),
    [
        (1.0, 1.0, "████"),
        (0.5, 1.0, "██"),
        (0.40625, 1.0, "█▋"),  # 13 eighths
        (1e-9, 1.0, "▏"),
        (0.0, 1.0, ""),
        (-1.0, 1.0, ""),
        (float("inf"), 1.0, "████"),
        (float("nan"), 1.0, ""),
        (0.0, 0.0, ""),
    ],
)
def test_a_bar_is_as_long_as_its_value(value: float, largest: float, shown: str) -> None:
    assert bar(value, largest, columns=4) == shown
