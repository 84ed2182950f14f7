"""Students and teachers on disk: ours, and the published files (`aml_edge.networks.foreign`).

Ours are `student.safetensors` and `teacher.safetensors` (`aml_edge.networks.recorded_weights`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor, nn

from aml_edge.errors import CheckpointError, UsageError
from aml_edge.networks.foreign import read_published_student, read_published_teacher
from aml_edge.networks.recorded_weights import read_recorded_weights, write_recorded_weights
from aml_edge.networks.strict_loading import COUNTER, load_strictly
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.networks.teacher import Teacher, TeacherSpec
from aml_edge.networks.torch_file import is_torch_file
from aml_edge.networks.whitening import Whitening
from aml_edge.preprocessing import Preprocessing
from aml_edge.space import EmbeddingSpace

STUDENT_FILE = "student.safetensors"
TEACHER_FILE = "teacher.safetensors"
_DAMAGED = (KeyError, TypeError, ValueError, RecursionError, UsageError)


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
        file: that it was loaded from; what was stored beside it belongs to it.
    """

    student: Student
    name: str
    space: EmbeddingSpace
    preprocessing: Preprocessing
    trained: bool
    file: Path | None = field(default=None, compare=False)

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


def save_student(checkpoint: StudentCheckpoint, folder: Path, *, file_name: str = STUDENT_FILE) -> None:
    """Writes a student's file and the copy of its record into `folder`; other files there are left alone."""
    record = {
        "name": checkpoint.name,
        "backbone": checkpoint.student.spec.backbone,
        "dimension": checkpoint.student.spec.dimension,
        "space": checkpoint.space.to_json() | {"fingerprint": checkpoint.space.fingerprint},
        "preprocessing": checkpoint.preprocessing.to_json(),
        "trained": checkpoint.trained,
        "weights_sha256": checkpoint.weights_sha256,
    }
    write_recorded_weights(checkpoint.student, record, folder / file_name)


def save_teacher(checkpoint: TeacherCheckpoint, folder: Path, *, file_name: str = TEACHER_FILE) -> None:
    """Writes a teacher's file and the copy of its record into `folder`; other files there are left alone.

    Raises:
        UsageError: whitenings came with it, which this file has no place for.
    """
    if checkpoint.whitenings:
        raise UsageError(f"teacher '{checkpoint.name}' has whitenings, which are files of their own; save them apart.")
    spec = checkpoint.teacher.spec
    record = {
        "name": checkpoint.name,
        "teacher": {
            "backbone": spec.backbone,
            "local_whitening": spec.local_whitening,
            "whitening_dimension": spec.whitening_dimension,
        },
        "preprocessing": checkpoint.preprocessing.to_json(),
        "weights_sha256": weights_sha256(checkpoint.teacher),
    }
    write_recorded_weights(checkpoint.teacher, record, folder / file_name)


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
    if is_torch_file(file):
        return _published_student(file, space)
    record, weights = read_recorded_weights(file)
    try:
        return replace(_student(record, weights, str(file)), file=file)
    except _DAMAGED as problem:
        raise _unreadable(file, problem) from None


def load_teacher(path: Path) -> TeacherCheckpoint:
    """Returns the teacher in a published file, in one of ours, or in a folder that holds one, in evaluation mode.

    Args:
        path: recognised by content, not by name.

    Raises:
        CheckpointError: there is no such file, it is damaged or holds no teacher, or its weights do not fit.
        UnsafePickleError: a published file wants to make something else than tensors and arrays.
    """
    file = path / TEACHER_FILE if path.is_dir() else path
    if not file.is_file():
        raise CheckpointError(f"{file} does not exist; give a teacher's file, or a folder with {TEACHER_FILE} in it.")
    if not is_torch_file(file):
        record, weights = read_recorded_weights(file)
        try:
            return _teacher(record, weights, str(file))
        except _DAMAGED as problem:
            raise _unreadable(file, problem) from None
    published = read_published_teacher(file)
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


def _student(record: Mapping[str, object], weights: Mapping[str, Tensor], source: str) -> StudentCheckpoint:
    """Returns the student of an untrusted record; raises `_DAMAGED` or `CheckpointError`."""
    if "teacher" in record:
        raise CheckpointError(f"{source} holds a teacher, not a student; name it where a teacher is asked for.")
    name, backbone, dimension, trained = (record[key] for key in ("name", "backbone", "dimension", "trained"))
    if not (isinstance(name, str) and isinstance(backbone, str) and isinstance(trained, bool)):
        raise TypeError("a field has the wrong type")
    if type(dimension) is not int or weights["adaptor.weight"].shape[:1] != (dimension,):
        raise ValueError("its dimension is not that of the weights")
    space = _mapping(record, "space")
    fingerprint = space.pop("fingerprint")
    checkpoint = StudentCheckpoint(
        student=Student(StudentSpec(backbone, dimension)).eval(),
        name=name,
        space=EmbeddingSpace.from_json(space),
        preprocessing=Preprocessing.from_json(_mapping(record, "preprocessing")),
        trained=trained,
    )
    load_strictly(checkpoint.student, weights, source=source)
    if checkpoint.space.fingerprint != fingerprint or checkpoint.space.dimension != dimension:
        raise ValueError("its space does not match its fingerprint or its dimension")
    _require_recorded(checkpoint.student, record, source)
    return checkpoint


def _teacher(record: Mapping[str, object], weights: Mapping[str, Tensor], source: str) -> TeacherCheckpoint:
    """Returns the teacher of an untrusted record; raises `_DAMAGED` or `CheckpointError`."""
    if "teacher" not in record:
        raise CheckpointError(f"{source} holds a student, not a teacher; name it where a student is asked for.")
    spec, name = _mapping(record, "teacher"), record["name"]
    backbone, local, dimension = (spec[key] for key in ("backbone", "local_whitening", "whitening_dimension"))
    if not (isinstance(name, str) and name and isinstance(backbone, str) and isinstance(local, bool)):
        raise TypeError("a field has the wrong type")
    if dimension is not None and (type(dimension) is not int or weights["whiten.weight"].shape[:1] != (dimension,)):
        raise ValueError("its dimension is not that of the weights")
    teacher = Teacher(TeacherSpec(backbone, local, dimension)).eval()
    load_strictly(teacher, weights, source=source)
    _require_recorded(teacher, record, source)
    return TeacherCheckpoint(teacher, name, Preprocessing.from_json(_mapping(record, "preprocessing")))


def _mapping(record: Mapping[str, object], key: str) -> dict[str, object]:
    value = record[key]
    if not isinstance(value, dict):
        raise TypeError(f"its {key} is not a JSON object")
    return dict(value)


def _require_recorded(module: nn.Module, record: Mapping[str, object], source: str) -> None:
    if weights_sha256(module) != record["weights_sha256"]:
        raise CheckpointError(f"{source} holds other weights than its record says; it is damaged, save it again.")


def _unreadable(file: Path, problem: Exception) -> CheckpointError:
    return CheckpointError(f"{file} has a record that cannot be read: {problem}; save it again.")
