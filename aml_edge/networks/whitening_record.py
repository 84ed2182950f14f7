"""`WhiteningRecord`: what a whitening was learned from, and so what it may follow."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass, fields
from enum import StrEnum

from aml_edge.errors import UsageError
from aml_edge.space import EmbeddingSpace

RECORD_VERSION = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")


class WhiteningKind(StrEnum):
    """How a whitening is made."""

    LEARNED = "learned"
    PCA = "pca"


@dataclass(frozen=True)
class WhiteningRecord:
    """Where a whitening comes from.

    Args:
        whitening_sha256: of m and P.
        kind: how it was made.
        network: name of the network whose embeddings it follows, e.g. ``"resnet101-gem"``.
        weights_sha256: of that network; the space's own where the network is the teacher, another where a student.
        space: the space of those embeddings, without whitening.
        dataset: name of the data set whose images were embedded.
        rows: how many images.
        pairs: how many pairs of them that match; None where labels were not used.
        regularisation: what was added to the diagonal of the covariance that was inverted.
    """

    whitening_sha256: str
    kind: WhiteningKind
    network: str
    weights_sha256: str
    space: EmbeddingSpace
    dataset: str
    rows: int
    pairs: int | None
    regularisation: float

    def __post_init__(self) -> None:
        for name in ("network", "dataset"):
            text = getattr(self, name)
            if not text or not text.isprintable():
                raise UsageError(f"`{name}` is {text!a}; the record of a whitening takes printable names: rename it.")
        for name in ("whitening_sha256", "weights_sha256"):
            if not _SHA256.fullmatch(getattr(self, name)):
                raise UsageError(f"`{name}` is {getattr(self, name)!a}; it must be 64 lower-case hex digits.")
        if self.space.whitening_sha256 is not None:
            raise UsageError(
                f"`space` is {self.space.describe()}; a whitening follows embeddings that have none: "
                "learn it on an index built without `--whitening`."
            )
        if self.rows < 1 or (self.pairs is None) != (self.kind is WhiteningKind.PCA) or self.pairs == 0:
            raise UsageError(
                f"a whitening of kind '{self.kind}' says {self.rows} rows and {self.pairs} pairs; "
                "it has rows, and pairs where it is learned."
            )
        if not (math.isfinite(self.regularisation) and self.regularisation >= 0):
            raise UsageError(f"`regularisation` is {self.regularisation}; it must be a number of at least 0.")

    @property
    def follows_teacher(self) -> bool:
        """Whether the network is the teacher of the space, not a student that was trained to live there."""
        return self.weights_sha256 == self.space.weights_sha256

    def describe(self) -> str:
        """Returns the network in a few words for a message, e.g. ``"teacher 'resnet101-gem' (0123abcd)"``."""
        return f"{'teacher' if self.follows_teacher else 'student'} '{self.network}' ({self.weights_sha256[:8]})"

    def dumps(self) -> str:
        """Returns the record as JSON text."""
        space = self.space.to_json() | {"fingerprint": self.space.fingerprint}
        return json.dumps(asdict(self) | {"version": RECORD_VERSION, "space": space}, sort_keys=True)

    @classmethod
    def loads(cls, text: str) -> WhiteningRecord:
        """Reads what `dumps` wrote; raises ValueError, TypeError, KeyError or `UsageError` on any other text."""
        record = json.loads(text)
        if not isinstance(record, dict):
            raise TypeError("it is not a JSON object")
        if record.get("version") != RECORD_VERSION:
            raise ValueError(f"its version is {record.get('version')!r}, this aml-edge reads {RECORD_VERSION}")
        if record.keys() != {"version", *(field.name for field in fields(cls))}:
            raise TypeError(f"its fields are {sorted(record)}")
        names = [record[name] for name in ("whitening_sha256", "network", "weights_sha256", "dataset")]
        counts = [record["rows"], 1 if record["pairs"] is None else record["pairs"]]
        if not (
            all(isinstance(name, str) for name in names)
            and all(type(count) is int and count > 0 for count in counts)  # a bool is an int too
            and type(record["regularisation"]) is float
        ):
            raise TypeError("a field has the wrong type")
        written = dict(record["space"])
        fingerprint = written.pop("fingerprint")
        space = EmbeddingSpace.from_json(written)
        if space.fingerprint != fingerprint:
            raise ValueError("the fingerprint of its space does not match the space")
        del record["version"]
        return cls(**(record | {"kind": WhiteningKind(record["kind"]), "space": space}))
