"""The embedding space: the contract between a teacher's index and everything that queries it.

An index, a student checkpoint and an exported artifact each carry an `EmbeddingSpace`. Whatever joins two of
them compares fingerprints first (`require_same_space`). Preprocessing belongs to a network, not to the space.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from aml_edge.errors import SpaceMismatchError, UsageError

_SHA256 = re.compile(r"[0-9a-f]{64}")
UNTRAINED_TEACHER = "none"


@dataclass(frozen=True)
class EmbeddingSpace:
    """The space that a teacher's embeddings live in.

    Args:
        teacher: the teacher's name, e.g. ``"resnet101-gem"``.
        weights_sha256: SHA-256 of the teacher's weights (`aml_edge.networks.checkpoints.weights_sha256`).
        dimension: length D of an embedding, after whitening where there is one.
        whitening_sha256: SHA-256 of the whitening's m and P, or None where there is none.
        normalisation: how rows are normalised; ``"l2"`` is the only one.
    """

    teacher: str
    weights_sha256: str
    dimension: int
    whitening_sha256: str | None = None
    normalisation: str = "l2"

    def __post_init__(self) -> None:
        if not self.teacher:
            raise UsageError("`teacher` is empty; a space is named for its teacher.")
        if self.dimension < 1:
            raise UsageError(f"`dimension` is {self.dimension}; an embedding has at least one value.")
        for name in ("weights_sha256", "whitening_sha256"):
            value = getattr(self, name)
            if value is not None and not _SHA256.fullmatch(value):
                raise UsageError(f"`{name}` is {value!r}; it must be 64 lower-case hex digits.")
        if self.normalisation != "l2":
            raise UsageError(f"`normalisation` is {self.normalisation!r}; only 'l2' exists.")

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON of the record (sorted keys, no spaces, UTF-8)."""
        canonical = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def is_untrained(self) -> bool:
        """Whether no teacher stands behind the space (seeded random weights, for sizes and speeds only)."""
        return self.teacher == UNTRAINED_TEACHER

    def to_json(self) -> dict[str, str | int | None]:
        """Returns the record as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, object]) -> EmbeddingSpace:
        """Reads a record written by `to_json`; raises `UsageError` where a field is missing, unknown or mistyped."""
        names = {field.name for field in fields(cls)}
        if set(record) != names:
            raise UsageError(f"a space has the fields {sorted(names)}, this one has {sorted(record)}.")
        teacher, sha, dimension = record["teacher"], record["weights_sha256"], record["dimension"]
        whitening, normalisation = record["whitening_sha256"], record["normalisation"]
        if not (
            isinstance(teacher, str)
            and isinstance(sha, str)
            and type(dimension) is int  # a bool is an int too
            and isinstance(whitening, str | None)
            and isinstance(normalisation, str)
        ):
            raise UsageError(f"a field of the space {dict(record)} has the wrong type.")
        return cls(teacher, sha, dimension, whitening, normalisation)

    def same_teacher(self, other: EmbeddingSpace) -> bool:
        """Whether both spaces come from the same teacher's weights, whatever whitening followed."""
        return (self.teacher, self.weights_sha256) == (other.teacher, other.weights_sha256)

    def describe(self) -> str:
        """Returns the space in one line for a message or a table."""
        whitening = f"whitening {self.whitening_sha256[:8]}" if self.whitening_sha256 else "no whitening"
        return f"{self.teacher} ({self.weights_sha256[:8]}), {self.dimension}-D, {whitening}"


def untrained_space(dimension: int, weights_sha256: str) -> EmbeddingSpace:
    """Returns the space of a network with random weights: its own, shared with no index."""
    return EmbeddingSpace(UNTRAINED_TEACHER, weights_sha256, dimension)


def require_same_space(left: EmbeddingSpace, right: EmbeddingSpace, *, left_name: str, right_name: str) -> None:
    """Raises `SpaceMismatchError` that names both sides unless their fingerprints are equal."""
    if left.fingerprint == right.fingerprint:
        return
    differing = [
        field.name for field in fields(EmbeddingSpace) if getattr(left, field.name) != getattr(right, field.name)
    ]
    raise SpaceMismatchError(
        f"{left_name} lives in {left.describe()}, but {right_name} in {right.describe()} "
        f"(different {', '.join(differing)}); compare only what was made for the same teacher."
    )
