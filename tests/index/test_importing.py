"""Vectors of other tools become an index: whole, checked, or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from aml_edge.datasets.image_source import image_source
from aml_edge.embedder import Embedder, FakeEmbedder
from aml_edge.errors import ForeignIndexError, SpaceMismatchError, TeacherIndexError, UsageError
from aml_edge.index import TeacherIndex, open_index
from aml_edge.index.building import build_index
from aml_edge.index.declared_space import DeclaredSpace
from aml_edge.index.import_ids import GivenIds
from aml_edge.index.import_record import ImageCheck, ImportRecord
from aml_edge.index.importing import ImportOptions, import_index
from aml_edge.index.verification import verify_index
from aml_edge.networks.whitening import Whitening
from aml_edge.preprocessing import Preprocessing
from aml_edge.space import EmbeddingSpace
from aml_edge.vectors.npy_vectors import NpyVectors
from aml_edge.vectors.source import SourceOptions, VectorDtype

COUNT, DIMENSION = 24, 8
SPACE = EmbeddingSpace("toy", "a" * 64, DIMENSION)
DECLARED = DeclaredSpace(SPACE, Preprocessing(32))
DEFAULT_IDS = tuple(f"{number:02}.png" for number in range(COUNT))


def embedder(preprocessing: Preprocessing = DECLARED.preprocessing) -> Embedder:
    return FakeEmbedder(SPACE, preprocessing)


def given(ids: Sequence[str] = DEFAULT_IDS) -> GivenIds:
    return GivenIds(Path("ids.txt"), tuple(ids))


def refused(tmp_path: Path, kind: type[Exception], source: Any, options: ImportOptions, **more: Any) -> str:
    """Returns the message of an import that fails; asserts that it leaves nothing."""
    with pytest.raises(kind) as refusal:
        import_index(source, more.get("declared", DECLARED), tmp_path / "ix", options)
    assert not list(tmp_path.glob("ix*"))
    return str(refusal.value)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_rows_ids_and_record_are_written(
    tmp_path: Path, toy_rows: npt.NDArray[np.float32], progress: Any, dtype: VectorDtype
) -> None:
    np.save(tmp_path / "team.npy", toy_rows.astype(dtype))
    source = NpyVectors(str(tmp_path / "team.npy"), SourceOptions())
    index = import_index(source, DECLARED, tmp_path / "ix", ImportOptions(given()), progress=progress)
    assert index.ids == DEFAULT_IDS
    assert index.embeddings.dtype == ("float16" if dtype == "float16" else "float32")
    assert index.embeddings.tolist() == toy_rows.astype(dtype).astype(index.embeddings.dtype).tolist()
    assert (index.space, index.preprocessing, index.images_sha256) == (SPACE, DECLARED.preprocessing, None)
    sha256 = hashlib.sha256((tmp_path / "team.npy").read_bytes()).hexdigest()
    assert index.imported == ImportRecord("NumPy array", "team.npy", sha256, dtype, False, False, None)
    checks = verify_index(index.path).checks
    assert [check.holds for check in checks] == [True, True, True, True, None]
    assert checks[-1].found == "not known: an imported index does not say it"
    assert progress.announced == [("hashing, MiB", 1), ("importing", COUNT)]
    assert progress.done == 1 + COUNT
    assert not (tmp_path / "ix.partial").exists()


def test_it_equals_the_index_that_the_teacher_builds(
    array_source: Any, tmp_path: Path, toy_images: Path, toy_rows: npt.NDArray[np.float32]
) -> None:
    built = build_index(embedder(), image_source(toy_images), tmp_path / "built")
    imported = import_index(array_source(toy_rows, DEFAULT_IDS), DECLARED, tmp_path / "ix")
    assert imported.ids == built.ids
    assert (imported.embeddings == built.embeddings).all()
    assert imported.space.fingerprint == built.space.fingerprint
    for file in ("embeddings.npy", "ids.txt"):
        assert (imported.path / file).read_bytes() == (built.path / file).read_bytes()


def test_a_whitening_is_kept_with_it(array_source: Any, tmp_path: Path, toy_rows: npt.NDArray[np.float32]) -> None:
    layer = Whitening(torch.zeros(12), torch.rand(DIMENSION, 12, generator=torch.Generator().manual_seed(0)))
    space = replace(SPACE, whitening_sha256=layer.sha256)
    declared = DeclaredSpace(space, Preprocessing(32), (1.0, 0.5), layer)
    index = import_index(array_source(toy_rows), declared, tmp_path / "ix", ImportOptions(given()))
    assert index.whitening is not None
    assert index.whitening.projection.tolist() == layer.projection.tolist()
    assert (index.space, index.scales) == (space, (1.0, 0.5))
    assert index.space_before_whitening.dimension == 12


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_rows_of_any_length_are_scaled_where_asked(
    array_source: Any, tmp_path: Path, toy_rows: npt.NDArray[np.float32], dtype: VectorDtype
) -> None:
    lengths = np.geomspace(0.01, 500, COUNT)[:, np.newaxis]
    stored = (toy_rows * lengths).astype(dtype)
    options = ImportOptions(given(), normalise=True)
    index = import_index(array_source(stored), DECLARED, tmp_path / "ix", options)
    expected = stored.astype(np.float64) / np.linalg.norm(stored.astype(np.float64), axis=1, keepdims=True)
    assert index.embeddings.tolist() == expected.astype(index.embeddings.dtype).tolist()
    assert index.imported is not None
    assert index.imported.normalised is True
    assert len(index.checked_embeddings[:]) == COUNT


def test_rows_of_another_length_are_counted_and_named(
    array_source: Any, tmp_path: Path, toy_rows: npt.NDArray[np.float32]
) -> None:
    stored = toy_rows.copy()
    stored[[3, 17, 20]] *= 1.01
    assert refused(tmp_path, ForeignIndexError, array_source(stored), ImportOptions(given())) == (
        "3 of 24 vectors of team are not of unit length (03.png, 17.png, 20.png); pass --normalise to have them "
        "scaled, which changes what an inner product ranks and nothing that a cosine does."
    )


def test_an_import_that_lacks_images_says_how_its_ids_begin(
    array_source: Any, tmp_path: Path, toy_rows: npt.NDArray[np.float32]
) -> None:
    index = import_index(array_source(toy_rows), DECLARED, tmp_path / "ix", ImportOptions(given()))
    with pytest.raises(TeacherIndexError) as refusal:
        index.rows_of(["jpg/00.png"])
    assert str(refusal.value) == (
        f"index {tmp_path / 'ix'} lacks 1 of 1 images (jpg/00.png); its first id is '00.png': import it with ids like "
        "theirs: `aml-edge index import`."
    )


def test_rows_that_are_approximations_are_said_to_be(
    array_source: Any, tmp_path: Path, toy_rows: npt.NDArray[np.float32]
) -> None:
    source = array_source(toy_rows * np.float32(1.01))
    source.description = replace(source.description, approximate=True)
    assert refused(tmp_path, ForeignIndexError, source, ImportOptions(given())).endswith(
        ", …); FAISS kept only approximations of them: import what was added to it, or pass --normalise to have them "
        "scaled, which changes what an inner product ranks and nothing that a cosine does."
    )


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_rows_that_no_image_has_are_counted_and_named(
    array_source: Any, tmp_path: Path, toy_rows: npt.NDArray[np.float32], value: float, normalise: bool
) -> None:
    stored = toy_rows.copy()
    stored[[2, 23]] = value
    options = ImportOptions(given(), normalise=normalise)
    assert refused(tmp_path, ForeignIndexError, array_source(stored), options) == (
        "2 of 24 vectors of team are zero or not finite (02.png, 23.png); no image has such an embedding: leave them "
        "out, and their ids."
    )


def test_another_dimension_names_both_sides(array_source: Any, tmp_path: Path) -> None:
    source = array_source(np.eye(3, 5, dtype=np.float32))
    assert refused(tmp_path, SpaceMismatchError, source, ImportOptions(given("abc"))) == (
        "team holds vectors of 5 values, but the declared space is toy (aaaaaaaa), 8-D, no whitening; name the teacher "
        "that made them and, where they were whitened, the whitening."
    )
    turned = array_source(np.eye(DIMENSION, 5, dtype=np.float32))
    message = refused(tmp_path, SpaceMismatchError, turned, ImportOptions(given("abcde")))
    assert message.endswith("; it holds one vector a column: save its transpose.")


def test_what_is_not_known_is_asked_for_before_anything_is_read(
    array_source: Any, tmp_path: Path, toy_rows: npt.NDArray[np.float32]
) -> None:
    assert "does not say which vector is which image's" in refused(
        tmp_path, UsageError, array_source(toy_rows), ImportOptions()
    )


def test_ids_that_come_twice_are_refused(array_source: Any, tmp_path: Path, toy_rows: npt.NDArray[np.float32]) -> None:
    ids = (*DEFAULT_IDS[:-1], DEFAULT_IDS[0])
    assert "'00.png' comes twice" in refused(tmp_path, TeacherIndexError, array_source(toy_rows, ids), ImportOptions())


@pytest.mark.parametrize("claimed", [COUNT - 1, COUNT + 1])
def test_a_source_that_changes_meanwhile_is_refused(
    array_source: Any, tmp_path: Path, toy_rows: npt.NDArray[np.float32], claimed: int
) -> None:
    source = array_source(toy_rows, DEFAULT_IDS, claimed)
    assert refused(tmp_path, ForeignIndexError, source, ImportOptions()) == (
        f"team gave 24 vectors after it had said {claimed}; import it when nothing else writes to it."
    )


def test_an_index_is_never_written_over(array_source: Any, tmp_path: Path, toy_rows: npt.NDArray[np.float32]) -> None:
    (tmp_path / "ix").mkdir()
    (tmp_path / "ix" / "thesis.txt").write_text("precious")
    with pytest.raises(TeacherIndexError) as refusal:
        import_index(array_source(toy_rows, DEFAULT_IDS), DECLARED, tmp_path / "ix")
    assert str(refusal.value) == (
        f"{tmp_path / 'ix'} is there already, and an index is never written over; remove it to import again, or give "
        "another --out."
    )
    assert [path.name for path in tmp_path.rglob("*")] == ["ix", "thesis.txt"]


def test_what_a_killed_import_left_is_removed(
    array_source: Any, tmp_path: Path, toy_rows: npt.NDArray[np.float32]
) -> None:
    left = tmp_path / "ix.partial" / "import"
    left.mkdir(parents=True)
    (left / "embeddings.npy").write_bytes(b"half")
    (tmp_path / "ix.partial" / "lock").touch()
    index = import_index(array_source(toy_rows, DEFAULT_IDS), DECLARED, tmp_path / "ix")
    assert len(index.ids) == COUNT
    assert [path.name for path in tmp_path.iterdir()] == ["ix"]


def test_something_else_in_the_way_stays(array_source: Any, tmp_path: Path, toy_rows: npt.NDArray[np.float32]) -> None:
    (tmp_path / "ix.partial").mkdir()
    (tmp_path / "ix.partial" / "plan.json").write_text("{}")
    with pytest.raises(TeacherIndexError) as refusal:
        import_index(array_source(toy_rows, DEFAULT_IDS), DECLARED, tmp_path / "ix")
    assert str(refusal.value) == (
        f"{tmp_path / 'ix.partial'} is in the way, and no unfinished import (plan.json in it); finish or remove what "
        "it is, or give another --out."
    )
    assert (tmp_path / "ix.partial" / "plan.json").read_text() == "{}"


def test_a_record_says_what_the_source_does_to_rows(
    array_source: Any, tmp_path: Path, toy_rows: npt.NDArray[np.float32]
) -> None:
    source = array_source(toy_rows, DEFAULT_IDS, approximate=True, normalises=True)
    imported: TeacherIndex = import_index(source, DECLARED, tmp_path / "ix")
    assert imported.imported == ImportRecord("array", "team", None, "float32", True, True)
    assert open_index(tmp_path / "ix").imported == imported.imported
    assert ImageCheck(1, 0.99, 1.0, 1.0) != imported.imported.check
