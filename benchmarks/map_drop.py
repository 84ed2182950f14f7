"""How much asymmetric mAP a file loses to the fp32 file of its format, with an interval over queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from aml_edge.benchmarks.kernels import fast_runtime
from aml_edge.benchmarks.row_accuracy import RowAccuracy
from aml_edge.benchmarks.rows import Row, fp32_place
from aml_edge.map_drop import Drop, drop_between


def measure_drops(rows: Sequence[Row], accuracies: Sequence[RowAccuracy | None]) -> tuple[Drop | None, ...]:
    """Returns what each row loses to fp32 in its runtime; None for fp32, and where one of the two has no mAP.

    Exact kernels are compared with fp32 in their own runtime, else in the fast one: floats have no kernels to choose.

    Args:
        rows: of one group.
        accuracies: of the same rows.
    """
    drops = []
    for row, accuracy in zip(rows, accuracies, strict=True):
        place = fp32_place(rows, row)
        fast = fast_runtime(row.runtime)
        if place is None and fast is not None:
            place = fp32_place(rows, replace(row, runtime=fast))
        fp32 = None if place is None else accuracies[place]
        drops.append(None if fp32 is None or accuracy is None else _drop(fp32, accuracy))
    return tuple(drops)


def _drop(fp32: RowAccuracy, reduced: RowAccuracy) -> Drop | None:
    if not (fp32.average_precisions and reduced.average_precisions):
        return None
    values = np.array([reduced.average_precisions, fp32.average_precisions])  # (2, queries), NaN without a positive
    ours, theirs = values[:, np.isfinite(values).all(axis=0)]
    if not len(ours):
        return None
    return drop_between(theirs, ours)
