"""Core ML packages with compressed weights: integers of 8 bits, or places in a palette of 256 or 64 values.

Only convolutions are compressed, so the whitening of the head stays as it is. Integers have a scale for each output
channel; a palette serves a whole weight, since for less of it Core ML asks for iOS 18.

Source: coremltools.optimize.coreml; Lloyd, "Least squares quantization in PCM", 1982 (k-means in one dimension).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aml_edge.artifact import Precision
from aml_edge.exporters.quantization.proof import LARGEST_FLOAT_WEIGHT

PALETTE_BITS = {Precision.PALETTE8: 8, Precision.PALETTE6: 6}
MOST_ROUNDS = 300
"""Of k-means; it ends before where nothing moves any more."""

Values = npt.NDArray[np.float64]


def write_compressed(package: Path, precision: Precision, path: Path) -> None:
    """Writes a package whose convolutions have compressed weights.

    Args:
        package: with weights in floating point; left as it is.
        precision: int8-weights, palette8 or palette6.
        path: of the new package; nothing stands there.
    """
    import coremltools

    optimize = coremltools.optimize.coreml
    model = coremltools.models.MLModel(str(package), skip_model_load=True)
    threshold = LARGEST_FLOAT_WEIGHT - 1  # it compresses what has more values
    if precision is Precision.INT8_WEIGHTS:
        setting = optimize.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=threshold)
        compressed = optimize.linear_quantize_weights(
            model, optimize.OptimizationConfig(op_type_configs={"conv": setting})
        )
    else:
        bits = PALETTE_BITS[precision]

        def table_and_places(weight: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
            table, places = palette(weight.astype(np.float64).ravel(), 2**bits)
            return table.astype(weight.dtype), places

        setting = optimize.OpPalettizerConfig(mode="custom", lut_function=table_and_places, weight_threshold=threshold)
        compressed = optimize.palettize_weights(model, optimize.OptimizationConfig(op_type_configs={"conv": setting}))
    compressed.save(str(path))


def palette(values: Values, size: int) -> tuple[Values, npt.NDArray[np.uint8]]:
    """Returns a table of `size` values, ascending, and each value's place in it, by k-means.

    In one dimension a cluster is a run of the sorted values, so sums over clusters are differences of running sums: a
    weight of a million values takes moments; scikit-learn, which coremltools would use, took 96 s for Lite0 at 8 bits.

    Args:
        values: (N,).
        size: up to 256.
    """
    distinct, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(distinct) <= size:
        table = np.concatenate([distinct, np.full(size - len(distinct), distinct[-1])])
        return table, inverse.astype(np.uint8)
    running_counts = np.concatenate([[0], np.cumsum(counts)])
    running_sums = np.concatenate([[0.0], np.cumsum(counts * distinct)])
    table = _first_table(distinct, counts, size)
    for _ in range(MOST_ROUNDS):
        bounds = np.concatenate([[0], np.searchsorted(distinct, (table[1:] + table[:-1]) / 2), [len(distinct)]])
        members = np.diff(running_counts[bounds])
        moved = np.where(members > 0, np.diff(running_sums[bounds]) / np.maximum(members, 1), table)
        if np.array_equal(moved, table):
            break
        table = moved
    bounds = np.searchsorted(distinct, (table[1:] + table[:-1]) / 2)
    places = np.searchsorted(bounds, np.arange(len(distinct)), side="right")
    return table, places[inverse].astype(np.uint8)


def _first_table(distinct: Values, counts: npt.NDArray[np.int64], size: int) -> Values:
    """Returns values spread as the cube root of their density, which is how the best table of many values is spread.

    Of more bins than entries few hold more than one value, and what lies far out got too few entries.

    Source: Panter and Dite, "Quantization distortion in pulse-count modulation with nonuniform spacing of levels",
    1951.
    """
    heights, edges = np.histogram(distinct, bins=size, weights=counts)
    running = np.concatenate([[0.0], np.cumsum(np.cbrt(heights))])
    table: Values = np.interp((np.arange(size) + 0.5) / size * running[-1], running, edges)
    return table
