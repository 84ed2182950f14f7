"""Several approximate indexes as one: against the approximate index of all rows, and against an exact search."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from aml_edge.approximate.building import build_approximate
from aml_edge.approximate.database import ApproximateDatabase, open_database
from aml_edge.approximate.specification import ApproximateSpec, approximate_spec
from aml_edge.errors import TeacherIndexError, UsageError
from aml_edge.index import TeacherIndex
from aml_edge.search import top_k

Rows = npt.NDArray[np.float32]
Write = Callable[..., TeacherIndex]


@pytest.fixture
def parts(write_rows: Write, rows: Rows, tmp_path: Path) -> list[TeacherIndex]:
    """The rows in three indexes of 200, 390 and 10."""
    return [write_rows(tmp_path / str(number), part) for number, part in enumerate(np.split(rows, [200, 590]))]


def opened(parts: list[TeacherIndex], text: str) -> ApproximateDatabase:
    for part in parts:
        build_approximate(part, approximate_spec(text))
    return open_database(parts, approximate_spec(text))


def test_flat_parts_find_what_an_exact_search_finds(parts: list[TeacherIndex], rows: Rows) -> None:
    database = opened(parts, "Flat")
    found, exact = database.search(rows[:30], 250), top_k(rows[:30], rows, 250)
    np.testing.assert_array_equal(found.rows, exact.rows)
    np.testing.assert_allclose(found.similarities, exact.similarities, atol=1e-6)
    assert database.search(rows[:2], 10_000).rows.shape == (2, 600)
    assert (database.count, database.description) == (600, "Flat")


def test_what_no_part_finds_comes_last(parts: list[TeacherIndex], rows: Rows) -> None:
    database = opened(parts, "IVF5,Flat:nprobe=1")
    found = database.search(rows[:20], 600)
    for query, (places, similarities) in enumerate(zip(found.rows, found.similarities, strict=True)):
        count = int((places >= 0).sum())
        assert 0 < count < 600
        assert (places[count:] == -1).all()
        assert len(set(places[:count].tolist())) == count
        np.testing.assert_allclose(similarities[:count], rows[places[:count]] @ rows[query], atol=1e-6)
        assert (np.diff(similarities[:count]) <= 0).all()


def test_one_part_is_itself(parts: list[TeacherIndex], rows: Rows) -> None:
    database = opened(parts[:1], "IVF5,Flat")
    np.testing.assert_array_equal(database.search(rows[:5], 7).rows, database.parts[0].search(rows[:5], 7).rows)


def test_places_are_those_of_the_data_set_and_then_of_the_rest(parts: list[TeacherIndex]) -> None:
    ids = ("7.jpg", "0.jpg", "199.jpg")
    places = opened(parts, "Flat").places_after(ids)
    rows_of_places = {int(place): row for row, place in enumerate(places) if place >= 0}
    assert [rows_of_places[place] for place in range(3)] == [7, 0, 199]
    assert [rows_of_places[place] for place in range(3, 403)] == list(range(200, 600))
    assert places[-1] == -1  # of what was not found
    assert len(places) == 601
    with pytest.raises(TeacherIndexError, match=r"lacks 1 of 1 images \(200\.jpg\)"):
        opened(parts, "Flat").places_after(("200.jpg",))


def test_every_part_must_have_it(parts: list[TeacherIndex]) -> None:
    build_approximate(parts[0], ApproximateSpec("Flat"))
    with pytest.raises(UsageError, match=f"`ann` is 'Flat', which the index {parts[1].path} does not have"):
        open_database(parts, ApproximateSpec("Flat"))
