"""Rows that approximate indexes are built of; one thread, since small products wait for more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from aml_edge.index import TeacherIndex


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """FAISS computes with one thread, and with as many as before in the end."""
    faiss = pytest.importorskip("faiss", reason="the extra 'faiss' is not installed")
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


@pytest.fixture(scope="session")
def rows() -> npt.NDArray[np.float32]:
    """600 unit rows of 16 values around thirty centres, so that lists have something to gather."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(30, 16))
    near = centres[generator.integers(30, size=600)] + 0.4 * generator.normal(size=(600, 16))
    unit: npt.NDArray[np.float32] = (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float32)
    return unit


@pytest.fixture
def index(write_rows: Callable[..., TeacherIndex], rows: npt.NDArray[np.float32], tmp_path: Path) -> TeacherIndex:
    """An index of these rows, for a test to build in."""
    return write_rows(tmp_path / "index", rows)
