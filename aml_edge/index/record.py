"""`IndexRecord`: what `index.json` says of an index, and the error where a file of the index is another one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from aml_edge.errors import TeacherIndexError
from aml_edge.index.import_record import ImportRecord
from aml_edge.preprocessing import Preprocessing
from aml_edge.scales import SINGLE_SCALE, Scales, scales_from_json
from aml_edge.space import EmbeddingSpace

INDEX_VERSION = 1
RECORD_FILE = "index.json"
IndexDtype = Literal["float32", "float16"]
"""Of the embeddings on disk; whoever reads them computes in float32."""
_DTYPES = get_args(IndexDtype)
_LATER_HASHES = ("embeddings_sha256", "images_sha256")
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class IndexRecord:
    """What `index.json` says.

    Args:
        space, preprocessing, skipped, scales: as in `TeacherIndex`; an older record without scales means one.
        count: N.
        ids_sha256, embeddings_sha256, images_sha256: of the bytes of `ids.txt`, `embeddings.npy` and `images.sha256`;
            an older record lacks the last two, and nothing is known of its images.
        dtype: of the embeddings on disk.
        imported: where they came from; None where the teacher embedded them here.
    """

    space: EmbeddingSpace
    preprocessing: Preprocessing
    count: int
    ids_sha256: str
    skipped: tuple[str, ...] = ()
    scales: Scales = SINGLE_SCALE
    embeddings_sha256: str | None = None
    images_sha256: str | None = None
    dtype: IndexDtype = "float32"
    imported: ImportRecord | None = None

    def dumps(self) -> str:
        """Returns the record as JSON text."""
        record = {
            "version": INDEX_VERSION,
            "space": self.space.to_json() | {"fingerprint": self.space.fingerprint},
            "count": self.count,
            "dimension": self.space.dimension,
            "dtype": self.dtype,
            "ids_sha256": self.ids_sha256,
            "preprocessing": self.preprocessing.to_json(),
            "skipped": list(self.skipped),
            "scales": list(self.scales),
            **{name: value for name in _LATER_HASHES if (value := getattr(self, name)) is not None},
            **({} if self.imported is None else {"imported": self.imported.to_json()}),
        }
        return json.dumps(record, indent=2, sort_keys=True) + "\n"

    @classmethod
    def loads(cls, text: str) -> IndexRecord:
        """Reads what `dumps` wrote; raises ValueError, TypeError, KeyError or `UsageError` on any other text."""
        record = json.loads(text)
        if not isinstance(record, dict):
            raise TypeError("it is not a JSON object")
        if record.get("version") != INDEX_VERSION:
            raise ValueError(f"its version is {record.get('version')!r}, this aml-edge reads {INDEX_VERSION}")
        fields = dict(record["space"])
        fingerprint = fields.pop("fingerprint")
        space = EmbeddingSpace.from_json(fields)
        if space.fingerprint != fingerprint:
            raise ValueError("the fingerprint of its space does not match the space")
        count, skipped = record["count"], record["skipped"]
        if type(count) is not int or count < 1 or record["dimension"] != space.dimension:
            raise ValueError("its count or dimension is not that of an index")
        dtype = record["dtype"]
        if dtype not in _DTYPES:
            raise ValueError(f"its dtype is {dtype!r}, this aml-edge reads {' and '.join(_DTYPES)}")
        if not isinstance(skipped, list) or not all(isinstance(one, str) for one in skipped):
            raise TypeError("what it skipped is not a list of names")
        preprocessing = Preprocessing.from_json(record["preprocessing"])
        scales = scales_from_json(record.get("scales", list(SINGLE_SCALE)))
        hashes = {name: _optional_sha256(record, name) for name in _LATER_HASHES}
        ids_sha256 = str(record["ids_sha256"])
        imported = None if record.get("imported") is None else ImportRecord.from_json(record["imported"])
        return cls(
            space, preprocessing, count, ids_sha256, tuple(skipped), scales, **hashes, dtype=dtype, imported=imported
        )


def damaged(file: Path, what: str) -> TeacherIndexError:
    """Returns the error that a file of an index cannot be used; `what` says why."""
    return TeacherIndexError(f"{file} {what}; copy the index again, or build it again: `aml-edge index build`.")


def _optional_sha256(record: Mapping[str, object], name: str) -> str | None:
    value = record.get(name)
    if value is not None and not (isinstance(value, str) and _SHA256.fullmatch(value)):
        raise ValueError(f"its {name} is no SHA-256")
    return value
