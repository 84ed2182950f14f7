"""An opened approximate index: what it finds beside an exact search, and which files it refuses."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from aml_edge.approximate.approximate_index import ApproximateIndex, open_approximate
from aml_edge.approximate.building import build_approximate
from aml_edge.approximate.record import approximate_path, read_record
from aml_edge.approximate.specification import ApproximateSpec, approximate_spec
from aml_edge.errors import MissingExtraError, TeacherIndexError, UsageError
from aml_edge.index import TeacherIndex
from aml_edge.search import top_k

Rows = npt.NDArray[np.float32]
NEXT_STEP = "; make it again: `aml-edge index approximate --restart`, or remove its folder."


@pytest.fixture
def lists(index: TeacherIndex) -> ApproximateIndex:
    """Sixteen lists, of which FAISS searches one."""
    return build_approximate(index, ApproximateSpec("IVF16,Flat"))


def in_lists(index: TeacherIndex, structure: ApproximateIndex, query: Rows, probed: int) -> list[int]:
    """Returns the rows of the lists whose centroids are nearest to the query, best first, one list after the other."""
    import faiss

    lists: Any = faiss.extract_index_ivf(structure.structure)
    centroids = faiss.downcast_index(lists.quantizer).reconstruct_n(0, lists.nlist)
    rows = []
    for number in sorted(range(lists.nlist), key=lambda one: -float(centroids[one] @ query))[:probed]:
        size = lists.invlists.list_size(number)
        rows += faiss.rev_swig_ptr(lists.invlists.get_ids(number), size).tolist()
    return sorted(rows, key=lambda row: -float(index.embeddings[row] @ query))


@pytest.mark.parametrize("factory", ["Flat", "IVF16,Flat:nprobe=16", "HNSW16:efSearch=600"])
def test_searching_everything_is_exact(index: TeacherIndex, rows: Rows, factory: str) -> None:
    found = build_approximate(index, approximate_spec(factory)).search(rows[:40], 25)
    exact = top_k(rows[:40], index.checked_embeddings, 25)
    np.testing.assert_array_equal(found.rows, exact.rows)
    np.testing.assert_allclose(found.similarities, exact.similarities, atol=1e-6)
    assert (str(found.rows.dtype), str(found.similarities.dtype)) == ("int64", "float32")


@pytest.mark.parametrize("probed", [1, 3])
def test_finds_what_lies_in_the_lists_that_it_probes(
    index: TeacherIndex, lists: ApproximateIndex, rows: Rows, probed: int
) -> None:
    opened = open_approximate(index, approximate_spec(f"IVF16,Flat:nprobe={probed}"))
    found = opened.search(rows[:20], 600)
    for query, (places, similarities) in enumerate(zip(found.rows, found.similarities, strict=True)):
        expected = in_lists(index, lists, rows[query], probed)
        assert places[: len(expected)].tolist() == expected
        assert (places[len(expected) :] == -1).all()  # FAISS found no more
        assert (similarities[len(expected) :] == -np.inf).all()
        np.testing.assert_allclose(similarities[: len(expected)], rows[expected] @ rows[query], atol=1e-6)


@pytest.mark.parametrize(
    "factory", ["IVF8,PQ4np:nprobe=8", "SQ8", "OPQ4_8,IVF8,PQ4x4np:nprobe=4", "HNSW8", "PQ4x4fs,RFlat"]
)
def test_similarities_come_best_first(index: TeacherIndex, rows: Rows, factory: str) -> None:
    found = build_approximate(index, approximate_spec(factory)).search(rows[:30], 10)
    assert ((found.rows >= 0) & (found.rows < 600)).all()
    assert (np.diff(found.similarities) <= 0).all()
    assert all(len(set(places.tolist())) == 10 for places in found.rows)


def test_finds_no_more_rows_than_there_are(index: TeacherIndex, rows: Rows) -> None:
    flat = build_approximate(index, ApproximateSpec("Flat"))
    assert flat.search(rows[:2], 10_000).rows.shape == (2, 600)
    assert flat.search(rows[:0], 5).rows.shape == (0, 5)
    assert sorted(flat.search(rows[:1], 600).rows[0].tolist()) == list(range(600))


def test_more_queries_than_are_asked_at_once(index: TeacherIndex, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    flat = build_approximate(index, ApproximateSpec("Flat"))
    whole = flat.search(rows[:50], 3)
    monkeypatch.setattr("aml_edge.approximate.approximate_index.QUERIES_AT_ONCE", 7)
    np.testing.assert_array_equal(flat.search(rows[:50], 3).rows, whole.rows)


def test_refuses_what_cannot_be_searched(index: TeacherIndex, rows: Rows) -> None:
    flat = build_approximate(index, ApproximateSpec("Flat"))
    with pytest.raises(UsageError, match=r"^`k` is 0; a search finds at least one image\.$"):
        flat.search(rows[:1], 0)
    with pytest.raises(UsageError, match=r"^`query_embeddings` has shape \(1, 15\); it must be \(queries, 16\)\.$"):
        flat.search(rows[:1, :15], 1)
    broken = rows[:3].copy()
    broken[2, 4] = np.nan
    with pytest.raises(UsageError, match=r"^row 2 of `query_embeddings` is not finite; embed that image again\.$"):
        flat.search(broken, 1)


def test_says_how_it_is_searched(index: TeacherIndex) -> None:
    assert build_approximate(index, ApproximateSpec("HNSW8")).description == "HNSW8"
    assert build_approximate(index, ApproximateSpec("IVF8,Flat")).description == "IVF8,Flat:nprobe=1"
    assert build_approximate(index, approximate_spec("IVF9,Flat:nprobe=4")).description == "IVF9,Flat:nprobe=4"
    assert open_approximate(index, ApproximateSpec("IVF9,Flat")).description == "IVF9,Flat:nprobe=4"
    refined = build_approximate(index, approximate_spec("IVF9,SQ4,RFlat:k_factor_rf=4"))
    assert refined.description == "IVF9,SQ4,RFlat:k_factor_rf=4,nprobe=1"


def test_names_what_there_is_where_something_else_is_asked_for(index: TeacherIndex) -> None:
    def asked() -> str:
        with pytest.raises(UsageError) as refused:
            open_approximate(index, approximate_spec("IVF4096,PQ64:nprobe=2"))
        return str(refused.value)

    step = f'make it: `aml-edge index approximate {index.path} --ann "IVF4096,PQ64"`.'
    said = f"`ann` is 'IVF4096,PQ64', which the index {index.path} does not have (it has "
    assert asked() == f"{said}none); {step}"
    for factory in ("SQ8", "Flat"):
        build_approximate(index, ApproximateSpec(factory))
    assert asked() == f"{said}Flat; SQ8); {step}"


def test_without_faiss_it_says_how_to_get_it(index: TeacherIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    build_approximate(index, ApproximateSpec("Flat"))
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'aml-edge\[faiss\]'$"):
        open_approximate(index, ApproximateSpec("Flat"))


def test_refuses_an_approximate_index_of_other_rows(
    write_rows: Callable[..., TeacherIndex], index: TeacherIndex, rows: Rows, tmp_path: Path
) -> None:
    build_approximate(index, ApproximateSpec("Flat"))
    other = write_rows(tmp_path / "other", rows[::-1].copy())
    shutil.copytree(index.path / "approximate", other.path / "approximate")
    with pytest.raises(TeacherIndexError) as refused:
        open_approximate(other, ApproximateSpec("Flat"))
    sha256 = read_record(approximate_path(index.path, "Flat")).embeddings_sha256[:8]
    folder = approximate_path(other.path, "Flat")
    assert str(refused.value) == (f"{folder} was made from other embeddings ({sha256}) than the index holds{NEXT_STEP}")
    in_memory = replace(index, space=replace(index.space, whitening_sha256="b" * 64))
    with pytest.raises(TeacherIndexError, match="was made in another space than that of the index"):
        open_approximate(in_memory, ApproximateSpec("Flat"))


@pytest.mark.parametrize("damage", ["cut", "changed", "longer", "gone", "a folder"])
def test_refuses_a_damaged_file(index: TeacherIndex, lists: ApproximateIndex, damage: str) -> None:
    file = approximate_path(index.path, "IVF16,Flat") / "vectors.faiss"
    content = file.read_bytes()
    middle = len(content) // 2
    changed = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    file.unlink()
    if damage == "a folder":
        file.mkdir()
    elif damage != "gone":
        file.write_bytes({"cut": content[:-1], "changed": changed, "longer": content + b"\0"}[damage])
    with pytest.raises(TeacherIndexError) as refused:
        open_approximate(index, ApproximateSpec("IVF16,Flat"))
    assert str(refused.value).startswith(f"{file} cannot be read: ")
    assert str(refused.value).endswith(NEXT_STEP)
    assert "\n" not in str(refused.value)


def forged(index: TeacherIndex, content: bytes, **changed: object) -> None:
    """Puts other bytes in place of a structure, and a record that vouches for them."""
    import hashlib

    folder = approximate_path(index.path, "IVF16,Flat")
    (folder / "vectors.faiss").write_bytes(content)
    record = read_record(folder)
    vouching = {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), **changed}
    (folder / "record.json").write_text(replace(record, **vouching).dumps())  # type: ignore[arg-type]


def test_a_record_that_vouches_for_something_else_does_not_help(index: TeacherIndex, lists: ApproximateIndex) -> None:
    file = approximate_path(index.path, "IVF16,Flat") / "vectors.faiss"
    content = file.read_bytes()
    forged(index, b"no FAISS file at all")
    with pytest.raises(TeacherIndexError) as refused:
        open_approximate(index, ApproximateSpec("IVF16,Flat"))
    assert str(refused.value).startswith(f"{file} cannot be read: ")
    half = build_approximate(index, ApproximateSpec("IVF4,Flat"))
    half.structure.reset()
    import faiss

    faiss.write_index(half.structure, str(file))
    forged(index, file.read_bytes())
    with pytest.raises(TeacherIndexError, match=r"holds 0 × 16 rows, but record\.json says 600 × 16"):
        open_approximate(index, ApproximateSpec("IVF16,Flat"))
    last = (599).to_bytes(8, "little")
    assert content.count(last) == 1
    forged(index, content.replace(last, (1 << 40).to_bytes(8, "little")))
    found = open_approximate(index, approximate_spec("IVF16,Flat:nprobe=16"))
    with pytest.raises(TeacherIndexError) as refused:
        found.search(index.embeddings[-1:].astype(np.float32), 1)
    assert str(refused.value) == f"{file} finds rows that the index does not have{NEXT_STEP}"


def test_files_made_to_harm_end_well(index: TeacherIndex, lists: ApproximateIndex, rows: Rows) -> None:
    """Three hundred files with a few bytes changed, each with a record that vouches for it."""
    file = approximate_path(index.path, "IVF16,Flat") / "vectors.faiss"
    content, generator = file.read_bytes(), np.random.default_rng(0)
    ended = {"refused": 0, "searched": 0}
    for _ in range(300):
        changed = bytearray(content)
        for place in generator.integers(0, 400, 2):
            changed[place] = generator.choice([0, 1, 127, 128, 255])
        forged(index, bytes(changed))
        try:
            open_approximate(index, approximate_spec("IVF16,Flat:nprobe=16")).search(rows[:2], 5)
            ended["searched"] += 1
        except (TeacherIndexError, UsageError) as problem:
            assert "\n" not in str(problem)
            ended["refused"] += 1
    assert min(ended.values()) > 10
