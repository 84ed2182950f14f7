"""The files of rows that come in shards: as numpy would write them, in the dtype that is asked for."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from aml_edge.index.record import IndexDtype
from aml_edge.index.shards import Shard
from aml_edge.index.writing import write_rows

ROWS = np.array([[0.6, 0.8, 0], [0, -1, 0], [1 / 3, 2 / 3, 2 / 3]], np.float32)
IDS = ("a", "b", "c")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_file_is_the_one_that_numpy_writes(tmp_path: Path, dtype: IndexDtype) -> None:
    shards = [Shard(ROWS[:2], ("0" * 64, "1" * 64), ()), Shard(ROWS[2:], ("2" * 64,), ())]
    written = write_rows(tmp_path, IDS, 3, iter(shards), dtype=dtype)
    np.save(tmp_path / "by-numpy.npy", ROWS.astype(dtype))
    content = (tmp_path / "embeddings.npy").read_bytes()
    assert content == (tmp_path / "by-numpy.npy").read_bytes()
    assert written.embeddings_sha256 == hashlib.sha256(content).hexdigest()
    assert written.images_sha256 == hashlib.sha256((tmp_path / "images.sha256").read_bytes()).hexdigest()
