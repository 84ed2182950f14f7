"""The picture of an analysis: always the same bytes, every block named, and refused before any work."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aml_edge.errors import MissingExtraError, UsageError
from aml_edge.exporters.quantization.analysis import QuantizationAnalysis
from aml_edge.exporters.quantization.plots import BLOCK, FLOAT_BLOCK, LINE, require_plottable, write_plot
from aml_edge.exporters.quantization.sensitivity import EmbeddingError

pytest.importorskip("matplotlib")


def test_the_same_analysis_gives_the_same_bytes(small_analysis: QuantizationAnalysis, tmp_path: Path) -> None:
    for suffix in (".svg", ".png"):
        written = [tmp_path / f"{number}{suffix}" for number in range(2)]
        for path in written:
            write_plot(small_analysis, "mine, int8", path)
        assert written[0].read_bytes() == written[1].read_bytes()


def test_it_names_blocks_units_and_the_steepest(small_analysis: QuantizationAnalysis, tmp_path: Path) -> None:
    """Text is drawn as outlines, with what it says in a comment."""
    write_plot(small_analysis, "mine, int8", tmp_path / "plot.svg")
    texts = re.findall(r"<!-- (.*?) -->", (tmp_path / "plot.svg").read_text())
    for text in (
        "mine, int8",
        "conv_stem",
        "blocks.0.0",
        "head",
        "Each block alone in integers, 80 images",
        "mean centred cosine lost, %",
        "in floating point by default",
        "Drift along the network, as exported, 16 images",
        "relative error of an activation, %",
    ):
        assert text in texts
    (steepest,) = (text for text in texts if text.startswith("● steepest: "))
    assert steepest == "● steepest: blocks.0.0.conv_pw, conv_stem, embedding"


def test_bars_and_line_are_in_their_colours(small_analysis: QuantizationAnalysis, tmp_path: Path) -> None:
    """And the bar of twice the error takes twice the area, but for its edge."""
    write_plot(small_analysis, "mine, int8", tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    colours = (tuple(bytes.fromhex(colour[1:])) for colour in (BLOCK, FLOAT_BLOCK, LINE))
    block, float_block, line = (int((pixels == colour).all(axis=2).sum()) for colour in colours)
    assert line > 500
    assert block == pytest.approx(2 * float_block, rel=0.05)


def test_a_block_that_is_not_finite_has_no_bar(small_analysis: QuantizationAnalysis, tmp_path: Path) -> None:
    nan = float("nan")
    broken = replace(small_analysis.blocks[0], error=EmbeddingError(nan, nan, nan, nan))
    write_plot(replace(small_analysis, blocks=(broken, *small_analysis.blocks[1:])), "mine", tmp_path / "plot.svg")
    assert "<!-- NaN -->" in (tmp_path / "plot.svg").read_text()


def test_another_suffix_is_refused() -> None:
    with pytest.raises(UsageError) as refused:
        require_plottable(Path("plot.pdf"))
    assert str(refused.value) == "`plot` is plot.pdf; a picture is written as .svg or .png: name it so."


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError) as refused:
        require_plottable(Path("plot.svg"))
    assert str(refused.value) == (
        "the picture of an analysis needs matplotlib, which is not installed: pip install 'aml-edge[plot]'"
    )
