"""Students and teachers on disk: ours, and the published files (`aml_edge.networks.foreign`).

Ours is `student.safetensors`, whose header carries the record as JSON, so the file alone is enough and one rename
replaces both; `student.json` beside it is a copy for people and scripts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from aml_edge.errors import CheckpointError, UsageError
from aml_edge.files import write_text_atomically, written_atomically
from aml_edge.networks.foreign import read_published_student, read_published_teacher
from aml_edge.networks.strict_loading import COUNTER, load_strictly
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.networks.teacher import Teacher
from aml_edge.networks.torch_file import is_torch_file
from aml_edge.networks.whitening import Whitening
from aml_edge.preprocessing import Preprocessing
from aml_edge.space import EmbeddingSpace

STUDENT_FILE = "student.safetensors"
STUDENT_RECORD = "student.json"
RECORD_KEY = "aml_edge"
RECORD_VERSION = 1


def weights_sha256(module: nn.Module) -> str:
    """Returns the SHA-256 of a network's weights, whatever file they came from.

    It covers name, dtype, shape and little-endian bytes of each entry of the state dict, by sorted name. Batch norm's
    counters of batches are left out: they change no embedding, and some files lack them.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if name.endswith(COUNTER):
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class StudentCheckpoint:
    """A student and what must be known to use it.

    Args:
        student: in evaluation mode where it was loaded.
        name: for messages, manifests and file names, e.g. ``"demo"``.
        space: the space its embeddings live in.
        preprocessing: what it was trained with.
        trained: False where the weights are random, good for sizes and speeds only.
    """

    student: Student
    name: str
    space: EmbeddingSpace
    preprocessing: Preprocessing
    trained: bool

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of the student's weights."""
        return weights_sha256(self.student)


@dataclass(frozen=True)
class TeacherCheckpoint:
    """A teacher, its preprocessing, and the whitenings that came with it.

    Args:
        teacher: in evaluation mode where it was loaded.
        name: of the space, e.g. ``"resnet101-gem"``.
        preprocessing: what it was trained with.
        whitenings: by name, e.g. ``"retrieval-SfM-120k/ss"``; learned after training, not part of the network.
    """

    teacher: Teacher
    name: str
    preprocessing: Preprocessing
    whitenings: Mapping[str, Whitening] = field(default_factory=dict)

    def space(self, whitening: Whitening | None = None) -> EmbeddingSpace:
        """Returns the space of the teacher's embeddings, followed by a whitening where one is given."""
        sha256 = weights_sha256(self.teacher)
        if whitening is None:
            return EmbeddingSpace(self.name, sha256, self.teacher.dimension)
        return EmbeddingSpace(self.name, sha256, whitening.dimension, whitening.sha256)


def save_student(checkpoint: StudentCheckpoint, folder: Path) -> None:
    """Writes `student.safetensors` and `student.json` into `folder`, atomically; other files there are left alone."""
    record = json.dumps(_record(checkpoint), indent=2, sort_keys=True)
    weights = {key: value.detach().cpu().contiguous() for key, value in checkpoint.student.state_dict().items()}
    with written_atomically(folder / STUDENT_FILE) as partial:
        partial.write_bytes(save(weights, metadata={RECORD_KEY: record}))  # save_file shuts others out: mode 600
    write_text_atomically(folder / STUDENT_RECORD, record + "\n")


def load_student(path: Path, *, space: EmbeddingSpace | None = None) -> StudentCheckpoint:
    """Returns the student in one of our files, in a folder that holds one, or in a published file, in evaluation mode.

    Args:
        path: recognised by content, not by name.
        space: of the teacher that a published student was trained for, without whitening: its file does not say.
            Where it is None, a published student lives in a space of its own, as one trained alone does. One of our
            files says its space itself.

    Raises:
        CheckpointError: there is no such file, it is damaged or holds no student, or weights or space do not fit.
        UnsafePickleError: a published file wants to make something else than tensors and arrays.
    """
    file = path / STUDENT_FILE if path.is_dir() else path
    if not file.is_file():
        raise CheckpointError(f"{file} does not exist; give a student's file, or a folder with {STUDENT_FILE} in it.")
    return _published_student(file, space) if is_torch_file(file) else _read_ours(file)


