"""Small sets of vectors, and a function that reads a source to its end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from aml_edge.vectors import source
from aml_edge.vectors.source import SourceDescription, VectorSource

COUNT, DIMENSION = 7, 4


@dataclass(frozen=True, eq=False)
class ReadVectors:
    """What a source gave.

    Args:
        description: what it said it is.
        rows: (N, D).
        ids: all of them, or None where its blocks had none.
        blocks: rows of each block.
    """

    description: SourceDescription
    rows: npt.NDArray[np.floating]
    ids: tuple[str, ...] | None
    blocks: tuple[int, ...]


@pytest.fixture
def vectors() -> npt.NDArray[np.float32]:
    """(7, 4) float32 of any length, the same each time."""
    return np.random.default_rng(0).normal(size=(COUNT, DIMENSION)).astype(np.float32)


@pytest.fixture
def names() -> tuple[str, ...]:
    """An id for each of them."""
    return tuple(f"jpg/größe {number}.jpg" for number in range(COUNT))


@pytest.fixture
def three_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks hold three rows of four float32."""
    monkeypatch.setattr(source, "BLOCK_BYTES", 3 * DIMENSION * 4)


@pytest.fixture
def read_all() -> Callable[[VectorSource], ReadVectors]:
    """Returns a function that reads a source to its end and closes it."""

    def read(opened: VectorSource) -> ReadVectors:
        with closing(opened):
            blocks = list(opened.blocks())
        named = [block.ids for block in blocks if block.ids is not None]
        assert len(named) in (0, len(blocks))
        rows = np.concatenate([block.rows for block in blocks])
        assert rows.dtype == opened.description.dtype
        ids = tuple(one for ids in named for one in ids) if named else None
        return ReadVectors(opened.description, rows, ids, tuple(len(block.rows) for block in blocks))

    return read
