"""Which space a released student lives in: its file does not say, its name says for which teacher it was trained.

Source: Budnik and Avrithis, "Asymmetric metric learning for knowledge transfer", CVPR 2021, asymmetric testing: which
losses fail there.
"""

from __future__ import annotations

from aml_edge.errors import SpaceMismatchError
from aml_edge.networks.checkpoints import load_teacher
from aml_edge.networks.released_cache import cached
from aml_edge.networks.released_files import STUDENT_PREFIX, TEACHER_PREFIX, ReleasedStudent, released_teacher
from aml_edge.progress import SayingProgress
from aml_edge.space import EmbeddingSpace, require_same_space

FAILING_LOSSES = ("dark", "rkd", "ms", "triplet")
"""Of which the first two fix relations only, and no coordinates."""


def released_space(
    student: ReleasedStudent, index_space: EmbeddingSpace | None, progress: SayingProgress
) -> EmbeddingSpace | None:
    """Returns the space that a released student lives in, or None for one of its own.

    A student that was trained alone lives in its own. Any other lives in its teacher's, whose weights are known from
    the teacher's file in the cache; where that is not there, an index that was made by a teacher of the same name is
    taken at its word, and that is said.

    Args:
        student: the student.
        index_space: of the index that it shall ask, before whitening; None where there is no index.
        progress: where it is said what had to be assumed.

    Raises:
        SpaceMismatchError: the index is another teacher's; both sides are named.
        CheckpointError, UnsafePickleError, DownloadError: the teacher's file in the cache is not what it should be.
    """
    if student.teacher is None:
        return None
    name, teacher = f"student '{STUDENT_PREFIX}{student.name}'", f"{TEACHER_PREFIX}{student.teacher}"
    known = _known_space(student.teacher)
    if index_space is None:
        if known is None:
            progress.say(
                f"{name} was trained for {teacher}, whose weights are not known on this machine: it is given a space "
                f"of its own here, which no index has; name the index that {teacher} made, if there is one."
            )
        return known
    if known is not None:
        require_same_space(known, index_space, left_name=name, right_name="the index before whitening")
    elif index_space.teacher != _space_name(student.teacher):
        raise SpaceMismatchError(
            f"{name} lives in the space of {_space_name(student.teacher)} ({teacher}), but the index before whitening "
            f"in {index_space.describe()}; compare only what was made for the same teacher."
        )
    else:
        progress.say(
            f"{name} was trained for {teacher}; that the index was made by the same weights "
            f"({index_space.weights_sha256[:8]}) is taken on trust: {teacher} was never used on this machine."
        )
    if student.loss in FAILING_LOSSES:
        progress.say(
            f"{name} was trained with a loss ({student.loss}) whose students fail completely in the teacher's index, "
            "as the paper found."
        )
    return index_space


def _known_space(teacher: str) -> EmbeddingSpace | None:
    """Returns the space of a released teacher whose file is in the cache."""
    path = cached(released_teacher(teacher))
    return None if path is None else load_teacher(path).space()


def _space_name(teacher: str) -> str:
    """Returns the teacher's name in a space, as `aml_edge.networks.foreign` gives it to what the file holds."""
    return f"{teacher}-gem"
