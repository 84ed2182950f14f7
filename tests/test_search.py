"""Top-k against sorting everything, on numbers whose products float32 holds exactly, so that ties are ties."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aml_edge import search
from aml_edge.errors import RuntimeUnavailableError, UsageError
from aml_edge.search import top_k

Rows = npt.NDArray[np.float32]


def slow_top_k(queries: Rows, database: npt.NDArray[Any], k: int) -> tuple[list[list[int]], list[list[float]]]:
    rows, similarities = [], []
    for query in queries.tolist():
        products = [sum(a * b for a, b in zip(query, row, strict=True)) for row in database.tolist()]
        order = sorted(range(len(products)), key=lambda row: (-products[row], row))[:k]
        rows.append(order)
        similarities.append([products[row] for row in order])
    return rows, similarities


@settings(max_examples=150, deadline=None)
@given(
    st.data(),
    st.integers(1, 4),
    st.integers(1, 60),
    st.integers(1, 50),
    st.integers(1, 200),
    st.sampled_from([1, 2, 32]),
)
def test_equals_sorting_everything(
    data: st.DataObject, queries: int, database: int, k: int, block: int, chunk: int
) -> None:
    """Few numbers, so that most are tied, and in small chunks, so that chunks are tied too."""
    seed = data.draw(st.integers(0, 2**32 - 1))
    generator = np.random.default_rng(seed)
    ours = generator.integers(-2, 3, size=(queries, 3)).astype(np.float32)
    theirs = generator.integers(-2, 3, size=(database, 3)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "BLOCK_VALUES", block)
        patch.setattr(search, "CHUNK_ROWS", chunk)
        found = top_k(ours, theirs, k)
    rows, similarities = slow_top_k(ours, theirs, k)
    assert found.rows.tolist() == rows
    assert found.similarities.tolist() == similarities
    assert (str(found.rows.dtype), str(found.similarities.dtype)) == ("int64", "float32")


def test_copies_of_the_last_found_come_in_database_order() -> None:
    """A thousand rows in chunks of 32, with copies on both sides of the k-th place."""
    angles = np.random.default_rng(3).uniform(0.1, 1.5, 1000).astype(np.float32)
    database = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for row in (900, 31, 500, 32, 3):
        database[row] = [1, 0]
    database[700] = [2, 0]
    found = top_k(np.array([[1, 0], [1, 0]], np.float32), database, 4)
    assert found.rows.tolist() == [[700, 3, 31, 32]] * 2
    assert found.similarities.tolist() == [[2, 1, 1, 1]] * 2


def test_real_numbers_agree_with_a_double_precision_sort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "BLOCK_VALUES", 999)
    generator = np.random.default_rng(0)
    queries, database = (generator.normal(size=(count, 16)).astype(np.float32) for count in (5, 700))
    products = queries.astype(np.float64) @ database.astype(np.float64).T
    found = top_k(queries, database, 20)
    assert found.rows.tolist() == np.argsort(-products, axis=1)[:, :20].tolist()
    # float32 sums of 16 products of size about 1
    assert found.similarities == pytest.approx(np.sort(products, axis=1)[:, :-21:-1], abs=1e-5)


def test_half_precision_on_disk_is_searched_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "BLOCK_VALUES", 64)
    database = np.random.default_rng(1).integers(-4, 5, size=(50, 8)).astype(np.float16)
    np.save(tmp_path / "database.npy", database)
    queries = np.eye(3, 8, dtype=np.float32)
    found = top_k(queries, np.load(tmp_path / "database.npy", mmap_mode="r"), 7)
    assert found.rows.tolist() == slow_top_k(queries, database, 7)[0]


def test_more_than_there_are_gives_all() -> None:
    found = top_k(np.eye(1, 2, dtype=np.float32), np.array([[0.5, 0], [1, 0]], np.float32), 10)
    assert found.rows.tolist() == [[1, 0]]
    assert found.similarities.tolist() == [[1.0, 0.5]]


def test_no_query_finds_nothing() -> None:
    found = top_k(np.empty((0, 2), np.float32), np.ones((5, 2), np.float32), 3)
    assert (found.rows.shape, found.similarities.shape) == ((0, 3), (0, 3))


def test_what_cannot_be_searched_is_refused() -> None:
    one, two = np.ones((1, 2), np.float32), np.ones((3, 4), np.float32)
    with pytest.raises(UsageError, match="`k` is 0; a search finds at least one image"):
        top_k(one, one, 0)
    with pytest.raises(UsageError) as refusal:
        top_k(one, two, 1)
    assert str(refusal.value) == (
        "`query_embeddings` has shape (1, 2) and `database` (3, 4); both must be (rows, D) with the same D."
    )
    with pytest.raises(UsageError, match="`database` is empty"):
        top_k(one, one[:0], 1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_named(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "BLOCK_VALUES", 8)
    database = np.ones((9, 2), np.float32)
    database[7, 1] = value
    with pytest.raises(UsageError, match="row 7 of `database` is not finite; embed that image again"):
        top_k(np.ones((1, 2), np.float32), database, 2)
    with pytest.raises(UsageError, match="row 7 of `query_embeddings` is not finite"):
        top_k(database, np.ones((1, 2), np.float32), 2)


@pytest.mark.parametrize("values", [1, 1 << 20])
def test_overflow_is_said(values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a block of its own, too, after one in which all is well."""
    monkeypatch.setattr(search, "BLOCK_VALUES", values)
    large = np.full((1, 2), 3e38, np.float32)
    for last in (large, large * [[1, -1]]):  # to infinity, and to infinity minus infinity
        with pytest.raises(UsageError, match="a similarity overflows; search with rows that are L2-normalised"):
            top_k(large, np.concatenate([np.eye(2, dtype=np.float32), last], dtype=np.float32), 1)


def test_large_numbers_whose_sum_overflows_are_searched() -> None:
    database = np.full((3, 2), 3e38, np.float32)
    assert top_k(np.full((1, 2), 1e-3, np.float32), database, 2).rows.tolist() == [[0, 1]]


def test_neither_layout_nor_byte_order_matters() -> None:
    database = np.random.default_rng(2).integers(-4, 5, size=(20, 8)).astype(np.float32)
    queries = np.eye(2, 8, dtype=np.float32)
    expected = slow_top_k(queries, database, 5)[0]
    for same in (
        np.asfortranarray(database),
        database[::-1].copy()[::-1],
        database.astype(">f4"),
        database.astype("f8"),
    ):
        assert top_k(queries, same, 5).rows.tolist() == expected


def test_a_device_must_be_there() -> None:
    one = np.ones((1, 2), np.float32)
    with pytest.raises(UsageError, match="`device` is 'gpu'; it must be 'cpu', 'cuda'"):
        top_k(one, one, 1, device="gpu")
    with pytest.raises(RuntimeUnavailableError, match="`device` is 'cuda:99', which this machine does not have: "):
        top_k(one, one, 1, device="cuda:99")


@pytest.mark.needs_gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_gpu_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "DEVICE_BLOCK_VALUES", 999)
    database = np.random.default_rng(1).integers(-4, 5, size=(500, 8)).astype(np.float16)
    queries = np.eye(3, 8, dtype=np.float32)
    found = top_k(queries, database, 7, device="cuda")
    assert (found.rows.tolist(), found.similarities.tolist()) == slow_top_k(queries, database, 7)
