"""`ApproximateRecord`: what `record.json` says of an approximate index, and where the two files lie."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from aml_edge.approximate.specification import ApproximateSpec
from aml_edge.errors import TeacherIndexError, UsageError
from aml_edge.files import file_sha256
from aml_edge.index import EMBEDDINGS_FILE, TeacherIndex
from aml_edge.index.record import RECORD_FILE as INDEX_RECORD_FILE
from aml_edge.index.record import IndexRecord

APPROXIMATE_FOLDER = "approximate"
STRUCTURE_FILE = "vectors.faiss"
RECORD_FILE = "record.json"
RECORD_VERSION = 1
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class ApproximateRecord:
    """What is known of an approximate index.

    Args:
        factory, parameters: as in `ApproximateSpec`; the parameters of a search that names none.
        count, dimension: of the rows that it was made from.
        embeddings_sha256: of the file that they lie in.
        space_fingerprint: of the space that they live in.
        clusters: that the largest clustering of its training makes; 0 where there is none.
        training_rows: how many rows it was trained on; 0 where it needs no training.
        seed: which ones.
        faiss_version: that made it.
        size_bytes, sha256: of the structure's file; 0 and nothing before it is written.

    Raises:
        ValueError, UsageError: a field cannot be.
    """

    factory: str
    parameters: str
    count: int
    dimension: int
    embeddings_sha256: str
    space_fingerprint: str
    clusters: int
    training_rows: int
    seed: int
    faiss_version: str
    size_bytes: int = 0
    sha256: str = ""

    def __post_init__(self) -> None:
        ApproximateSpec(self.factory, self.parameters)
        hashes = ("embeddings_sha256", "space_fingerprint", *(("sha256",) if self.size_bytes else ()))
        for name in hashes:
            if not _SHA256.fullmatch(getattr(self, name)):
                raise ValueError(f"its {name} is no SHA-256")
        if min(self.count, self.dimension) < 1 or min(self.clusters, self.size_bytes) < 0:
            raise ValueError("its counts cannot be")
        if not 0 <= self.training_rows <= self.count:
            raise ValueError("it was trained on more rows than there are")
        if not self.faiss_version.isprintable():
            raise ValueError("its FAISS version is no text")

    @property
    def spec(self) -> ApproximateSpec:
        """What it is, with the parameters that it was built with."""
        return ApproximateSpec(self.factory, self.parameters)

    def dumps(self) -> str:
        """Returns the record as JSON text."""
        return json.dumps({"version": RECORD_VERSION, **asdict(self)}, indent=2, sort_keys=True) + "\n"

    @classmethod
    def loads(cls, text: str) -> ApproximateRecord:
        """Reads what `dumps` wrote; raises ValueError, TypeError, RecursionError or `UsageError` on any other text."""
        record = json.loads(text)
        if not isinstance(record, dict):
            raise TypeError("it is not a JSON object")
        version = record.pop("version", None)
        if version != RECORD_VERSION:
            raise ValueError(f"its version is {version!r}, this aml-edge reads {RECORD_VERSION}")
        types = {field.name: {"int": int, "str": str}[str(field.type)] for field in fields(cls)}
        if record.keys() != types.keys() or any(type(record[name]) is not kind for name, kind in types.items()):
            raise TypeError("its fields are not those of an approximate index")
        return cls(**record)


def approximate_path(index_path: Path, factory: str) -> Path:
    """Returns the folder of an approximate index, inside that of the index."""
    return index_path / APPROXIMATE_FOLDER / factory


def read_record(folder: Path) -> ApproximateRecord:
    """Returns what is known of the approximate index in a folder; raises `TeacherIndexError` where it is damaged."""
    file = folder / RECORD_FILE
    try:
        record = ApproximateRecord.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, RecursionError, UsageError) as problem:
        raise damaged_approximate(file, f"cannot be read: {problem}") from None
    if record.factory != folder.name:
        raise damaged_approximate(file, f"is of {record.factory!r}, not of {folder.name!r}")
    return record


def read_records(index_path: Path) -> tuple[ApproximateRecord, ...]:
    """Returns what is known of the finished approximate indexes of an index, by name; raises as `read_record`."""
    folder = index_path / APPROXIMATE_FOLDER
    found = sorted(one.parent for one in folder.glob(f"*/{RECORD_FILE}")) if folder.is_dir() else []
    return tuple(read_record(one) for one in found if not one.name.startswith("."))


def require_made_from(record: ApproximateRecord, index: TeacherIndex) -> None:
    """Raises `TeacherIndexError` unless it was made from the index's rows as they are now."""
    folder = approximate_path(index.path, record.factory)
    held, said = f"{record.count} × {record.dimension}", "{} × {}".format(*index.embeddings.shape)
    if held != said:
        what = f"holds {held} rows, but the index {said}"
    elif record.space_fingerprint != index.space.fingerprint:
        spaces = f"{record.space_fingerprint[:8]}, {index.space.fingerprint[:8]}"
        what = f"was made in another space than that of the index ({spaces})"
    elif record.embeddings_sha256 != embeddings_sha256(index):
        what = f"was made from other embeddings ({record.embeddings_sha256[:8]}) than the index holds"
    else:
        return
    raise damaged_approximate(folder, what)


def embeddings_sha256(index: TeacherIndex) -> str:
    """Returns the SHA-256 of an index's embeddings: what its record says, or the file's where an older one does not."""
    record = IndexRecord.loads((index.path / INDEX_RECORD_FILE).read_text(encoding="utf-8"))
    return record.embeddings_sha256 or file_sha256(index.path / EMBEDDINGS_FILE)


def damaged_approximate(path: Path, what: str) -> TeacherIndexError:
    """Returns the error that an approximate index, or a file of it, cannot be used; `what` says why."""
    return TeacherIndexError(
        f"{path} {what}; make it again: `aml-edge index approximate --restart`, or remove its folder."
    )
