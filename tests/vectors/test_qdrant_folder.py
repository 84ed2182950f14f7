"""Vectors of a folder of Qdrant's local mode, written by Qdrant's own client; folders not to be trusted."""

from __future__ import annotations

import json
import pickle
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pytest
from qdrant_client import QdrantClient, models

from aml_edge.errors import ForeignIndexError, UsageError
from aml_edge.vectors.qdrant_folder import QdrantFolder, is_qdrant_folder
from aml_edge.vectors.source import SourceOptions

SIZE = 4
COSINE, DOT = models.Distance.COSINE, models.Distance.DOT


@pytest.fixture
def client(tmp_path: Path) -> Iterator[QdrantClient]:
    """A client whose folder is `tmp_path / "store"`."""
    with closing(QdrantClient(path=str(tmp_path / "store"))) as opened:
        yield opened


def create(client: QdrantClient, name: str, distance: models.Distance = DOT, **more: Any) -> None:
    client.create_collection(name, vectors_config=models.VectorParams(size=SIZE, distance=distance, **more))


def opened(tmp_path: Path, collection: str | None = "images", **options: str) -> QdrantFolder:
    assert is_qdrant_folder(str(tmp_path / "store"))
    return QdrantFolder(str(tmp_path / "store"), SourceOptions(collection=collection, **options))


def told(client: QdrantClient, collection: str, name: str | None = None) -> dict[str, list[float]]:
    """Returns what Qdrant's client itself gives: vectors by id."""
    records, _ = client.scroll(collection, limit=100, with_vectors=True)
    return {str(one.id): one.vector if name is None else one.vector[name] for one in records}


@pytest.mark.parametrize("distance", [COSINE, DOT])
@pytest.mark.usefixtures("three_rows_at_once")
def test_rows_are_those_of_qdrant_s_own_client(
    tmp_path: Path,
    client: QdrantClient,
    vectors: npt.NDArray[np.float32],
    names: tuple[str, ...],
    read_all: Callable[..., Any],
    distance: models.Distance,
) -> None:
    create(client, "images", distance)
    payloads = [{"file": one, "views": [1, {"at": None}]} for one in names]
    client.upload_collection("images", vectors[:4], payload=payloads[:4], ids=list(range(4)))
    points = [
        models.PointStruct(id=str(UUID(int=number)), vector=vectors[number].tolist(), payload=payloads[number])
        for number in range(4, 7)
    ]
    client.upsert("images", points)
    expected = told(client, "images")
    client.close()
    read = read_all(opened(tmp_path))
    assert read.ids == ("0", "1", "2", "3", *(str(UUID(int=number)) for number in range(4, 7)))
    assert read.blocks == (3, 3, 1)
    np.testing.assert_allclose(read.rows, [expected[one] for one in read.ids], rtol=0, atol=1e-7)  # float32 twice
    if distance == DOT:
        assert (read.rows == vectors).all()
    assert read.description.normalises is (distance == COSINE)
    assert read.description.name == "store/images"
    assert read.description.kind == f"Qdrant collection, {'cosine' if distance == COSINE else 'inner product'}"
    assert read_all(opened(tmp_path, id_field="file")).ids == names


def test_a_named_vector_and_float16_and_an_alias(
    tmp_path: Path, client: QdrantClient, vectors: npt.NDArray[np.float32], read_all: Callable[..., Any]
) -> None:
    half = models.VectorParams(size=SIZE, distance=DOT, datatype=models.Datatype.FLOAT16)
    other = models.VectorParams(size=2, distance=COSINE)
    sparse = {"words": models.SparseVectorParams()}
    client.create_collection("images", vectors_config={"teacher": half, "text": other}, sparse_vectors_config=sparse)
    words = models.SparseVector(indices=[3], values=[0.5])
    for number in range(7):
        vector = {"teacher": vectors[number], "text": [1.0, 0.0], "words": words}
        client.upsert("images", [models.PointStruct(id=number, vector=vector)])
    client.update_vectors("images", [models.PointVectors(id=2, vector={"teacher": (-vectors[2]).tolist()})])
    client.update_collection_aliases(
        [models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name="images", alias_name="live"))]
    )
    client.close()
    read = read_all(opened(tmp_path, "live", vector_name="teacher"))
    expected = vectors.astype(np.float16)
    expected[2] *= -1
    assert sorted(read.ids) == list("0123456")
    assert read.rows[np.argsort(read.ids)].tolist() == expected.tolist()
    assert read.description.kind == "Qdrant collection, vectors 'teacher', inner product"
    with pytest.raises(UsageError) as several:
        opened(tmp_path)
    assert str(several.value) == (
        "the collection 'images' has vectors of several names (teacher, text); give one with --vector-name."
    )
    with pytest.raises(UsageError, match=r"`vector_name` is 'words', which the collection 'images' does not have \(te"):
        opened(tmp_path, vector_name="words")


