"""Vectors in a collection of a Qdrant server, read in pages over HTTP."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aml_edge.errors import ForeignIndexError, MissingExtraError, UsageError
from aml_edge.vectors.qdrant_points import (
    COSINE,
    UNNAMED,
    QdrantPoint,
    QdrantVectors,
    block_of,
    choose_vectors,
    require_collection,
)
from aml_edge.vectors.source import SourceDescription, SourceOptions, VectorBlock

API_KEY_VARIABLE = "AML_EDGE_QDRANT_API_KEY"
TIMEOUT_SECONDS = 60
PAGE_VALUES = 1 << 19
"""Numbers in a page; as JSON, about 10 MB."""
NOT_FOUND, REFUSED = 404, (401, 403)
_SCHEMES = ("http", "https")
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


class QdrantServer:
    """A VectorSource over a collection of a server; the key, where it asks for one, comes from the environment.

    Args:
        location: the server's URL.
        options: `collection`, and where needed `vector_name` and `id_field`.

    Raises:
        ForeignIndexError: the server cannot be reached, refuses, or has no such vectors.
        UsageError: the URL or a name cannot be used.
        MissingExtraError: Qdrant's client is not installed.
    """

    files: Sequence[Path] = ()

    def __init__(self, location: str, options: SourceOptions) -> None:
        key = os.environ.get(API_KEY_VARIABLE)
        _require_safe(location, key)
        try:
            from qdrant_client import QdrantClient
            from qdrant_client.http.exceptions import ApiException
        except ImportError:
            raise MissingExtraError("qdrant-client", "qdrant", "reading a collection of a Qdrant server") from None
        self._url, self._errors = location, (ApiException, OSError, ValueError)
        with self._asking(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a key over HTTP on this machine; elsewhere it is refused above
            self._client: Any = QdrantClient(
                url=location, api_key=key, timeout=TIMEOUT_SECONDS, check_compatibility=False
            )
        try:
            self._vectors, count = self._find(options)
        except BaseException:
            self.close()
            raise
        self.description = SourceDescription(
            kind=self._vectors.kind,
            name=f"{urlsplit(location).hostname}/{self._vectors.collection}",
            count=count,
            dimension=self._vectors.size,
            dtype=self._vectors.dtype,
            has_ids=True,
            normalises=self._vectors.distance == COSINE,
        )

    def blocks(self) -> Iterator[VectorBlock]:
        """Yields the points' rows and ids, in the order of the points' own ids."""
        vectors, offset = self._vectors, None
        while True:
            with self._asking():
                records, offset = self._client.scroll(
                    vectors.collection,
                    limit=max(1, PAGE_VALUES // vectors.size),
                    offset=offset,
                    with_payload=False if vectors.id_field is None else [vectors.id_field],
                    with_vectors=True if vectors.name == UNNAMED else [vectors.name],
                )
            if records:
                yield block_of([QdrantPoint(one.id, one.vector, one.payload) for one in records], vectors)
            if offset is None or not records:
                return

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()

    def _find(self, options: SourceOptions) -> tuple[QdrantVectors, int]:
        """Returns which vectors are meant, and how many points there are."""
        with self._asking():
            declared = None if options.collection is None else self._declared(options.collection)
        if declared is None:
            with self._asking():
                names = [one.name for one in self._client.get_collections().collections]
            require_collection(options, names, self._url)
        collection = str(options.collection)
        vectors = choose_vectors(collection, declared or {}, options)
        with self._asking():
            count = int(self._client.count(collection, exact=True).count)
        if not count:
            raise ForeignIndexError(f"the collection '{collection}' of {self._url} has no point; name another one.")
        return vectors, count

    def _declared(self, collection: str) -> dict[str, Mapping[str, object]] | None:
        """Returns what a collection says of its vectors, by name, or None where there is none of that name."""
        try:
            return _as_mappings(self._client.get_collection(collection).config.params.vectors)
        except self._errors as problem:
            if getattr(problem, "status_code", None) != NOT_FOUND:
                raise
            return None

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except self._errors as problem:
            status = getattr(problem, "status_code", None)
            reason = f"it answers {status}" if status is not None else " ".join(str(problem).split())
            step = f"set {API_KEY_VARIABLE} to its key" if status in REFUSED else "check the URL, and that it runs"
            raise ForeignIndexError(f"the Qdrant server {self._url} gives no points: {reason}; {step}.") from None


def is_qdrant_server(location: str) -> bool:
    """Whether a location is a URL."""
    return urlsplit(location).scheme in _SCHEMES


def _require_safe(location: str, key: str | None) -> None:
    url = urlsplit(location)
    if url.username or url.password or url.query:
        raise UsageError(
            f"the URL of {url.hostname} holds a name, a password or parameters, which others could see; give the URL "
            f"alone, and the key in the environment as {API_KEY_VARIABLE}."
        )
    if key and url.scheme == "http" and url.hostname not in _THIS_MACHINE:
        raise UsageError(
            f"{API_KEY_VARIABLE} is set, and {location} would send it in clear; give an https URL, or unset it."
        )


def _as_mappings(declared: Any) -> dict[str, Mapping[str, object]]:
    """Returns what a collection says of its vectors, by name; its client has a model for one kind, a dict for many."""
    kinds = declared if isinstance(declared, Mapping) else {} if declared is None else {UNNAMED: declared}
    return {
        name: {
            "size": kind.size,
            "distance": str(kind.distance.value),
            "datatype": None if kind.datatype is None else str(kind.datatype.value),
            "multivector_config": kind.multivector_config,
        }
        for name, kind in kinds.items()
    }
