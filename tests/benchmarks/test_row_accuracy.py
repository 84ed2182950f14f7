"""What a row's queries come to: all of them, or a sample where the kernels are slow."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aml_edge.artifact import Artifact
from aml_edge.benchmarks import row_accuracy
from aml_edge.benchmarks.retrieval import GroundTruth
from aml_edge.benchmarks.row_accuracy import SAMPLE, RowAccuracy, measure_accuracy, spread_places
from aml_edge.benchmarks.rows import Group, Row
from aml_edge.progress import SilentProgress

OnnxFile = Callable[..., Artifact]
Measure = Callable[..., RowAccuracy | None]


@pytest.fixture
def measure(onnx_file: OnnxFile, truth: GroundTruth, tmp_path: Path) -> Measure:
    """Returns a function that measures a file that gives channel means."""

    def call(
        *, offset: float = 1.0, asked: bool = True, refused: bool = False, sampled: bool = False
    ) -> RowAccuracy | None:
        artifact = onnx_file(tmp_path / "a.onnx", offset=offset)
        row = Row("onnx", "onnxruntime", "cpu", artifact, (), sampled=sampled)
        group = Group((artifact,), None)
        return measure_accuracy(row, group, truth if asked else None, SilentProgress(), refused=refused)

    return call


def test_all_queries_have_an_map_and_an_average_precision_each(measure: Measure) -> None:
    found = measure()
    assert found is not None and found.found is not None
    assert (found.places, found.found.queries) == ((0, 1), 2)
    assert found.average_precisions == pytest.approx((1, 1 / 6))  # worked out where `truth` is made
    assert found.found.medium == pytest.approx((1 + 1 / 6) / 2)


def test_a_sample_is_embedded_alike_and_has_no_map(measure: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measure()
    monkeypatch.setattr(row_accuracy, "SAMPLE", 1)
    sample = measure(sampled=True)
    assert whole is not None and sample is not None
    assert (sample.places, sample.found, sample.average_precisions) == ((0,), None, ())
    np.testing.assert_array_equal(sample.embeddings, whole.embeddings[:1])


def test_embeddings_that_are_not_finite_are_kept(measure: Measure) -> None:
    found, sample = measure(offset=math.nan), measure(offset=math.nan, sampled=True)
    assert found is not None and found.found is not None and sample is not None
    assert (found.found.non_finite, found.average_precisions) == (2, ())
    assert np.isnan(sample.embeddings).any(axis=1).all()


def test_without_ground_truth_or_runtime_there_is_nothing(measure: Measure) -> None:
    assert measure(asked=False) is None
    assert measure(refused=True) is None


@pytest.mark.parametrize(
    ("count", "wanted", "places"),
    [
        (1, 16, (0,)),
        (3, 16, (0, 1, 2)),
        (7, 3, (0, 3, 6)),
        (61, 4, (0, 20, 40, 60)),
    ],
)
def test_a_sample_is_spread_over_the_queries(count: int, wanted: int, places: tuple[int, ...]) -> None:
    assert spread_places(count, wanted) == places


def test_no_query_is_in_a_sample_twice() -> None:
    for count in range(1, 100):
        places = spread_places(count, SAMPLE)
        assert len(set(places)) == len(places) == min(count, SAMPLE)
        assert (places[0], places[-1]) == (0, count - 1)
