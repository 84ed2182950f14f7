"""What approximation costs a file's queries, on rows made up: nothing of the export is in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from aml_edge.approximate.building import build_approximate
from aml_edge.approximate.searches import NONE_OPENED, ApproximateSearches
from aml_edge.approximate.specification import ApproximateSpec, approximate_spec
from aml_edge.exporters.approximation import measure_approximation
from aml_edge.exporters.verification_images import VerificationImages
from aml_edge.image_loading import ImageItem
from aml_edge.index import TeacherIndex
from aml_edge.ranking import QueryGroundTruth, evaluate_revisited

Rows = npt.NDArray[np.float32]
FLAT, LISTS = ApproximateSpec("Flat"), approximate_spec("IVF8,Flat:nprobe=1")
ITEM = ImageItem(Path("none.jpg"))


@pytest.fixture
def rows() -> Rows:
    drawn = np.random.default_rng(0).normal(size=(150, 8))
    unit: Rows = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    return unit


@pytest.fixture
def index(write_rows: Callable[[Path, Rows], TeacherIndex], rows: Rows, tmp_path: Path) -> TeacherIndex:
    index = write_rows(tmp_path / "index", rows)
    for spec in (FLAT, LISTS):
        build_approximate(index, spec)
    return index


@pytest.fixture
def images(index: TeacherIndex) -> VerificationImages:
    """Three queries about the first hundred images, and two other images."""
    truths = tuple(QueryGroundTruth((query, query + 3), (query + 10,), (query + 20,)) for query in range(3))
    return VerificationImages("made up", (ITEM,) * 3, (ITEM,) * 2, ("a", "b"), truths, index.ids[:100])


def test_exact_is_the_file_s_own_map(index: TeacherIndex, images: VerificationImages, rows: Rows) -> None:
    artifact = rows[[0, 1, 2, 70, 140]][:, ::-1].copy()
    searches = ApproximateSearches((FLAT, LISTS)).open(index)
    flat, lists = measure_approximation(artifact, index, images, searches)
    report = evaluate_revisited(artifact[:3] @ rows[:100].T, images.ground_truth)
    expected = [one.mean_average_precision for one in (report.easy, report.medium, report.hard)]
    for cost in (flat, lists):
        assert [one.exact for one in cost.measures] == pytest.approx(expected, abs=1e-12)
        assert (cost.queries, cost.database_images, cost.depth) == (5, 150, 150)
    assert [one.difference for one in flat.measures] == [0, 0, 0]
    assert [one.mean for one in flat.found] == [1, 1]
    for place, k in enumerate((10, 100)):
        exact = np.argsort(-(artifact @ rows.T), axis=1)[:, :k]
        found = searches.databases[1].search(artifact, k).rows
        shares = [len({*ours.tolist()} & {*theirs.tolist()}) / k for ours, theirs in zip(exact, found, strict=True)]
        assert lists.found[place].mean == pytest.approx(np.mean(shares))


def test_without_ground_truth_only_lists_are_compared(index: TeacherIndex, rows: Rows) -> None:
    images = VerificationImages("made up", (), (ITEM,) * 2, ("a", "b"))
    (flat,) = measure_approximation(rows[:2], index, images, ApproximateSearches((FLAT,)).open(index))
    assert flat.measures == ()
    assert [one.k for one in flat.found] == [10, 100]


def test_an_embedding_that_is_not_finite_has_no_cost(
    index: TeacherIndex, images: VerificationImages, rows: Rows
) -> None:
    broken = rows[:5].copy()
    broken[4, 0] = np.nan
    assert measure_approximation(broken, index, images, ApproximateSearches((FLAT,)).open(index)) == ()


def test_nothing_asked_costs_nothing(index: TeacherIndex, images: VerificationImages, rows: Rows) -> None:
    assert measure_approximation(rows[:5], index, images, NONE_OPENED) == ()