def recorded_weights_sha256(file: Path) -> str | None:
    """Returns what one of our files says of its weights, read in no time; None where it says nothing or is damaged."""
    try:
        with safe_open(file, framework="pt") as opened:
            record = json.loads((opened.metadata() or {})[RECORD_KEY])
        recorded = record["weights_sha256"]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError):
        return None
    return recorded if isinstance(recorded, str) else None


def load_teacher(path: Path) -> TeacherCheckpoint:
    """Returns the teacher in a published file, recognised by content, in evaluation mode.

    Raises:
        CheckpointError: there is no such file, it is damaged or holds no teacher, or its weights do not fit.
        UnsafePickleError: the file wants to make something else than tensors and arrays.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; give a published teacher's file (.pth).")
    published = read_published_teacher(path)
    return TeacherCheckpoint(published.teacher, published.name, published.preprocessing, published.whitenings)


def _published_student(file: Path, space: EmbeddingSpace | None) -> StudentCheckpoint:
    published = read_published_student(file)
    dimension = published.student.spec.dimension
    if space is None:
        space = EmbeddingSpace(published.name, weights_sha256(published.student), dimension)
    if space.dimension != dimension:
        raise CheckpointError(
            f"{file} holds a student of {dimension} dimensions, but its teacher's space is {space.describe()}; "
            "give the space of the teacher that it was trained for."
        )
    name = file.name.removesuffix(".tar").removesuffix(".pth")
    return StudentCheckpoint(published.student, name, space, published.preprocessing, trained=True)


def _record(checkpoint: StudentCheckpoint) -> dict[str, object]:
    return {
        "version": RECORD_VERSION,
        "name": checkpoint.name,
        "backbone": checkpoint.student.spec.backbone,
        "dimension": checkpoint.student.spec.dimension,
        "space": checkpoint.space.to_json() | {"fingerprint": checkpoint.space.fingerprint},
        "preprocessing": checkpoint.preprocessing.to_json(),
        "trained": checkpoint.trained,
        "weights_sha256": checkpoint.weights_sha256,
    }


def _read_ours(file: Path) -> StudentCheckpoint:
    try:
        with safe_open(file, framework="pt") as opened:
            text = (opened.metadata() or {}).get(RECORD_KEY)
            weights: dict[str, Tensor] = {key: opened.get_tensor(key) for key in opened.keys()}
    except (SafetensorError, OSError, ValueError, TypeError) as problem:
        raise CheckpointError(f"{file} is no safetensors file, or a damaged one: {problem}; save it again.") from None
    if text is None:
        raise CheckpointError(f"{file} holds weights but no aml-edge record; only students saved by aml-edge are read.")
    try:
        return _checkpoint(json.loads(text), weights, str(file))
    except (KeyError, TypeError, ValueError, RecursionError, UsageError) as problem:
        raise CheckpointError(f"{file} has a record that cannot be read: {problem}; save it again.") from None


def _checkpoint(record: object, weights: Mapping[str, Tensor], source: str) -> StudentCheckpoint:
    """Returns the checkpoint of an untrusted record; raises whatever `_read_ours` catches."""
    if not isinstance(record, dict):
        raise TypeError("it is not a JSON object")
    if record["version"] != RECORD_VERSION:
        raise ValueError(f"its version is {record['version']!r}, this aml-edge reads {RECORD_VERSION}")
    name, backbone, dimension, trained = (record[key] for key in ("name", "backbone", "dimension", "trained"))
    if not (isinstance(name, str) and isinstance(backbone, str) and isinstance(trained, bool)):
        raise TypeError("a field has the wrong type")
    if type(dimension) is not int or weights["adaptor.weight"].shape[:1] != (dimension,):
        raise ValueError("its dimension is not that of the weights")
    space = dict(record["space"])
    fingerprint = space.pop("fingerprint")
    checkpoint = StudentCheckpoint(
        student=Student(StudentSpec(backbone, dimension)).eval(),
        name=name,
        space=EmbeddingSpace.from_json(space),
        preprocessing=Preprocessing.from_json(record["preprocessing"]),
        trained=trained,
    )
    load_strictly(checkpoint.student, weights, source=source)
    if checkpoint.space.fingerprint != fingerprint or checkpoint.space.dimension != dimension:
        raise ValueError("its space does not match its fingerprint or its dimension")
    if checkpoint.weights_sha256 != record["weights_sha256"]:
        raise CheckpointError(f"{source} holds other weights than its record says; it is damaged, save it again.")
    return checkpoint
