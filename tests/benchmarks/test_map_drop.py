"""mAP lost to fp32, on average precisions that are given."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aml_edge.artifact import Artifact, Manifest, Precision
from aml_edge.benchmarks.map_drop import measure_drops
from aml_edge.benchmarks.row_accuracy import RowAccuracy
from aml_edge.benchmarks.rows import Row

NAN = math.nan


@pytest.fixture
def rows(manifest: Manifest) -> tuple[Row, ...]:
    """PyTorch, fp32 in two runtimes, int8 in fast and in exact kernels."""
    fp32 = Artifact(Path("a.onnx"), manifest)
    int8 = Artifact(Path("b.onnx"), replace(manifest, precision=Precision.INT8))
    return (
        Row("student", "torch", "cpu", None, ()),
        Row("fp32", "onnxruntime", "cpu", fp32, ()),
        Row("fp32 elsewhere", "tensorflow", "cpu", fp32, ()),
        Row("int8", "onnxruntime", "cpu", int8, ()),
        Row("int8 exact", "onnxruntime-precise", "cpu", int8, ()),
    )


def of(*average_precisions: float) -> RowAccuracy:
    return RowAccuracy((), np.empty((0, 2), np.float32), None, average_precisions)


def test_what_is_lost_is_the_mean_over_queries_in_points(rows: tuple[Row, ...]) -> None:
    fp32, int8, exact = of(0.8, NAN, 0.4), of(0.6, NAN, 0.3), of(0.9, NAN, 0.5)
    found = measure_drops(rows, (of(1, NAN, 1), fp32, of(0, NAN, 0), int8, exact))
    assert found[:3] == (None, None, None)
    fast, precise = found[3:]
    assert fast is not None and precise is not None
    assert fast.points == pytest.approx((20 + 10) / 2)
    assert (fast.queries, precise.queries) == (2, 2)
    assert (fast.low, fast.high) == pytest.approx((10, 20))  # of two queries, both drawn twice
    assert (precise.points, precise.low, precise.high) == pytest.approx((-10, -10, -10))


def test_exact_kernels_meet_fp32_in_their_own_runtime_first(rows: tuple[Row, ...]) -> None:
    own = replace(rows[1], label="fp32 exact", runtime="onnxruntime-precise")
    found = measure_drops((*rows, own), (None, of(0.8), None, None, of(0.5), of(0.6)))[4]
    assert found is not None and found.points == pytest.approx(10)


def test_a_sample_and_an_absent_map_lose_nothing_that_is_known(rows: tuple[Row, ...]) -> None:
    assert measure_drops(rows, (None, of(0.8), None, of(), None)) == (None,) * 5
    assert measure_drops(rows, (None, of(), None, of(0.8), of(0.8))) == (None,) * 5
    assert measure_drops(rows, (None, None, None, of(0.8), None)) == (None,) * 5
    assert measure_drops(rows, (None, of(NAN), None, of(NAN), None)) == (None,) * 5
    assert measure_drops((), ()) == ()
