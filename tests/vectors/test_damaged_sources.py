"""Whatever happens to a file's bytes, it is read or refused as a file that cannot be: nothing else comes out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qdrant_client import QdrantClient, models

from aml_edge.errors import ForeignIndexError, UsageError
from aml_edge.vectors import SOURCES
from aml_edge.vectors.source import SourceOptions

ROWS = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
NAMES = [f"{number}.jpg" for number in range(len(ROWS))]


def npy(root: Path) -> Path:
    np.save(root / "v.npy", ROWS)
    return root / "v.npy"


def npz(root: Path) -> Path:
    np.savez_compressed(root / "v.npz", v=ROWS, ids=np.array(NAMES))
    return root / "v.npz"


def parquet(root: Path) -> Path:
    pq.write_table(pa.table({"v": pa.array(ROWS.tolist()), "ids": NAMES}), root / "v.parquet", row_group_size=16)
    return root / "v.parquet"


def qdrant(root: Path) -> Path:
    """Returns the database inside of the folder, which is what is damaged."""
    with closing(QdrantClient(path=str(root / "store"))) as client:
        vectors = models.VectorParams(size=8, distance=models.Distance.COSINE)
        client.create_collection("v", vectors_config=vectors)
        client.upload_collection("v", ROWS, payload=[{"ids": one} for one in NAMES], ids=range(len(NAMES)))
    return root / "store" / "collection" / "v" / "storage.sqlite"


KINDS: dict[str, tuple[Callable[[Path], Path], SourceOptions]] = {
    "npy": (npy, SourceOptions()),
    "npz": (npz, SourceOptions(key="v", ids_key="ids")),
    "parquet": (parquet, SourceOptions(column="v", id_column="ids")),
    "qdrant-folder": (qdrant, SourceOptions(collection="v", id_field="ids")),
}


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=60, deadline=None)
@given(
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6),
    kept=st.one_of(st.just(1.0), st.floats(0, 1)),
)
def test_bytes_of_any_kind_are_read_or_refused(
    whole: Callable[[str], tuple[Path, bytes]],
    name: str,
    changes: list[tuple[float, int]],
    kept: float,
) -> None:
    file, content = whole(name)
    damaged = bytearray(content)
    for place, value in changes:
        damaged[int(place * len(damaged))] = value
    file.write_bytes(damaged[: int(kept * len(damaged))])
    location = str(file.parents[2] if name == "qdrant-folder" else file)
    with suppress(ForeignIndexError, UsageError), closing(SOURCES[name].open(location, KINDS[name][1])) as source:
        for block in source.blocks():
            assert block.rows.shape == (len(block.rows), source.description.dimension)
            assert block.ids is None or len(block.ids) == len(block.rows)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, bytes]]:
    """Returns a function that gives the file of a kind and the bytes that it should have."""
    made: dict[str, tuple[Path, bytes]] = {}

    def give(name: str) -> tuple[Path, bytes]:
        if name not in made:
            file = KINDS[name][0](tmp_path_factory.mktemp(name))
            made[name] = file, file.read_bytes()
        return made[name]

    return give
