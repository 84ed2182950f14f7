"""Vectors of a FAISS file: what each kind of index gives back, and that whatever FAISS does ends in one line."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import pytest

from aml_edge.errors import ForeignIndexError, MissingExtraError
from aml_edge.vectors import faiss_vectors
from aml_edge.vectors.faiss_process import serve
from aml_edge.vectors.faiss_vectors import FaissVectors, is_faiss
from aml_edge.vectors.source import SourceOptions

COUNT, DIMENSION = 100, 16


@pytest.fixture(scope="module")
def many() -> npt.NDArray[np.float32]:
    """(100, 16) unit rows, enough for FAISS to learn from."""
    rows = np.random.default_rng(0).normal(size=(COUNT, DIMENSION))
    unit: npt.NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def written(path: Path, index: Any) -> Path:
    faiss.write_index(index, str(path))
    assert is_faiss(str(path))
    return path


def served(path: Path) -> tuple[dict[str, Any], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Returns what the process would write, parsed by the description of its own docstring."""
    stream = io.BytesIO()
    serve(str(path), stream)
    line, _, content = stream.getvalue().partition(b"\n")
    header = json.loads(line)
    size = header["count"] * 8 if header["labelled"] else 0
    labels, rows = np.frombuffer(content[:size], np.int64), np.frombuffer(content[size:], np.float32)
    return header, labels, rows.reshape(-1, header["dimension"])


KEEPING = ["Flat", "IVF4,Flat", "HNSW8", "IVF4_HNSW8,Flat", "Flat,RFlat", "IVF4,PQ4x4,RFlat"]
LOSING = {"SQ8": 0.02, "SQfp16": 0.001, "PQ4x4": 0.8, "IVF4,SQ8": 0.03, "PCA8,Flat": 0.9, "HNSW8,SQ8": 0.02}


@pytest.mark.parametrize("recipe", KEEPING)
@pytest.mark.parametrize(("metric", "said"), [(faiss.METRIC_INNER_PRODUCT, "inner product"), (faiss.METRIC_L2, "L2")])
def test_what_keeps_vectors_gives_them_back(
    tmp_path: Path, many: npt.NDArray[np.float32], recipe: str, metric: int, said: str
) -> None:
    index = faiss.index_factory(DIMENSION, recipe, metric)
    index.train(many)
    index.add(many)
    header, labels, rows = served(written(tmp_path / "i", index))
    assert (rows == many).all()
    assert (header["count"], header["dimension"], header["metric"]) == (COUNT, DIMENSION, said)
    assert (header["approximate"], len(labels)) == (False, 0)


@pytest.mark.parametrize(("recipe", "error"), LOSING.items())
def test_what_does_not_keep_them_says_so(
    tmp_path: Path, many: npt.NDArray[np.float32], recipe: str, error: float
) -> None:
    index = faiss.index_factory(DIMENSION, recipe, faiss.METRIC_INNER_PRODUCT)
    index.train(many)
    index.add(many)
    header, _, rows = served(written(tmp_path / "i", index))
    assert header["approximate"] is True
    assert 0 < np.abs(rows - many).max() < error
    assert (rows == index.reconstruct_n(0, COUNT) if "IVF" not in recipe else np.isfinite(rows)).all()


@pytest.mark.parametrize("recipe", ["IDMap,Flat", "IDMap2,Flat", "IDMap,IVF4,Flat"])
def test_numbers_come_with_their_vectors(tmp_path: Path, many: npt.NDArray[np.float32], recipe: str) -> None:
    index = faiss.index_factory(DIMENSION, recipe)
    index.train(many)
    numbers = np.random.default_rng(1).permutation(COUNT) * 10
    index.add_with_ids(many, numbers)
    header, labels, rows = served(written(tmp_path / "i", index))
    assert labels.tolist() == numbers.tolist()
    assert (rows == many).all()
    assert header["labelled"] is True


@pytest.mark.parametrize("times", [1, 10])
def test_inverted_lists_come_in_the_order_of_their_numbers(
    tmp_path: Path, many: npt.NDArray[np.float32], times: int
) -> None:
    index = faiss.index_factory(DIMENSION, "IVF4,Flat")
    index.train(many)
    numbers = np.random.default_rng(1).permutation(COUNT) * times
    index.add_with_ids(many, numbers)
    header, labels, rows = served(written(tmp_path / "i", index))
    assert (rows == many[np.argsort(numbers)]).all()
    assert labels.tolist() == ([] if times == 1 else sorted(numbers.tolist()))
    assert header["labelled"] is (times != 1)


