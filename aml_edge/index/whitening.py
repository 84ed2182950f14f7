"""Which whitening a name stands for, to follow what was embedded already, and an index that it follows.

An index without whitening says what either side reaches without it, and, whitened as it is read, what it reaches
with it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from aml_edge.errors import UsageError
from aml_edge.index.teacher_index import TeacherIndex
from aml_edge.networks.checkpoints import StudentCheckpoint, TeacherCheckpoint
from aml_edge.networks.foreign import read_published_whitening
from aml_edge.networks.released_whitenings import fetched_whitening, is_released_whitening
from aml_edge.networks.torch_file import is_torch_file
from aml_edge.networks.whitening import Whitening
from aml_edge.networks.whitening_file import load_student_whitening, load_teacher_whitening
from aml_edge.networks.whitening_names import whitening_name
from aml_edge.progress import SayingProgress, SilentProgress


def whitened_index(index: TeacherIndex, whitening: Whitening) -> TeacherIndex:
    """Returns the index as it would be had it been built with the whitening; its embeddings are whitened as read.

    Raises:
        UsageError: it is whitened already, or the whitening takes embeddings of another dimension.
    """
    _require_fits(whitening, index, whitening.sha256[:8])
    space = replace(index.space, dimension=whitening.dimension, whitening_sha256=whitening.sha256)
    return replace(index, space=space, whitening=whitening, whitened_as_read=True)


def resolve_index_whitening(name: str, index: TeacherIndex, teacher: TeacherCheckpoint | None) -> Whitening:
    """Returns the whitening of a name, to follow the embeddings of an index.

    Args:
        name: one that came with the teacher, by its whole name or its training set's, or a file: ours or a published.
        index: without whitening.
        teacher: the index's, where it is at hand.

    Raises:
        UsageError: the index is whitened already, the name says nothing, or the whitening is of another dimension.
        SpaceMismatchError: it was learned for another teacher, or for a student; both sides are named.
        CheckpointError, UnsafePickleError: the file is damaged, holds no whitening, or is hostile.
    """
    _require_unwhitened(index, repr(name))
    whitenings = {} if teacher is None else teacher.whitenings
    whole = name if teacher is None else whitening_name(name, teacher, index.scales)
    if whole in whitenings:
        whitening = whitenings[whole]
    elif not Path(name).is_file():
        known = ", ".join(whitenings) or ("none" if teacher is not None else "name it with --teacher")
        raise UsageError(
            f"`whitening` is {name!r}; it must be a whitening's file, or one that came with the teacher: {known}."
        )
    elif is_torch_file(Path(name)):
        whitening = read_published_whitening(Path(name))
    else:
        whitening = load_teacher_whitening(Path(name), index.space, name=index.space.teacher)
    _require_fits(whitening, index, repr(name))
    return whitening


def resolve_student_whitening(
    path: Path, student: StudentCheckpoint, *, progress: SayingProgress | None = None
) -> Whitening:
    """Returns the whitening in a file, ours or a published one, to follow a student on both sides.

    Args:
        path: the file, or ``aml:NAME/whitening`` for that of a released student.
        student: whose embeddings it is for.
        progress: where a download is announced.

    Raises:
        UsageError: there is no such file, or it takes embeddings of another dimension.
        SpaceMismatchError: it was learned for another network; both are named.
        CheckpointError, UnsafePickleError: the file is damaged, holds no whitening, or is hostile.
        DownloadError: the released file cannot be had, or is not the right one.
    """
    name, given_as = f"student '{student.name}'", str(path)
    if not path.is_file() and is_released_whitening(given_as):
        path = fetched_whitening(given_as, student.name, progress or SilentProgress(), argument="student_whitening")
    if not path.is_file():
        raise UsageError(f"`student_whitening` is '{path}', which is no file; make one: `aml-edge whitening`.")
    if is_torch_file(path):
        whitening = read_published_whitening(path)
    else:
        whitening = load_student_whitening(path, student.weights_sha256, name=student.name)
    takes, given = whitening.projection.shape[1], student.space.dimension
    if takes != given:
        raise UsageError(
            f"`student_whitening` is '{path}', which takes {takes} values, but {name} gives {given}; "
            "give the one that was learned for this student."
        )
    return whitening


def _require_fits(whitening: Whitening, index: TeacherIndex, name: str) -> None:
    _require_unwhitened(index, name)
    takes, holds = whitening.projection.shape[1], index.space.dimension
    if takes != holds:
        raise UsageError(
            f"`whitening` is {name}, which takes {takes} values, but the index {index.path} holds {holds}; "
            "give one that was learned for its teacher."
        )


def _require_unwhitened(index: TeacherIndex, name: str) -> None:
    if index.space.whitening_sha256 is not None:
        raise UsageError(
            f"`whitening` is {name}, but the index {index.path} is whitened already "
            f"({index.space.whitening_sha256[:8]}); leave it out, or give an index that was built without."
        )
