"""What is said of a file's integers after its export, in a few lines."""

from __future__ import annotations

from collections.abc import Iterator

from aml_edge.formats import OperatorCensus
from aml_edge.quantization_record import QuantizationRecord, SearchRecord


def summarise_convolutions(census: OperatorCensus) -> str:
    """Returns which convolutions compute in what, e.g. ``"convolutions: 48 in integers, 1 in floating point"``."""
    counts = (
        (census.integer_convolutions, "in integers"),
        (census.dynamic_convolutions, "in integers of each image's own range"),
        (census.weight_only_convolutions, "in floating point with stored integers as weights"),
        (census.float_convolutions, "in floating point"),
    )
    return "convolutions: " + ", ".join(f"{count} {how}" for count, how in counts if count)


def summarise_quantization(record: QuantizationRecord) -> Iterator[str]:
    """Yields how the integers were chosen, what stayed in floating point and why, how near the file is to that."""
    calibration = record.calibration
    yield str(record.method) + ("" if calibration is None else f", calibrated on {calibration.count} images")
    by_reason: dict[str, list[str]] = {}
    for block, why in record.float_blocks.items():
        by_reason.setdefault(why, []).append(block)
    for why, blocks in by_reason.items():
        yield f"in floating point: {', '.join(blocks)}: {why}"
    if record.simulation is not None:
        one = record.simulation
        yield f"file against its simulation: centred cosine ≥ {one.smallest:.4f} on {one.images} images"
    if record.search is not None:
        yield _summarise_search(record.search)


def _summarise_search(search: SearchRecord) -> str:
    return (
        f"asymmetric mAP lost: {search.drop:.2f} [{search.low:.2f}, {search.high:.2f}] of {search.max_drop:g} points "
        f"on {search.verdict_queries} queries; {search.selection_queries} others chose, by {search.by}"
    )