@pytest.mark.parametrize(
    ("recipe", "name"), [("LSH", "IndexLSH"), ("PQ4x4fs", "IndexPQFastScan"), ("IVF4,PQ4x4fs", "IndexIVFPQFastScan")]
)
def test_what_gives_nothing_back_is_refused(
    tmp_path: Path, many: npt.NDArray[np.float32], recipe: str, name: str
) -> None:
    """FAISS itself ends the process where some of these are asked."""
    index = faiss.index_factory(DIMENSION, recipe, faiss.METRIC_L2)
    index.train(many)
    index.add(many)
    with pytest.raises(ValueError, match=f"an {name} does not give vectors back"):
        served(written(tmp_path / "i", index))


def test_rows_and_numbers_come_through_the_process_in_blocks(tmp_path: Path, read_all: Callable[..., Any]) -> None:
    rows = np.random.default_rng(2).normal(size=(9000, 512)).astype(np.float32)
    index = faiss.IndexIDMap(faiss.IndexFlatIP(512))
    index.add_with_ids(rows, np.arange(9000) + 2**40)
    read = read_all(FaissVectors(str(written(tmp_path / "i", index)), SourceOptions()))
    assert (read.rows == rows).all()
    assert read.blocks == (8192, 808)  # of 16 MiB
    assert read.ids == tuple(str(2**40 + number) for number in range(9000))
    assert read.description.kind == "FAISS IndexIDMap of IndexFlatIP, inner product"
    assert (read.description.has_ids, read.description.approximate) == (True, False)


def torn(path: Path, content: bytes) -> None:
    path.write_bytes(content[:-1])


def strange(path: Path, content: bytes) -> None:
    path.write_bytes(b"Iron" + content[4:])


def huge(path: Path, content: bytes) -> None:
    """Claims 2⁶¹ bytes of vectors."""
    path.write_bytes(content.replace((COUNT * DIMENSION).to_bytes(8, "little"), (2**59).to_bytes(8, "little")))


@pytest.mark.parametrize(
    ("damage", "said"), [(torn, "read error"), (strange, 'Index type 0x6e6f7249 ("Iron") not recognized'), (huge, "")]
)
def test_damaged_files_end_in_one_line(
    tmp_path: Path, many: npt.NDArray[np.float32], damage: Callable[[Path, bytes], None], said: str
) -> None:
    index = faiss.IndexFlatL2(DIMENSION)
    index.add(many)
    path = written(tmp_path / "i", index)
    damage(path, path.read_bytes())
    with pytest.raises(ForeignIndexError) as refusal:
        FaissVectors(str(path), SourceOptions())
    assert str(refusal.value).startswith(f"{path} cannot be read by FAISS: {said}")
    assert str(refusal.value).endswith("; write it with faiss.write_index.")
    assert "\n" not in str(refusal.value)
    assert "/" not in str(refusal.value).removeprefix(str(path))


def test_an_index_of_nothing_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "i", faiss.IndexFlatL2(DIMENSION))
    with pytest.raises(ForeignIndexError) as refusal:
        FaissVectors(str(path), SourceOptions())
    assert str(refusal.value) == (
        f"{path} holds 0 vectors of 16 values; an index needs at least one of each: write it again with "
        "faiss.write_index after vectors were added."
    )


DIES = "import os, signal, sys; print('last words', file=sys.stderr, flush=True); os.kill(os.getpid(), signal.SIGSEGV)"
DIES_LATER = (
    'import sys; print(\'{"kind": "k", "metric": "m", "count": 3, "dimension": 2, "approximate": false, '
    '"labelled": false}\'); sys.exit(3)'
)


def test_a_crash_of_faiss_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss_vectors, "COMMAND", (sys.executable, "-c", DIES))
    with pytest.raises(ForeignIndexError) as refusal:
        FaissVectors(str(tmp_path / "i"), SourceOptions())
    assert str(refusal.value) == (
        f"{tmp_path / 'i'} cannot be read by FAISS: FAISS ended with SIGSEGV: last words; write it with "
        "faiss.write_index."
    )


def test_a_process_that_stops_between_blocks_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_all: Callable[..., Any]
) -> None:
    monkeypatch.setattr(faiss_vectors, "COMMAND", (sys.executable, "-c", DIES_LATER))
    source = FaissVectors(str(tmp_path / "i"), SourceOptions())
    with pytest.raises(ForeignIndexError, match="cannot be read by FAISS: FAISS said nothing; write it"):
        read_all(source)


def test_closing_early_ends_the_process(tmp_path: Path, many: npt.NDArray[np.float32]) -> None:
    index = faiss.IndexFlatL2(DIMENSION)
    for _ in range(50):
        index.add(many)
    source = FaissVectors(str(written(tmp_path / "i", index)), SourceOptions())
    source.close()
    source.close()
    assert source._process.poll() is not None


def test_without_faiss_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss_vectors, "find_spec", lambda name: None)
    with pytest.raises(
        MissingExtraError, match=r"reading a FAISS file needs faiss-cpu.*pip install 'aml-edge\[faiss\]'"
    ):
        FaissVectors(str(tmp_path), SourceOptions())
