"""An analysis of a quantization for people: each block beside what it costs, and where activations drift."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from aml_edge.exporters.quantization.analysis import QuantizationAnalysis, QuantizedPart
from aml_edge.exporters.quantization.drift import SiteDrift, steepest
from aml_edge.map_drop import Drop

WIDEST_COLUMNS = 118
"""What the widest table takes."""
BAR_COLUMNS = 12
STEEPEST = 8
EIGHTHS = " ▏▎▍▌▋▊▉"


def render_analysis(analysis: QuantizationAnalysis) -> RenderableType:
    """Returns what a person reads of an analysis, in at most `WIDEST_COLUMNS`."""
    return Group(
        Text("Each block alone in integers", "bold cyan"),
        block_table(analysis),
        *(Text(line, "dim") for line in _notes(analysis)),
        Text(),
        Text("Steepest rises of the drift along the network, as exported", "bold cyan"),
        drift_table(steepest(analysis.drift, STEEPEST)),
        Text(f"relative error of an activation over {analysis.drift_images} images, fp32 beside integers", "dim"),
        Text(f"of the embedding: {_percent(analysis.drift[-1].relative_error)}", "dim"),
    )


def _notes(analysis: QuantizationAnalysis) -> Iterator[str]:
    yield f"of {analysis.images} images: centred cosine, error of the similarity of two; bar: mean cosine lost"
    yield f"mAP lost: asymmetric, points of 100 [95 % over {analysis.queries} queries], below zero a gain; simulated"
    if any(part.float_by_default for part in analysis.blocks):
        yield "* stays in floating point as exported, unless told otherwise"


def block_table(analysis: QuantizationAnalysis) -> Table:
    """Returns a line for each block in run order, then one for what a file has in integers, and one for all blocks."""
    table = _table("in integers")
    for heading in ("cosine min", "mean", "pair error", "mean", "mAP medium lost", "hard lost"):
        table.add_column(heading, justify="right")
    table.add_column("", justify="left", no_wrap=True)
    largest = max((part.error.lost for part in analysis.blocks if part.error.lost < float("inf")), default=0.0)
    for part in analysis.blocks:
        last = part is analysis.blocks[-1]
        table.add_row(*_cells(part), Text(bar(part.error.lost, largest), "cyan"), end_section=last)
    for part in (analysis.exported, analysis.everything):
        table.add_row(*_cells(part), "")
    return table


def drift_table(drifts: Sequence[SiteDrift]) -> Table:
    """Returns a line for each site."""
    table = _table("site")
    for heading in ("rms fp32", "rms integers", "relative error", "above its input"):
        table.add_column(heading, justify="right")
    for one in drifts:
        rms = (f"{value:.4g}" for value in (one.float_rms, one.integer_rms))
        table.add_row(one.name, *rms, _percent(one.relative_error), _percent(one.rise, "+"))
    return table


def bar(value: float, largest: float, columns: int = BAR_COLUMNS) -> str:
    """Returns a bar in eighths of a column, full at the largest value and beyond, at least one eighth above 0."""
    if not value > 0 or not largest > 0:
        return ""
    eighths = max(1, round(8 * columns * min(1.0, value / largest)))
    whole, rest = divmod(eighths, 8)
    return "█" * whole + EIGHTHS[rest].strip()


def _cells(part: QuantizedPart) -> tuple[str, ...]:
    error = part.error
    cosines = (error.smallest_centred_cosine, error.mean_centred_cosine)
    pairs = (error.largest_pair_error, error.mean_pair_error)
    name = f"{part.name} *" if part.float_by_default else part.name
    return (
        name,
        *(_number(value, 5) for value in cosines),
        *(_number(value, 4) for value in pairs),
        *(_drop(drop) for drop in (part.medium, part.hard)),
    )


def _number(value: float, digits: int) -> str:
    return "NaN" if value != value else f"{value:.{digits}f}"


def _drop(drop: Drop | None) -> str:
    if drop is None:
        return "no positive"
    return "NaN" if drop.points != drop.points else f"{drop.points:+.2f} [{drop.low:+.2f}, {drop.high:+.2f}]"


def _percent(value: float, sign: str = "") -> str:
    return f"{100 * value:{sign}.2f} %"


def _table(first: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(first, overflow="fold")
    return table
