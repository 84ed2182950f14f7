"""What the two ways to read a Qdrant collection share: which vectors are meant, and blocks of rows from its points."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aml_edge.errors import ForeignIndexError, UsageError
from aml_edge.vectors.source import SourceOptions, VectorBlock, VectorDtype

UNNAMED = ""
COSINE = "Cosine"
_METRICS = {COSINE: "cosine", "Dot": "inner product", "Euclid": "L2", "Manhattan": "L1"}


@dataclass(frozen=True)
class QdrantPoint:
    """A point of a collection, as it came: nothing of it is known to be right.

    Args:
        point_id: its number or UUID.
        vector: a list, or lists by name.
        payload: what is kept with it.
    """

    point_id: object
    vector: object
    payload: object


@dataclass(frozen=True)
class QdrantVectors:
    """Which vectors of a collection are meant.

    Args:
        collection: the collection's name.
        name: of the vectors, or `UNNAMED`.
        size: D.
        distance: as Qdrant calls it.
        dtype: in which it keeps them.
        id_field: of the payload, where a point's id is there; else the point's own counts.
    """

    collection: str
    name: str
    size: int
    distance: str
    dtype: VectorDtype
    id_field: str | None

    @property
    def kind(self) -> str:
        """What they are, in words."""
        named = f", vectors '{self.name}'" if self.name else ""
        return f"Qdrant collection{named}, {_METRICS.get(self.distance, self.distance)}"


def require_collection(options: SourceOptions, names: Iterable[str], where: str) -> str:
    """Returns the collection that is meant; raises `UsageError` where it is not named or not there."""
    held = ", ".join(sorted(names)) or "it has none"
    if options.collection is None:
        raise UsageError(f"{where} is Qdrant's; name the collection with --collection ({held}).")
    if options.collection not in names:
        raise UsageError(f"`collection` is '{options.collection}', which {where} does not have ({held}).")
    return options.collection


def choose_vectors(
    collection: str, declared: Mapping[str, Mapping[str, object]], options: SourceOptions
) -> QdrantVectors:
    """Returns which vectors are meant.

    Args:
        collection: its name.
        declared: by the name of the vectors, what the collection says of them: size, distance, datatype.
        options: `vector_name` names them, found by themselves where there is one kind.

    Raises:
        UsageError: the name names nothing, or several could be meant.
        ForeignIndexError: these are no vectors of floating-point numbers, or there are none.
    """
    held = ", ".join(sorted(name or "without a name" for name in declared)) or "none"
    wanted = options.vector_name
    if wanted is not None and wanted not in declared:
        raise UsageError(f"`vector_name` is '{wanted}', which the collection '{collection}' does not have ({held}).")
    if wanted is None and len(declared) > 1:
        raise UsageError(
            f"the collection '{collection}' has vectors of several names ({held}); give one with --vector-name."
        )
    if not declared:
        raise ForeignIndexError(f"the collection '{collection}' has no dense vectors; name another one.")
    name = next(iter(declared)) if wanted is None else wanted
    said = declared[name]
    size, datatype = said.get("size"), said.get("datatype") or "float32"
    if type(size) is not int or size < 1 or datatype not in ("float32", "float16") or said.get("multivector_config"):
        raise ForeignIndexError(
            f"the collection '{collection}' has vectors of {size} {datatype}"
            f"{', several a point' if said.get('multivector_config') else ''}; an index takes one vector a point, "
            "float32 or float16."
        )
    dtype: VectorDtype = "float16" if datatype == "float16" else "float32"
    return QdrantVectors(collection, name, size, str(said.get("distance")), dtype, options.id_field)


def block_of(points: Sequence[QdrantPoint], vectors: QdrantVectors) -> VectorBlock:
    """Returns the rows and ids of points; raises `ForeignIndexError` that names a point which has none."""
    rows = np.empty((len(points), vectors.size), vectors.dtype)
    for place, point in enumerate(points):
        vector = point.vector
        if vectors.name != UNNAMED:
            vector = vector.get(vectors.name) if isinstance(vector, Mapping) else None
        try:
            rows[place] = np.asarray(vector, np.float32).reshape(vectors.size)
        except (TypeError, ValueError):
            raise _without(point, vectors, f"no vector of {vectors.size} numbers") from None
    return VectorBlock(rows, tuple(_id_of(point, vectors) for point in points))


def _id_of(point: QdrantPoint, vectors: QdrantVectors) -> str:
    found = point.point_id
    if vectors.id_field is not None:
        found = point.payload.get(vectors.id_field) if isinstance(point.payload, Mapping) else None
    if not isinstance(found, str | int) or isinstance(found, bool):
        held = ", ".join(sorted(map(str, point.payload))) if isinstance(point.payload, Mapping) else ""
        raise _without(
            point,
            vectors,
            f"no text or whole number in the field '{vectors.id_field}' of its payload{f' ({held})' if held else ''}",
        )
    return str(found)


def _without(point: QdrantPoint, vectors: QdrantVectors, what: str) -> ForeignIndexError:
    named = f" '{vectors.name}'" if vectors.name else ""
    return ForeignIndexError(
        f"the point {point.point_id} of the collection '{vectors.collection}' has {what}"
        f"{named if 'vector' in what else ''}; delete such points from a copy of it, or name other ones."
    )
