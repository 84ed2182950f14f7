"""Whitenings on disk: safetensors of m and P, and in a file of its own the record of what it was learned from.

An index keeps the two tensors only, since its own record says the rest. A file by itself says whose embeddings it
follows, so that it is refused after any other network.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from aml_edge.errors import CheckpointError, SpaceMismatchError, UsageError
from aml_edge.files import written_atomically
from aml_edge.networks.whitening import Whitening
from aml_edge.networks.whitening_record import WhiteningRecord
from aml_edge.space import EmbeddingSpace, require_same_space

RECORD_KEY = "aml_edge"
_TENSORS = {"m", "P"}
_NEXT_STEP = "learn it again: `aml-edge whitening`."


@dataclass(frozen=True, eq=False)
class WhiteningCheckpoint:
    """A whitening and where it comes from.

    Args:
        whitening: the layer.
        record: where it comes from.

    Raises:
        UsageError: the record is of another whitening, or of embeddings of another dimension.
    """

    whitening: Whitening
    record: WhiteningRecord

    def __post_init__(self) -> None:
        takes, given = self.whitening.projection.shape[1], self.record.space.dimension
        if takes != given:
            raise UsageError(f"`whitening` takes {takes} values, but its record says {given}; give the right record.")
        if self.whitening.sha256 != self.record.whitening_sha256:
            raise UsageError("`whitening` has another SHA-256 than its record says; give the right record.")

    @property
    def space(self) -> EmbeddingSpace:
        """The space that it leads to."""
        sha256 = self.record.whitening_sha256
        return replace(self.record.space, dimension=self.whitening.dimension, whitening_sha256=sha256)


def encode_whitening(whitening: Whitening, record: str | None = None) -> bytes:
    """Returns the bytes of a safetensors file of m and P, with a record in its header where one is given."""
    tensors = {"m": whitening.mean.cpu(), "P": whitening.projection.cpu()}
    encoded: bytes = save(tensors, metadata=None if record is None else {RECORD_KEY: record})
    return encoded


def read_tensors(file: Path) -> tuple[Whitening, str | None]:
    """Returns the whitening in a file of `encode_whitening`, and its record where it has one.

    Raises:
        ValueError, OSError: it is no such file; the message says why, for another message to end in.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            record = (opened.metadata() or {}).get(RECORD_KEY)
            if set(opened.keys()) != _TENSORS:
                raise ValueError(f"it holds {', '.join(sorted(opened.keys())[:5]) or 'nothing'}, not m and P")
            mean, projection = opened.get_tensor("m"), opened.get_tensor("P")
        if {mean.dtype, projection.dtype} != {torch.float32}:
            raise ValueError("its m and P are not float32")
        return Whitening(mean, projection), record
    except (SafetensorError, KeyError, TypeError, UsageError) as problem:
        raise ValueError(str(problem)) from None


def save_whitening(checkpoint: WhiteningCheckpoint, path: Path) -> None:
    """Writes a whitening with its record, atomically."""
    with written_atomically(path) as partial:
        partial.write_bytes(encode_whitening(checkpoint.whitening, checkpoint.record.dumps()))


def load_whitening(path: Path) -> WhiteningCheckpoint:
    """Returns the whitening that `save_whitening` wrote.

    Raises:
        CheckpointError: there is no such file, it is damaged or has no record, or the two contradict each other.
    """
    try:
        whitening, text = read_tensors(path)
    except (ValueError, OSError) as problem:
        raise CheckpointError(f"{path} is no whitening's file, or a damaged one: {problem}; {_NEXT_STEP}") from None
    if text is None:
        raise CheckpointError(f"{path} does not say whose embeddings its whitening follows; {_NEXT_STEP}")
    try:
        return WhiteningCheckpoint(whitening, WhiteningRecord.loads(text))
    except (KeyError, TypeError, ValueError, RecursionError, UsageError) as problem:
        raise CheckpointError(f"{path} has a record that cannot be read: {problem}; {_NEXT_STEP}") from None


def load_teacher_whitening(path: Path, space: EmbeddingSpace, *, name: str) -> Whitening:
    """Returns the whitening in a file, to follow a teacher.

    Args:
        path: one of our files.
        space: of the teacher's embeddings, without whitening.
        name: of the teacher, for messages.

    Raises:
        SpaceMismatchError: it was learned for another teacher, or for a student; both sides are named.
        CheckpointError: as `load_whitening`.
    """
    found = load_whitening(path)
    require_same_space(
        found.record.space, space, left_name=f"what the whitening {path} follows", right_name=f"teacher '{name}'"
    )
    if not found.record.follows_teacher:
        raise _of_another_network(path, found.record, f"teacher '{name}'", space.weights_sha256)
    return found.whitening


def load_student_whitening(path: Path, weights_sha256: str, *, name: str) -> Whitening:
    """Returns the whitening in a file, to follow a student where it embeds queries and database.

    Args:
        path: one of our files.
        weights_sha256: of the student.
        name: of the student, for messages.

    Raises:
        SpaceMismatchError: it was learned for another network; both are named.
        CheckpointError: as `load_whitening`.
    """
    found = load_whitening(path)
    if found.record.weights_sha256 != weights_sha256:
        raise _of_another_network(path, found.record, f"student '{name}'", weights_sha256)
    return found.whitening


def _of_another_network(path: Path, record: WhiteningRecord, wanted: str, weights_sha256: str) -> SpaceMismatchError:
    return SpaceMismatchError(
        f"the whitening {path} was learned for {record.describe()}, not for {wanted} ({weights_sha256[:8]}); "
        "learn one from that network's own embeddings: `aml-edge whitening`."
    )
