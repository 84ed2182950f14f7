"""Selected and joined rows against numpy's own selection and concatenation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aml_edge.embedder import Embeddings
from aml_edge.errors import TeacherIndexError
from aml_edge.index.checked_rows import CheckedRows
from aml_edge.index.row_views import JoinedRows, SelectedRows
from aml_edge.row_reading import BufferedRows, row_blocks


def unit_rows(count: int, seed: int) -> Embeddings:
    drawn = np.random.default_rng(seed).normal(size=(count, 5))
    rows: Embeddings = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    return rows


def checked(rows: npt.NDArray[np.floating], name: str = "ix") -> CheckedRows:
    return CheckedRows(Path(name), [f"{name}/{place}" for place in range(len(rows))], rows)


def stored(rows: Embeddings, half: bool) -> npt.NDArray[np.floating]:
    return rows.astype(np.float16) if half else rows


def whole(rows: BufferedRows, block_rows: int) -> Embeddings:
    return np.concatenate([block.copy() for _, block in row_blocks(rows, block_rows)])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 8), min_size=1, max_size=20), st.integers(1, 9), st.booleans())
def test_selected_rows_are_those_of_numpy(selection: list[int], block_rows: int, half: bool) -> None:
    rows = stored(unit_rows(9, 0), half)
    view = SelectedRows(checked(rows), np.array(selection, np.intp))
    expected = rows[selection].astype(np.float32)
    assert (view.shape, len(view)) == (expected.shape, len(selection))
    np.testing.assert_array_equal(view[1:5], expected[1:5])
    np.testing.assert_array_equal(whole(view, block_rows), expected)


def test_rows_that_follow_each_other_are_not_copied() -> None:
    rows, buffer = unit_rows(9, 0), np.empty((4, 5), np.float32)
    view = SelectedRows(checked(rows), np.array([0, 3, 4, 5, 8]))
    assert np.shares_memory(view.read_into(slice(1, 4), buffer), rows)
    assert not np.shares_memory(view.read_into(slice(0, 2), buffer), rows)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(1, 9), st.lists(st.booleans(), min_size=4))
def test_joined_rows_are_those_of_numpy(counts: list[int], block_rows: int, halves: list[bool]) -> None:
    parts = [
        stored(unit_rows(count, seed), half) for seed, (count, half) in enumerate(zip(counts, halves, strict=False))
    ]
    expected = np.concatenate([part.astype(np.float32) for part in parts])
    view = JoinedRows([checked(part) for part in parts])
    assert (view.shape, len(view)) == (expected.shape, len(expected))
    np.testing.assert_array_equal(view[1:-1], expected[1:-1])
    np.testing.assert_array_equal(view[:], expected)
    assert view[5:2].shape == (0, 5)
    np.testing.assert_array_equal(whole(view, block_rows), expected)


def test_joined_rows_of_one_part_are_not_copied() -> None:
    first, second, buffer = unit_rows(4, 0), unit_rows(4, 1), np.empty((8, 5), np.float32)
    view = JoinedRows([checked(first), checked(second)])
    assert np.shares_memory(view.read_into(slice(5, 8), buffer), second)
    assert np.shares_memory(view.read_into(slice(3, 5), buffer), buffer)
    with pytest.raises(ValueError, match="by a slice without a step"):
        view[::2]


def test_an_embedding_that_cannot_be_one_is_named_by_its_own_index() -> None:
    first, second = unit_rows(4, 0), unit_rows(4, 1)
    second[1] *= 2
    view = JoinedRows([checked(first), SelectedRows(checked(second, "other"), np.array([3, 1, 0]))])
    said = r"the index other holds an embedding of length 2.* for other/1;"
    with pytest.raises(TeacherIndexError, match=said):
        view[3:6]
    for block_rows in (2, 5):
        with pytest.raises(TeacherIndexError, match=said):
            whole(view, block_rows)
