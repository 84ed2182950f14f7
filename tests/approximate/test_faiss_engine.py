"""FAISS: what it makes and refuses, its errors in a line, and files that are damaged or made to harm."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from aml_edge.approximate.faiss_engine import (
    empty_structure,
    faiss_module,
    inverted_lists,
    largest_clustering,
    read_structure,
    reason,
    set_parameters,
    similarities_of,
    write_structure,
)
from aml_edge.approximate.specification import ApproximateSpec, approximate_spec
from aml_edge.errors import MissingExtraError, UsageError

Rows = npt.NDArray[np.float32]


def filled(factory: str, rows: Rows) -> Any:
    structure = empty_structure(ApproximateSpec(factory), rows.shape[1], len(rows))
    structure.train(rows)
    structure.add(rows)
    return structure


def test_says_how_to_get_faiss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError) as missing:
        faiss_module()
    assert str(missing.value) == (
        "an approximate index needs faiss-cpu, which is not installed: pip install 'aml-edge[faiss]'"
    )


@pytest.mark.parametrize(
    ("factory", "why"),
    [
        ("nonsense", "could not parse index string nonsense"),
        ("IVF16,PQ7", "The dimension of the vector (d) should be a multiple of the number of subquantizers (M)"),
        ("IMI2x4,PQ8", "MultiIndex not implemented for inner prod search"),
        ("LSH", "metric == METRIC_L2 does not hold"),
        ("HNSW99999999999", "C++ exception stoi"),
    ],
)
def test_a_factory_that_faiss_refuses_is_wrong_usage(factory: str, why: str) -> None:
    with pytest.raises(UsageError) as refused:
        empty_structure(ApproximateSpec(factory), 16, 600)
    assert str(refused.value) == (
        f"`ann` is '{factory}', which FAISS cannot make for 16-D embeddings and inner products: {why}; "
        "name another factory, e.g. IVF256,SQ8."
    )


@pytest.mark.parametrize(("factory", "lists"), [("IVF0,Flat", 0), ("IVF601,Flat", 601), ("OPQ4,IVF4k,PQ4", 4096)])
def test_there_are_as_many_rows_as_lists(factory: str, lists: int) -> None:
    with pytest.raises(UsageError) as refused:
        empty_structure(ApproximateSpec(factory), 16, 600)
    assert str(refused.value) == (
        f"`ann` is '{factory}', which makes {lists} lists, but there are 600 rows; ask for at least one list and no "
        "more than there are rows."
    )


def test_no_room_is_made_for_lists_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="makes 1048576000000 lists"):
        empty_structure(ApproximateSpec("IVF1000000M,Flat"), 16, 600)


def test_parameters_reach_the_lists_below() -> None:
    structure = empty_structure(approximate_spec("OPQ4_8,IVF8,SQ8:nprobe=3"), 16, 600)
    lists = inverted_lists(structure)
    assert lists is not None
    assert lists.nprobe == 3
    with pytest.raises(UsageError) as refused:
        set_parameters(structure, approximate_spec("OPQ4_8,IVF8,SQ8:breadth=3"))
    assert str(refused.value) == (
        "`ann` is 'OPQ4_8,IVF8,SQ8:breadth=3', whose parameters FAISS does not take: "
        "ParameterSpace::set_index_parameter:could not set parameter breadth; "
        "lists take nprobe, graphs efSearch, and refining k_factor_rf."
    )


@pytest.mark.parametrize(
    ("factory", "clusters"),
    [
        ("Flat", 0),
        ("HNSW8", 0),
        ("SQ8", 0),
        ("IVF16,Flat", 16),
        ("PQ4np", 256),
        ("IVF16,PQ4x4fs", 16),
        ("IVF16,PQ4x6np", 64),
        ("OPQ4_8,IVF16_HNSW8,PQ4x10np,RFlat", 1024),
        ("IVF300(IVF10,Flat),Flat", 300),
        ("HNSW8_PQ4x6np", 64),
    ],
)
def test_counts_the_clusters_of_the_largest_clustering(factory: str, clusters: int) -> None:
    assert largest_clustering(empty_structure(ApproximateSpec(factory), 16, 600)) == clusters


def test_distances_of_unit_rows_become_inner_products(rows: Rows) -> None:
    for factory in ("Flat", "HNSW8_PQ4np", "OPQ4,HNSW8_PQ4np"):  # FAISS knows the latter two with distances only
        structure = filled(factory, rows)
        values, found = structure.search(rows[:5], 10)
        similarities = similarities_of(structure, values)
        assert similarities.dtype == np.float32
        assert (np.diff(similarities) <= 0).all()
        products = np.take_along_axis(rows[:5] @ rows.T, found, axis=1)
        exact = factory == "Flat"
        np.testing.assert_allclose(similarities, products, atol=1e-6 if exact else 0.3)  # codes of 32 bits a row
    squared = 2 - 2 * (rows[:5] @ rows.T)
    np.testing.assert_allclose(similarities_of(structure, squared.astype(np.float32)), rows[:5] @ rows.T, atol=1e-6)


def test_what_faiss_says_is_one_line() -> None:
    thrown = (
        "Error in void faiss::f(idx_t) [with\nT = int] at /project/faiss/A.cpp:66: Error: 'n >= k' failed: too\nfew"
    )
    assert reason(RuntimeError(thrown)) == "too few"
    assert reason(RuntimeError("Error in f() at /a/b.h:1: Error: 'n > 0' failed")) == "n > 0 does not hold"
    assert reason(RuntimeError("Error in f() at /a/b.cpp:1: no lists")) == "no lists"
    assert reason(RuntimeError("plain\n words")) == "plain words"
    assert reason(MemoryError("std::bad_alloc")) == "it takes more memory than there is"


@pytest.mark.parametrize("factory", ["Flat", "IVF8,Flat", "IVF8,PQ4x4np", "HNSW8", "SQ8", "OPQ4_8,IVF8,PQ4x4np"])
def test_a_file_comes_back(rows: Rows, tmp_path: Path, factory: str) -> None:
    structure, file = filled(factory, rows), tmp_path / "größe.faiss"
    with file.open("wb") as stream:
        write_structure(structure, stream)
    read = read_structure(file)
    for ours, theirs in zip(structure.search(rows[:7], 9), read.search(rows[:7], 9), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_full_disk_is_an_error_of_the_disk(rows: Rows) -> None:
    class FullDisk(io.BytesIO):
        def write(self, content: Any, /) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left on device"):
        write_structure(filled("Flat", rows), FullDisk())


@pytest.mark.parametrize("content", [b"", b"IxF", b"\x80\x04K\x01.", b"no FAISS file", bytes(1000)])
def test_what_is_no_structure_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.faiss"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        read_structure(file)


def test_a_length_that_was_made_up_takes_no_memory(rows: Rows, tmp_path: Path) -> None:
    file = tmp_path / "x.faiss"
    with file.open("wb") as stream:
        write_structure(filled("Flat", rows), stream)
    content = bytearray(file.read_bytes())
    length = len(content) - 4 * rows.size - 8  # of the vector, in front of it
    assert int.from_bytes(content[length : length + 8], "little") == rows.size
    content[length : length + 8] = (1 << 36).to_bytes(8, "little")
    file.write_bytes(content)
    limit = faiss_module().get_deserialization_vector_byte_limit()
    with pytest.raises(ValueError, match="limit"):
        read_structure(file)
    assert faiss_module().get_deserialization_vector_byte_limit() == limit


def test_every_cut_of_a_file_is_refused(rows: Rows, tmp_path: Path) -> None:
    file = tmp_path / "x.faiss"
    with file.open("wb") as stream:
        write_structure(filled("IVF8,SQ8", rows[:40]), stream)
    content = file.read_bytes()
    for length in range(0, len(content), 7):
        file.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"^[^\n]+$"):
            read_structure(file)


@pytest.mark.parametrize("factory", ["PQ1", "OPQ1_4,IVF4,PQ1,RFlat"])
def test_codes_are_not_put_in_order_which_changes_no_result(factory: str) -> None:
    rows = np.random.default_rng(5).standard_normal((600, 8)).astype(np.float32)
    ordered = faiss_module().index_factory(8, factory, faiss_module().METRIC_INNER_PRODUCT)
    ours = empty_structure(ApproximateSpec(factory), 8, len(rows))
    assert parts_that_order_codes(ordered) > parts_that_order_codes(ours) == 0
    for structure in (ordered, ours):
        structure.train(rows)
        structure.add(rows)
    (theirs, their_rows), (values, found) = ordered.search(rows[:20], 5), ours.search(rows[:20], 5)
    assert (values.tolist(), found.tolist()) == (theirs.tolist(), their_rows.tolist())


def parts_that_order_codes(structure: Any) -> int:
    """A structure itself, and what it wraps."""
    structure = faiss_module().downcast_index(structure)
    inner = [getattr(structure, name, None) for name in ("base_index", "index", "quantizer")]
    return int(getattr(structure, "do_polysemous_training", False)) + sum(
        parts_that_order_codes(part) for part in inner if part is not None
    )
