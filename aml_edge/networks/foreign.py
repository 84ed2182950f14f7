"""Published files: teachers of the CNN Image Retrieval project, students of asymmetric metric learning.

`{meta, state_dict}` as `torch.save` wrote it, recognised by the keys of the state dict, never by the file's name. The
keys are those of 2019 and 2020 and are renamed to ours; what is missing or left over afterwards is an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aml_edge.errors import CheckpointError, UsageError
from aml_edge.networks.foreign_keys import Layout, recognise
from aml_edge.networks.strict_loading import load_strictly, require_plain
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.networks.teacher import Teacher, TeacherSpec
from aml_edge.networks.torch_file import read_torch_file
from aml_edge.networks.whitening import Whitening
from aml_edge.numpy_stand_ins import NumpyArray
from aml_edge.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing


@dataclass(frozen=True)
class PublishedTeacher:
    """A teacher's file, read.

    Args:
        teacher: in evaluation mode.
        name: of what it is made of, e.g. ``"resnet101-gem"``, ``"-lw"`` and ``"-w"`` for its learned linear layers.
        preprocessing: as the file says.
        whitenings: by training set and scales, e.g. ``"retrieval-SfM-120k/ss"``.
    """

    teacher: Teacher
    name: str
    preprocessing: Preprocessing
    whitenings: Mapping[str, Whitening]


@dataclass(frozen=True)
class PublishedStudent:
    """A student's file, read: the network in evaluation mode, what it is made of, preprocessing as the file says."""

    student: Student
    name: str
    preprocessing: Preprocessing


def read_published_teacher(path: Path) -> PublishedTeacher:
    """Returns the teacher in a published file.

    Raises:
        UnsafePickleError: the file wants to make something else than tensors and arrays.
        CheckpointError: the file holds no teacher, or one whose weights do not fit.
    """
    meta, weights, layout = _read_network(path)
    if layout.adaptor is not None:
        raise CheckpointError(f"{path} holds a student ({layout.backbone} with an adaptor), not a teacher.")
    whiten = weights.get("whiten.weight")
    spec = TeacherSpec(
        layout.backbone,
        local_whitening="local_whiten.weight" in weights,
        whitening_dimension=None if whiten is None or whiten.ndim != 2 else whiten.shape[0],
    )
    teacher = Teacher(spec).eval()
    load_strictly(teacher, weights, source=str(path))
    name = f"{layout.backbone}-gem{'-lw' if spec.local_whitening else ''}{'-w' if spec.whitening_dimension else ''}"
    whitenings = dict(_whitenings(meta.get("Lw", {}), teacher.dimension, str(path)))
    return PublishedTeacher(teacher, name, _preprocessing(meta, str(path)), whitenings)


def read_published_student(path: Path) -> PublishedStudent:
    """Returns the student in a published file; raises as `read_published_teacher`."""
    meta, weights, layout = _read_network(path)
    if layout.adaptor is None:
        raise CheckpointError(f"{path} holds a teacher ({layout.backbone} without an adaptor), not a student.")
    dimension = weights["adaptor.weight"].shape[0] if weights["adaptor.weight"].ndim else 0
    if dimension < 1:
        raise CheckpointError(f"{path} holds an adaptor without outputs; get the file again.")
    student = Student(StudentSpec(layout.backbone, dimension)).eval()
    load_strictly(student, weights, source=str(path))
    return PublishedStudent(student, f"{layout.backbone}-gem", _preprocessing(meta, str(path)))


def read_published_whitening(path: Path) -> Whitening:
    """Returns the whitening in a published file `{m, P}`; raises as `read_published_teacher`."""
    return _whitening(read_torch_file(path), str(path))


def _read_network(path: Path) -> tuple[Mapping[object, object], dict[str, Tensor], Layout]:
    """Returns the file's meta, its weights by our keys, and the layout that they had."""
    content = read_torch_file(path)
    if isinstance(content, dict) and content.keys() == {"m", "P"}:
        raise CheckpointError(f"{path} holds a whitening, not a network.")
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise CheckpointError(f"{path} holds no state_dict of tensors; give a published teacher's or student's file.")
    assert isinstance(content, dict)
    meta = content.get("meta", {})
    if not isinstance(meta, dict):
        raise CheckpointError(f"{path} has a meta that is no dictionary; get the file again.")
    if meta.get("pooling", "gem") != "gem" or meta.get("regional", False):
        kind = f"{meta.get('pooling')!r}{' by region' if meta.get('regional', False) else ''}"
        raise CheckpointError(f"{path} holds a network that pools with {kind}; only GeM over the whole map is read.")
    for key, value in state.items():
        require_plain(key, value, source=str(path))
    layout = recognise(state, source=str(path))
    return meta, layout.renamed(state, source=str(path)), layout


def _preprocessing(meta: Mapping[object, object], source: str) -> Preprocessing:
    mean, std = meta.get("mean", IMAGENET_MEAN), meta.get("std", IMAGENET_STD)
    try:
        return Preprocessing(mean=_triple(mean), std=_triple(std))
    except UsageError as problem:
        raise CheckpointError(f"{source} has a meta that cannot be used: {problem}") from None


def _triple(value: object) -> tuple[float, float, float]:
    if isinstance(value, NumpyArray | Tensor):
        value = (value.values if isinstance(value, NumpyArray) else value).tolist()
    if not isinstance(value, list | tuple) or len(value) != 3 or not all(isinstance(v, int | float) for v in value):
        raise UsageError(f"{value!r} must be three numbers, one a channel.")
    return (float(value[0]), float(value[1]), float(value[2]))


def _whitenings(learned: object, dimension: int, source: str) -> Iterator[tuple[str, Whitening]]:
    if not isinstance(learned, dict):
        raise CheckpointError(f"{source} has an Lw that is no dictionary; get the file again.")
    for training_set, by_scales in learned.items():
        if not isinstance(by_scales, dict):
            raise CheckpointError(f"{source} has an Lw for {training_set!r} that is no dictionary; get the file again.")
        for scales, parts in by_scales.items():
            whitening = _whitening(parts, f"{source}, Lw {training_set}/{scales}")
            if whitening.projection.shape[1] != dimension:
                raise CheckpointError(
                    f"{source}, Lw {training_set}/{scales} takes {whitening.projection.shape[1]} values; "
                    f"the network gives {dimension}."
                )
            yield f"{training_set}/{scales}", whitening


def _whitening(parts: object, source: str) -> Whitening:
    if not isinstance(parts, dict) or parts.keys() != {"m", "P"}:
        raise CheckpointError(f"{source} holds no whitening: it must be a dictionary of m and P.")
    try:
        return Whitening(_tensor(parts["m"], source).reshape(-1), _tensor(parts["P"], source))
    except UsageError as problem:
        raise CheckpointError(f"{source}: {problem}") from None


def _tensor(value: object, source: str) -> Tensor:
    if isinstance(value, NumpyArray):
        return torch.from_numpy(np.array(value.values, np.float64, order="C"))
    if isinstance(value, Tensor) and value.device.type == "cpu" and value.layout is torch.strided:
        return value.double()
    raise CheckpointError(f"{source} holds m or P as something else than numbers.")
