"""How near two kinds of kernels are, on embeddings whose angles are known."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aml_edge.artifact import Artifact, Manifest
from aml_edge.benchmarks.kernel_agreement import KernelAgreement, compare_kernels
from aml_edge.benchmarks.row_accuracy import RowAccuracy
from aml_edge.benchmarks.rows import Row


@pytest.fixture
def rows(manifest: Manifest) -> tuple[Row, ...]:
    """PyTorch, a file in fast and in exact kernels, and another file in exact ones alone."""
    first, second = (Artifact(Path(name), manifest) for name in ("a.onnx", "b.onnx"))
    return (
        Row("student", "torch", "cpu", None, ()),
        Row("a fast", "onnxruntime", "cpu", first, ()),
        Row("a exact", "onnxruntime-precise", "cpu", first, ()),
        Row("b exact", "onnxruntime-precise", "cpu", second, ()),
    )


def at_angles(*degrees: float, places: tuple[int, ...] | None = None) -> RowAccuracy:
    """Returns embeddings on the unit circle."""
    angles = np.radians(degrees)
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    return RowAccuracy(tuple(range(len(rows))) if places is None else places, rows, None)


def test_cosines_are_those_of_the_angles_between_both(rows: tuple[Row, ...]) -> None:
    fast, exact = at_angles(0, 10, 20), at_angles(60, 10, 50)  # 60, 0 and 30 degrees apart
    found = compare_kernels(rows, (fast, fast, exact, exact))
    assert (found[0], found[1], found[3]) == (None, None, None)
    assert found[2] is not None
    assert (found[2].fast, found[2].images) == ("a fast", 3)
    assert found[2].smallest == pytest.approx(0.5, abs=1e-6)  # single precision
    assert found[2].median == pytest.approx(math.sqrt(3) / 2, abs=1e-6)


def test_a_sample_is_compared_with_the_same_queries(rows: tuple[Row, ...]) -> None:
    fast, sample = at_angles(0, 90, 45, 10), at_angles(45, 100, places=(2, 3))  # 0 and 90 degrees apart
    found = compare_kernels(rows, (None, fast, sample, None))[2]
    assert found is not None
    assert found.images == 2
    assert (found.smallest, found.median) == pytest.approx((0.0, 0.5), abs=1e-6)


def test_lengths_do_not_matter(rows: tuple[Row, ...]) -> None:
    fast = at_angles(0, 30)
    longer = replace(fast, embeddings=5 * fast.embeddings)
    found = compare_kernels(rows, (None, fast, longer, None))[2]
    assert found is not None
    assert found.smallest == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("broken", [np.nan, np.inf, 0.0])
def test_what_is_not_finite_gives_no_cosine(rows: tuple[Row, ...], broken: float) -> None:
    fast = at_angles(0, 30)
    rows_of_exact = fast.embeddings.copy()
    rows_of_exact[1] = broken
    found = compare_kernels(rows, (None, fast, replace(fast, embeddings=rows_of_exact), None))[2]
    assert isinstance(found, KernelAgreement)
    assert (found.images, math.isnan(found.smallest), math.isnan(found.median)) == (2, True, True)


def test_a_side_that_embedded_nothing_is_compared_with_none(rows: tuple[Row, ...]) -> None:
    fast = at_angles(0, 30)
    assert compare_kernels(rows, (None, None, fast, fast)) == (None,) * 4
    assert compare_kernels(rows, (None, fast, None, None)) == (None,) * 4
    assert compare_kernels((), ()) == ()
