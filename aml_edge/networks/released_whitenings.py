"""`aml:NAME/whitening`: what a released student's own embeddings are whitened with, queries and database alike.

It is for symmetric testing. In asymmetric testing the teacher's whitening follows on both sides.
"""

from __future__ import annotations

from pathlib import Path

from aml_edge.errors import SpaceMismatchError, UsageError
from aml_edge.networks.released_cache import fetched
from aml_edge.networks.released_files import STUDENT_PREFIX, ReleasedStudent, released_student
from aml_edge.progress import SayingProgress

_SUFFIX = "/whitening"


def is_released_whitening(name: str) -> bool:
    """Returns whether a name asks for a released student's whitening, though it may be misspelt."""
    return name.startswith(STUDENT_PREFIX)


def refuse_teacher(name: str, teacher: str, known: str) -> None:
    """Raises `SpaceMismatchError` where a released student's whitening is named to follow a teacher.

    Args:
        name: that was given as whitening.
        teacher: the teacher's name.
        known: the whitenings that came with it, for the message.
    """
    if is_released_whitening(name):
        student = STUDENT_PREFIX + _student_of(name, "whitening").name
        raise SpaceMismatchError(
            f"`whitening` is {name!r}, which was learned on embeddings of student '{student}', but it shall follow "
            f"teacher '{teacher}'; name one of the teacher's: {known}."
        )


def fetched_whitening(name: str, student: str, progress: SayingProgress, *, argument: str = "whitening") -> Path:
    """Returns the file of a released student's whitening, downloaded where it is not in the cache.

    Args:
        name: ``"aml:efficientnet-b3-contr-2048/whitening"``.
        student: name of the student that it shall follow; a released one is named for its file.
        progress: where a download is announced.
        argument: that the name was given as, for messages.

    Raises:
        UsageError: no such whitening was released.
        SpaceMismatchError: it is another student's; both are named.
        DownloadError: it cannot be had.
    """
    released = _student_of(name, argument)
    if released.stem != student:
        raise SpaceMismatchError(
            f"`{argument}` is {name!r}, which was learned on embeddings of student '{released.stem}', but it shall "
            f"follow student '{student}'; name the one that was learned for this student."
        )
    return fetched(released.whitening, progress)


def _student_of(name: str, argument: str) -> ReleasedStudent:
    student = released_student(name.removeprefix(STUDENT_PREFIX).removesuffix(_SUFFIX), argument=argument)
    if not name.endswith(_SUFFIX):
        raise UsageError(
            f"`{argument}` is {name!r}, which is a student; its whitening is {STUDENT_PREFIX}{student.name}{_SUFFIX}."
        )
    return student
