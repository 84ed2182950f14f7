"""What is said of a file's integers after its export, in a few lines."""

from __future__ import annotations

import math
from collections.abc import Iterator

from aml_edge.artifact import Manifest, Precision
from aml_edge.formats import OperatorCensus
from aml_edge.quantization_record import QuantizationMethod, QuantizationRecord, SearchRecord


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
        least = math.floor(one.smallest * 1e5) / 1e5  # cut, not rounded: 0.999997 is not 1
        yield f"file against its simulation: centred cosine ≥ {least:.5f} on {one.images} images"
    if record.search is not None:
        yield _summarise_search(record.search)


def next_step(manifest: Manifest) -> str:
    """Returns what may lose less than a file in integers that failed; none where nothing is known to."""
    record = manifest.quantization
    if manifest.precision is Precision.INT8_DYNAMIC:
        return "calibrated ranges may lose less: --precision int8 --calibrate-on DIR"
    if record is None:
        return ""
    if record.method is QuantizationMethod.TRAINING:
        return "to lose less: train for more epochs, `aml-edge train --qat … --set epochs=N`"
    search = "" if record.search is not None else "--max-drop POINTS keeps blocks in floating point; "
    wider = ", or store 16 bits: --precision int8-int16" if record.activation_bits == 8 else ""
    return f"to lose less: {search}`aml-edge train --qat` trains for integers{wider}"


def _summarise_search(search: SearchRecord) -> str:
    return (
        f"asymmetric mAP lost: {search.drop:.2f} [{search.low:.2f}, {search.high:.2f}] of {search.max_drop:g} points "
        f"on {search.verdict_queries} queries; {search.selection_queries} others chose, by {search.by}"
    )
