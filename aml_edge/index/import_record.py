"""`ImportRecord`: where the rows of an index came from that this program did not embed, and how they were checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class ImageCheck:
    """How near imported rows are to what the teacher gives of their images.

    Args:
        images: how many were embedded again.
        least_cosine: what was asked of each.
        lowest_cosine, median_cosine: of an image's embedding and its row.
    """

    images: int
    least_cosine: float
    lowest_cosine: float
    median_cosine: float


@dataclass(frozen=True)
class ImportRecord:
    """Where the rows came from.

    Args:
        source: what it was, in words, e.g. ``"FAISS IndexFlatIP, inner product"``.
        name: of the file, folder or collection.
        sha256: of the file's bytes; of a folder's files one after the other; None for a server's collection.
        dtype: of the rows there.
        approximate: whether the source gives back its rows with a loss, as product quantisation does.
        normalised: whether the rows were scaled to unit length.
        check: against images; None where there was none, and the space is what somebody said.
    """

    source: str
    name: str
    sha256: str | None
    dtype: str
    approximate: bool
    normalised: bool
    check: ImageCheck | None = None

    def to_json(self) -> dict[str, object]:
        """Returns the record as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: object) -> ImportRecord:
        """Reads what `to_json` wrote; raises TypeError or ValueError on anything else."""
        values = _values(record, cls)
        for name, kind in (("source", str), ("name", str), ("dtype", str), ("approximate", bool), ("normalised", bool)):
            if not isinstance(values[name], kind):
                raise TypeError(f"what it says of its import has the wrong type in `{name}`")
        sha256, check = values["sha256"], values["check"]
        if sha256 is not None and not (isinstance(sha256, str) and _SHA256.fullmatch(sha256)):
            raise ValueError("what it says of its import has a sha256 that is none")
        return cls(**{**values, "check": None if check is None else _check(check)})  # type: ignore[arg-type]


def _check(record: object) -> ImageCheck:
    values = _values(record, ImageCheck)
    if type(values["images"]) is not int or not all(type(value) in (int, float) for value in values.values()):
        raise TypeError("what it says of its import's check has a field of the wrong type")
    return ImageCheck(**values)  # type: ignore[arg-type]


def _values(record: object, kind: type[ImageCheck] | type[ImportRecord]) -> Mapping[str, object]:
    names = {field.name for field in fields(kind)}
    if not isinstance(record, dict) or set(record) != names:
        raise TypeError(f"what it says of its import does not have the fields {', '.join(sorted(names))}")
    return record