def test_the_collection_must_be_named(tmp_path: Path, client: QdrantClient) -> None:
    create(client, "images")
    create(client, "texts")
    client.close()
    store = tmp_path / "store"
    for collection, said in (
        (None, f"{store} is Qdrant's; name the collection with --collection (images, texts)."),
        ("../images", f"`collection` is '../images', which {store} does not have (images, texts)."),
    ):
        with pytest.raises(UsageError) as refusal:
            opened(tmp_path, collection)
        assert str(refusal.value) == said
    with pytest.raises(ForeignIndexError) as empty:
        opened(tmp_path)
    assert str(empty.value) == f"the collection 'images' of {store} has no point; name another one."


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"datatype": models.Datatype.UINT8}, "has vectors of 4 uint8; an index takes one vector a point"),
        (
            {"multivector_config": models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)},
            "has vectors of 4 float32, several a point; an index takes one",
        ),
    ],
)
def test_other_vectors_are_refused(tmp_path: Path, client: QdrantClient, more: dict[str, Any], said: str) -> None:
    create(client, "images", **more)
    client.close()
    with pytest.raises(ForeignIndexError) as refusal:
        opened(tmp_path)
    assert said in str(refusal.value)


def test_points_without_vector_or_field_are_named(
    tmp_path: Path, client: QdrantClient, read_all: Callable[..., Any]
) -> None:
    named = {"teacher": models.VectorParams(size=SIZE, distance=DOT)}
    client.create_collection("images", vectors_config=named)
    client.upsert("images", [models.PointStruct(id=5, vector={}, payload={"file": 1.5})])
    client.close()
    with pytest.raises(ForeignIndexError) as refusal:
        read_all(opened(tmp_path))
    assert str(refusal.value) == (
        "the point 5 of the collection 'images' has no vector of 4 numbers 'teacher'; delete such points from a copy "
        "of it, or name other ones."
    )


def test_a_payload_without_the_field_is_named(
    tmp_path: Path, client: QdrantClient, read_all: Callable[..., Any]
) -> None:
    create(client, "images")
    client.upsert("images", [models.PointStruct(id=5, vector=[1.0] * SIZE, payload={"file": 1.5})])
    client.close()
    for field in ("file", "path"):
        with pytest.raises(ForeignIndexError) as refusal:
            read_all(opened(tmp_path, id_field=field))
        assert str(refusal.value) == (
            f"the point 5 of the collection 'images' has no text or whole number in the field '{field}' of its payload "
            "(file); delete such points from a copy of it, or name other ones."
        )


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (pytest.fail, ("a pickle was executed",))


def stored(tmp_path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(tmp_path / "store" / "collection" / "images" / "storage.sqlite")) as storage:
        storage.execute(statement, values)
        storage.commit()


def replaced(content: object) -> Callable[[Path], None]:
    return lambda tmp_path: stored(tmp_path, "UPDATE points SET point = ?", content)


def viewed(tmp_path: Path) -> None:
    stored(tmp_path, "DROP TABLE points")
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT i AS point FROM n"
    stored(tmp_path, f"CREATE VIEW points AS {endless}")


def meta(text: str) -> Callable[[Path], object]:
    return lambda tmp_path: (tmp_path / "store" / "meta.json").write_text(text)


def escaping(tmp_path: Path) -> None:
    """Lets an alias lead out of the folder."""
    file = tmp_path / "store" / "meta.json"
    content = json.loads(file.read_text())
    content["collections"]["../../x"] = content["collections"].pop("images")
    file.write_text(json.dumps({**content, "aliases": {"images": "../../x"}}))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "hostile": (replaced(pickle.dumps(Bomb())), "holds a point that asks for "),
    "text": (replaced("text"), "a point is no pickle"),
    "no pickle": (replaced(b"text"), "a point cannot be read ("),
    "a list": (replaced(pickle.dumps([1])), "a point is something else"),
    "a view": (viewed, "storage.sqlite has no table of points"),
    "no table": (lambda tmp_path: stored(tmp_path, "DROP TABLE points"), "storage.sqlite has no table of points"),
    "no database": (
        lambda tmp_path: (tmp_path / "store" / "collection" / "images" / "storage.sqlite").write_text("x" * 999),
        "file is not a database",
    ),
    "no storage": (
        lambda tmp_path: (tmp_path / "store" / "collection" / "images" / "storage.sqlite").unlink(),
        "collection/images/storage.sqlite is not there",
    ),
    "an alias out of it": (escaping, "collection/../../x/storage.sqlite is not there"),
    "no JSON": (meta("{"), "cannot be read as a folder of Qdrant's local mode: Expecting"),
    "a list as meta": (meta("[]"), "meta.json does not name its collections"),
    "a broken collection": (meta('{"collections": {"images": 7}}'), "meta.json does not say what 'images' is"),
    "an alias of nothing": (
        meta('{"collections": {}, "aliases": {"images": "gone"}}'),
        "meta.json does not say what 'gone' is",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE.keys())
def test_folders_that_are_not_to_be_trusted(
    tmp_path: Path,
    client: QdrantClient,
    read_all: Callable[..., Any],
    damage: Callable[[Path], object],
    message: str,
) -> None:
    create(client, "images")
    client.upsert("images", [models.PointStruct(id=5, vector=[1.0] * SIZE)])
    client.close()
    damage(tmp_path)
    with pytest.raises(ForeignIndexError) as refusal:
        read_all(opened(tmp_path))
    assert message in str(refusal.value)
    assert str(refusal.value).startswith(str(tmp_path / "store"))


def test_nothing_is_written_into_the_folder(tmp_path: Path, client: QdrantClient, read_all: Callable[..., Any]) -> None:
    create(client, "images")
    client.upsert("images", [models.PointStruct(id=5, vector=[1.0] * SIZE)])
    client.close()
    before = {file: file.read_bytes() for file in (tmp_path / "store").rglob("*") if file.is_file()}
    read_all(opened(tmp_path))
    assert {file: file.read_bytes() for file in (tmp_path / "store").rglob("*") if file.is_file()} == before
