"""A picture of an analysis: each block's error as a bar, and the drift along the network as a line."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from aml_edge.errors import MissingExtraError, UsageError
from aml_edge.exporters.quantization.analysis import QuantizationAnalysis
from aml_edge.exporters.quantization.drift import steepest
from aml_edge.files import written_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".svg", ".png")
LABELLED = 3
"""Steepest rises that have their name in the picture."""
BLOCK, FLOAT_BLOCK, LINE, BAND = "#1b6ca8", "#a9b7c0", "#b03a2e", "#f2f4f5"
"""Of a block, of one that stays in floating point by default, of the drift, and behind every other block."""
PIXELS_PER_INCH = 150
HEIGHT_IN, LEAST_WIDTH_IN, WIDTH_OF_A_BLOCK_IN = 7.5, 8.0, 0.5


def require_plottable(path: Path) -> None:
    """Raises, before any work, where no picture can be written to a path.

    Raises:
        UsageError: its name ends in something else than `SUFFIXES`.
        MissingExtraError: matplotlib is not installed.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"`plot` is {path}; a picture is written as {' or '.join(SUFFIXES)}: name it so.")
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise MissingExtraError("matplotlib", "plot", "the picture of an analysis") from None


def write_plot(analysis: QuantizationAnalysis, title: str, path: Path) -> None:
    """Writes the picture; the same analysis gives the same bytes.

    Args:
        analysis: what is shown.
        title: of the picture.
        path: ends in one of `SUFFIXES`.

    Raises:
        UsageError, MissingExtraError: as of `require_plottable`.
    """
    require_plottable(path)
    import matplotlib

    metadata = {"Date": None} if path.suffix.lower() == ".svg" else {}
    with matplotlib.rc_context({"svg.hashsalt": "aml-edge"}), written_atomically(path) as partial:
        _figure(analysis, title).savefig(partial, dpi=PIXELS_PER_INCH, metadata=metadata)


def _figure(analysis: QuantizationAnalysis, title: str) -> Figure:
    from matplotlib.figure import Figure

    names = [part.name for part in analysis.blocks]
    width = max(LEAST_WIDTH_IN, WIDTH_OF_A_BLOCK_IN * len(names))
    figure = Figure(figsize=(width, HEIGHT_IN), layout="constrained")
    figure.suptitle(title)
    blocks, drift = figure.subplots(2, 1, sharex=True)
    _draw_blocks(blocks, analysis)
    _draw_drift(drift, analysis)
    for axes in (blocks, drift):
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(bottom=0)
        for place in range(1, len(names), 2):
            axes.axvspan(place - 0.5, place + 0.5, color=BAND, zorder=0)
    drift.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor")
    drift.set_xlim(-0.5, len(names) - 0.5)
    return figure


def _draw_blocks(axes: Axes, analysis: QuantizationAnalysis) -> None:
    """Draws a bar for each block; one whose embeddings are not finite has none, and says so."""
    from matplotlib.patches import Patch

    for place, part in enumerate(analysis.blocks):
        if part.error.lost < float("inf"):
            axes.bar(place, 100 * part.error.lost, color=FLOAT_BLOCK if part.float_by_default else BLOCK)
        else:
            axes.text(place, 0, "NaN", ha="center", va="bottom")
    axes.set_title(f"Each block alone in integers, {analysis.images} images", loc="left", fontsize="medium")
    axes.set_ylabel("mean centred cosine lost, %")
    if any(part.float_by_default for part in analysis.blocks):
        axes.legend(handles=[Patch(color=FLOAT_BLOCK, label="in floating point by default")], frameon=False)


def _draw_drift(axes: Axes, analysis: QuantizationAnalysis) -> None:
    """Draws the relative error of each site, a block's sites within the width of its bar, and names the steepest."""
    drift, worst = analysis.drift, steepest(analysis.drift, LABELLED)
    numbers = {part.name: place for place, part in enumerate(analysis.blocks)}
    places: list[float] = []
    for block, sites in groupby(drift, key=lambda one: one.block):
        count = len(list(sites))
        places += [numbers[block] - 0.5 + (place + 0.5) / count for place in range(count)]
    percent = [100 * one.relative_error for one in drift]
    axes.plot(places, percent, color=LINE, marker=".", markersize=4, linewidth=1.2)
    for one in worst:
        axes.plot(places[drift.index(one)], 100 * one.relative_error, color=LINE, marker="o", markersize=7)
    axes.set_title(
        f"Drift along the network, {analysis.exported.name}, {analysis.drift_images} images",
        loc="left",
        fontsize="medium",
    )
    named = ", ".join(one.name for one in worst)
    axes.set_title(f"● steepest: {named}", loc="right", fontsize="small", color=LINE)
    axes.set_ylabel("relative error of an activation, %")
