"""A view of embeddings gives what is there, and never a row that cannot be an embedding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from aml_edge import search
from aml_edge.errors import TeacherIndexError
from aml_edge.index import checked_rows
from aml_edge.index.checked_rows import CheckedRows, unsound_rows
from aml_edge.search import top_k

COUNT, DIMENSION = 9, 5
IDS = tuple(f"jpg/{number}.jpg" for number in range(COUNT))


@pytest.fixture
def rows() -> npt.NDArray[np.float32]:
    drawn = np.random.default_rng(0).normal(size=(COUNT, DIMENSION))
    unit: npt.NDArray[np.float32] = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    return unit


def test_what_is_sound_is_read_as_it_is(rows: npt.NDArray[np.float32], tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", rows)
    view = CheckedRows(Path("ix"), IDS, np.load(tmp_path / "rows.npy", mmap_mode="r"))
    assert (view.shape, len(view)) == ((COUNT, DIMENSION), COUNT)
    np.testing.assert_array_equal(view[2:5], rows[2:5])
    np.testing.assert_array_equal(view[np.array([7, 0, 7])], rows[[7, 0, 7]])
    assert view[np.array([], np.intp)].shape == (0, DIMENSION)
    half = CheckedRows(Path("ix"), IDS, rows.astype(np.float16))[:]
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, rows, atol=2**-11)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.nan, "that is not finite"),
        (np.array(0x7FA00000, np.uint32).view(np.float32), "that is not finite"),  # a signalling NaN; NumPy would warn
        (np.inf, "that is not finite"),
        (0.0, "of length 0, not 1"),
        (3e30, "of length 6.708e+30, not 1"),  # √5 · 3e30, whose square float32 does not hold
    ],
)
def test_the_first_row_that_cannot_be_right_is_named_by_its_id(
    rows: npt.NDArray[np.float32], value: float, said: str
) -> None:
    rows[4] = value
    rows[6] = np.nan
    view = CheckedRows(Path("ix"), IDS, rows)
    np.testing.assert_array_equal(view[:4], rows[:4])
    for asked in (slice(2, None), np.array([0, 4, 6]), slice(None)):
        with pytest.raises(TeacherIndexError) as caught:
            view[asked]
        assert str(caught.value) == (
            f"the index ix holds an embedding {said}, for jpg/4.jpg; `aml-edge index verify ix` finds all of them: "
            "copy the index again, or build it again."
        )


@pytest.mark.parametrize(("factor", "sound"), [(1.0009, True), (0.9991, True), (1.0011, False), (0.9989, False)])
def test_a_length_may_be_off_by_a_thousandth(rows: npt.NDArray[np.float32], factor: float, sound: bool) -> None:
    rows[3] *= np.float32(factor)
    assert unsound_rows(rows).tolist() == ([] if sound else [3])


def test_what_was_found_sound_is_not_checked_again(
    rows: npt.NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    view, checked = CheckedRows(Path("ix"), IDS, rows), []

    def watched(embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
        checked.append(len(embeddings))
        return unsound_rows(embeddings)

    monkeypatch.setattr(checked_rows, "unsound_rows", watched)
    buffer = np.empty_like(rows)
    for _ in range(2):
        view.read_into(slice(0, 4), buffer)
        assert view[np.array([3, 1])].shape == (2, DIMENSION)
    view.read_into(slice(2, 6), buffer)
    assert checked == [4, 4]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_buffer_is_filled_only_where_rows_are_stored_otherwise(
    rows: npt.NDArray[np.float32], dtype: type[np.floating]
) -> None:
    stored, buffer = rows.astype(dtype), np.zeros_like(rows)
    view = CheckedRows(Path("ix"), IDS, stored)
    view.fetch(slice(0, 3))
    read = view.read_into(slice(2, 5), buffer)
    np.testing.assert_array_equal(read, stored[2:5].astype(np.float32))
    assert np.shares_memory(read, buffer) == (dtype == np.float16)
    np.testing.assert_array_equal(view.read_into(np.array([8, 0]), buffer), stored[[8, 0]].astype(np.float32))


def test_one_value_that_is_not_finite_is_enough(rows: npt.NDArray[np.float32]) -> None:
    rows[1, 2], rows[8, 0] = -np.inf, np.nan
    assert unsound_rows(rows).tolist() == [1, 8]
    assert unsound_rows(rows[:0]).tolist() == []


def test_a_search_reads_it_in_blocks_and_names_the_row(
    rows: npt.NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "BLOCK_VALUES", 2 * DIMENSION)
    found = top_k(rows[5:6], CheckedRows(Path("ix"), IDS, rows), 3)
    np.testing.assert_array_equal(found.rows, top_k(rows[5:6], rows, 3).rows)
    rows[7] *= 1.5
    with pytest.raises(TeacherIndexError, match=r"holds an embedding of length 1\.5, not 1, for jpg/7\.jpg; "):
        top_k(rows[5:6], CheckedRows(Path("ix"), IDS, rows), 3)
