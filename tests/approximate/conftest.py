"""Indexes written from rows, which approximate indexes are built of; one thread, since small products wait for more."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from aml_edge.index import TeacherIndex, encode_ids, open_index
from aml_edge.index.record import IndexRecord
from aml_edge.preprocessing import Preprocessing
from aml_edge.space import EmbeddingSpace

Rows = npt.NDArray[np.floating]


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """FAISS computes with one thread, and with as many as before in the end."""
    faiss = pytest.importorskip("faiss", reason="the extra 'faiss' is not installed")
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


@pytest.fixture(scope="session")
def write_rows() -> Callable[..., TeacherIndex]:
    """Returns a function that writes an index of unit rows, and opens it."""

    def write(folder: Path, rows: Rows, *, teacher: str = "teacher", hashed: bool = True) -> TeacherIndex:
        """Writes it.

        Args:
            folder: of the index.
            rows: (N, D) float32 or float16.
            teacher: name of its space's.
            hashed: whether it says which bytes its embeddings have, as older ones do not.
        """
        folder.mkdir()
        ids = encode_ids([f"{row}.jpg" for row in range(len(rows))])
        (folder / "ids.txt").write_bytes(ids)
        np.save(folder / "embeddings.npy", rows)
        embeddings = hashlib.sha256((folder / "embeddings.npy").read_bytes()).hexdigest()
        record = IndexRecord(
            space=EmbeddingSpace(teacher, "a" * 64, rows.shape[1]),
            preprocessing=Preprocessing(64),
            count=len(rows),
            ids_sha256=hashlib.sha256(ids).hexdigest(),
            embeddings_sha256=embeddings if hashed else None,
            dtype="float32" if rows.dtype == np.float32 else "float16",
        )
        (folder / "index.json").write_text(record.dumps())
        return open_index(folder)

    return write


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
