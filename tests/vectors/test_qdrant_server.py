"""Vectors of a Qdrant server: a small stand-in on this machine that speaks what Qdrant's client asks for over HTTP."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from aml_edge.errors import ForeignIndexError, MissingExtraError, UsageError
from aml_edge.vectors import qdrant_server
from aml_edge.vectors.qdrant_server import QdrantServer
from aml_edge.vectors.source import SourceOptions

CONFIG = {
    "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000},
    "optimizer_config": {
        "deleted_threshold": 0.2,
        "vacuum_min_vector_number": 1000,
        "default_segment_number": 0,
        "flush_interval_sec": 5,
    },
    "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0},
}


class QdrantStandIn(ThreadingHTTPServer):
    """Answers for one collection, `images`.

    Args:
        points: id, vector or vectors by name, payload.
        vectors: what the collection says of its vectors.
        key: that requests must carry.
    """

    daemon_threads = True

    def __init__(self, points: list[dict[str, Any]], vectors: dict[str, Any], key: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.points, self.vectors, self.key = points, vectors, key
        self.scrolled: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: QdrantStandIn

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        if self.path == "/collections":
            return self._answer({"collections": [{"name": "images"}]})
        if self.path == "/collections/images":
            info = {
                "status": "green",
                "optimizer_status": "ok",
                "segments_count": 1,
                "config": {"params": {"vectors": self.server.vectors}, **CONFIG},
                "payload_schema": {},
            }
            return self._answer(info)
        return self._answer(None, 404)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.partition("?")[0] == "/collections/images/points/count":
            return self._answer({"count": len(self.server.points)})
        assert self.path.partition("?")[0] == "/collections/images/points/scroll"
        self.server.scrolled.append(asked)
        start = next((n for n, one in enumerate(self.server.points) if one["id"] == asked.get("offset")), 0)
        page = self.server.points[start : start + asked["limit"]]
        left = self.server.points[start + asked["limit"] :]
        return self._answer({"points": page, "next_page_offset": left[0]["id"] if left else None})

    def _answer(self, result: object, status: int = 200) -> None:
        if self.server.key is not None and self.headers.get("api-key") != self.server.key:
            result, status = None, 401
        content = json.dumps({"result": result, "status": "ok", "time": 0.0}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., QdrantStandIn]]:
    """Returns a function that starts a stand-in; all of them end with the test."""
    monkeypatch.delenv(qdrant_server.API_KEY_VARIABLE, raising=False)
    started: list[QdrantStandIn] = []

    def start(points: list[dict[str, Any]], vectors: dict[str, Any], key: str | None = None) -> QdrantStandIn:
        server = QdrantStandIn(points, vectors, key)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


@pytest.fixture
def points(vectors: npt.NDArray[np.float32], names: tuple[str, ...]) -> list[dict[str, Any]]:
    return [
        {"id": number, "vector": vectors[number].tolist(), "payload": {"file": names[number]}} for number in range(7)
    ]


UNNAMED = {"size": 4, "distance": "Dot"}


def options(**more: str) -> SourceOptions:
    return SourceOptions(**{"collection": "images", **more})


def test_points_come_in_pages(
    serving: Callable[..., QdrantStandIn],
    points: list[dict[str, Any]],
    vectors: npt.NDArray[np.float32],
    names: tuple[str, ...],
    read_all: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(qdrant_server, "PAGE_VALUES", 12)
    server = serving(points, UNNAMED)
    read = read_all(QdrantServer(server.url, options(id_field="file")))
    assert (read.rows == vectors).all()
    assert (read.ids, read.blocks) == (names, (3, 3, 1))
    assert read.description.name == "127.0.0.1/images"
    assert read.description.kind == "Qdrant collection, inner product"
    assert [asked["limit"] for asked in server.scrolled] == [3, 3, 3]
    assert server.scrolled[0]["with_payload"] == ["file"]
    assert read_all(QdrantServer(server.url, options())).ids == tuple("0123456")
    assert server.scrolled[-1]["with_payload"] is False


def test_named_vectors_are_asked_for_by_name(
    serving: Callable[..., QdrantStandIn], points: list[dict[str, Any]], read_all: Callable[..., Any]
) -> None:
    named = [{**one, "vector": {"teacher": one["vector"]}} for one in points]
    vectors = {"teacher": {"size": 4, "distance": "Cosine", "datatype": "float16"}, "text": UNNAMED}
    server = serving(named, vectors)
    read = read_all(QdrantServer(server.url, options(vector_name="teacher")))
    assert read.rows.tolist() == np.array([one["vector"] for one in points], np.float16).tolist()
    assert (read.description.normalises, read.description.dtype) == (True, "float16")
    assert server.scrolled[0]["with_vector"] == ["teacher"]


def test_the_key_comes_from_the_environment(
    serving: Callable[..., QdrantStandIn],
    points: list[dict[str, Any]],
    read_all: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    recwarn: pytest.WarningsRecorder,
) -> None:
    server = serving(points, UNNAMED, "secret")
    with pytest.raises(ForeignIndexError) as refusal:
        QdrantServer(server.url, options())
    assert str(refusal.value) == (
        f"the Qdrant server {server.url} gives no points: it answers 401; set AML_EDGE_QDRANT_API_KEY to its key."
    )
    monkeypatch.setenv(qdrant_server.API_KEY_VARIABLE, "secret")
    assert len(read_all(QdrantServer(server.url, options())).rows) == 7
    assert [str(one.message) for one in recwarn] == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (
            "http://team.example:6333",
            "AML_EDGE_QDRANT_API_KEY is set, and http://team.example:6333 would send it in clear; give an https URL, "
            "or unset it.",
        ),
        (
            "https://me:secret@team.example",
            "the URL of team.example holds a name, a password or parameters, which others could see; give the URL "
            "alone, and the key in the environment as AML_EDGE_QDRANT_API_KEY.",
        ),
        ("https://team.example?api-key=secret", "the URL of team.example holds a name, a password or parameters"),
    ],
)
def test_secrets_go_nowhere_else(monkeypatch: pytest.MonkeyPatch, url: str, said: str) -> None:
    monkeypatch.setenv(qdrant_server.API_KEY_VARIABLE, "key")
    with pytest.raises(UsageError) as refusal:
        QdrantServer(url, options())
    assert str(refusal.value).startswith(said)
    assert "secret" not in str(refusal.value)


def test_names_that_are_not_there(serving: Callable[..., QdrantStandIn], points: list[dict[str, Any]]) -> None:
    server = serving(points, UNNAMED)
    for asked, said in (
        (SourceOptions(), f"{server.url} is Qdrant's; name the collection with --collection (images)."),
        (
            SourceOptions(collection="texts"),
            f"`collection` is 'texts', which {server.url} does not have (images).",
        ),
    ):
        with pytest.raises(UsageError) as refusal:
            QdrantServer(server.url, asked)
        assert str(refusal.value) == said


def test_a_collection_of_nothing(serving: Callable[..., QdrantStandIn]) -> None:
    server = serving([], UNNAMED)
    with pytest.raises(ForeignIndexError, match=r"the collection 'images' of .* has no point; name another one"):
        QdrantServer(server.url, options())


def test_a_collection_without_dense_vectors(serving: Callable[..., QdrantStandIn]) -> None:
    server = serving([], {})
    with pytest.raises(ForeignIndexError, match="the collection 'images' has no dense vectors; name another one"):
        QdrantServer(server.url, options())


def test_no_server_is_one_line(serving: Callable[..., QdrantStandIn]) -> None:
    server = serving([], UNNAMED)
    server.shutdown()
    server.server_close()
    with pytest.raises(ForeignIndexError) as refusal:
        QdrantServer(server.url, options())
    assert str(refusal.value).startswith(f"the Qdrant server {server.url} gives no points: ")
    assert str(refusal.value).endswith("; check the URL, and that it runs.")


def test_without_the_client_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    with pytest.raises(MissingExtraError, match=r"needs qdrant-client.*pip install 'aml-edge\[qdrant\]'"):
        QdrantServer("http://localhost:6333", options())
