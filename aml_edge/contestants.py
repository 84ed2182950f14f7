"""Who is evaluated, and against what: the rows of a table, planned before anything is embedded.

Asymmetric rows whiten both sides with the teacher's whitening, which is that of the database; symmetric rows of a
student whiten both sides with the student's own, where one is given.

Source: Budnik and Avrithis, "Asymmetric metric learning for knowledge transfer", CVPR 2021.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from aml_edge.artifact import Artifact
from aml_edge.embedded_sides import Side
from aml_edge.errors import SpaceMismatchError
from aml_edge.index import TeacherIndex
from aml_edge.networks.checkpoints import StudentCheckpoint, TeacherCheckpoint
from aml_edge.networks.whitening import Whitening
from aml_edge.querying import require_file_of, require_teacher_of, sized
from aml_edge.runtimes import open_artifact
from aml_edge.runtimes.checkpoint_embedders import student_embedder, teacher_embedder
from aml_edge.scales import SINGLE_SCALE, Scales
from aml_edge.space import EmbeddingSpace

STUDENT, TEACHER, FILE = "student", "teacher", "file"


@dataclass(frozen=True)
class Contestants:
    """What is evaluated against a teacher's index; None leaves its rows out.

    Args:
        student: alone, and against the index.
        artifact: a file, against the index; it sees an image at one scale.
        teacher: against its own index.
        image_side_px: longest side of what the student sees; its own where None.
        scales: at which student and teacher see a query, and the student its own database: rows for each; those of the
            index where none are given.
        student_whitening: the student's own, for further rows of the student alone.
    """

    student: StudentCheckpoint | None = None
    artifact: Artifact | None = None
    teacher: TeacherCheckpoint | None = None
    image_side_px: int | None = None
    scales: tuple[Scales, ...] = ()
    student_whitening: Whitening | None = None


@dataclass(frozen=True, eq=False)
class Pairing:
    """One row of the table to be.

    Args:
        queries: what embeds the queries.
        database: an index, or what embeds the database.
        whitening: what follows whatever is embedded; the rows of an index are what they are.
    """

    queries: Side
    database: Side | TeacherIndex
    whitening: Whitening | None


def pairings(contestants: Contestants, databases: Sequence[TeacherIndex]) -> tuple[Pairing, ...]:
    """Returns teacher → teacher, student → student, student → teacher, file → teacher, each over the databases.

    Who fits some of the databases, and differs from the others in whitening only, has rows for those that fit.

    Raises:
        SpaceMismatchError: one is of another teacher than a database, or fits none; both sides are named.
    """
    return (
        *_teacher_pairings(contestants, databases),
        *_symmetric_pairings(contestants, databases),
        *_student_pairings(contestants, databases),
        *_file_pairings(contestants, databases),
    )


def _teacher_pairings(contestants: Contestants, databases: Sequence[TeacherIndex]) -> Iterator[Pairing]:
    checkpoint = contestants.teacher
    if checkpoint is None:
        return
    for database in databases:
        require_teacher_of(checkpoint, database)
        for scales in contestants.scales or (database.scales,):
            opening = partial(teacher_embedder, checkpoint, database.preprocessing, scales=scales)
            yield Pairing(Side(TEACHER, database.preprocessing, scales, opening), database, database.whitening)


def _symmetric_pairings(contestants: Contestants, databases: Sequence[TeacherIndex]) -> Iterator[Pairing]:
    if contestants.student is None:
        return
    own = contestants.student_whitening
    for scales in contestants.scales or dict.fromkeys(database.scales for database in databases) or (SINGLE_SCALE,):
        side = _student_side(contestants.student, contestants.image_side_px, scales)
        for whitening in (None,) if own is None else (None, own):
            yield Pairing(side, side, whitening)


def _student_pairings(contestants: Contestants, databases: Sequence[TeacherIndex]) -> Iterator[Pairing]:
    checkpoint = contestants.student
    if checkpoint is None:
        return
    name = f"student '{checkpoint.name}'"
    for database, whitening in _fitting(
        databases, checkpoint.space, lambda index: index.whitening_for(checkpoint.space, name=name)
    ):
        for scales in contestants.scales or (database.scales,):
            yield Pairing(_student_side(checkpoint, contestants.image_side_px, scales), database, whitening)


def _file_pairings(contestants: Contestants, databases: Sequence[TeacherIndex]) -> Iterator[Pairing]:
    artifact = contestants.artifact
    if artifact is None:
        return
    manifest = artifact.manifest
    side = Side(FILE, manifest.preprocessing, SINGLE_SCALE, partial(open_artifact, artifact, None))
    for database, _ in _fitting(databases, manifest.space, lambda index: require_file_of(artifact, index)):
        yield Pairing(side, database, None)


def _student_side(checkpoint: StudentCheckpoint, image_side_px: int | None, scales: Scales) -> Side:
    preprocessing = sized(checkpoint.preprocessing, image_side_px)
    return Side(STUDENT, preprocessing, scales, partial(student_embedder, checkpoint, preprocessing, scales=scales))


def _fitting(
    databases: Sequence[TeacherIndex], space: EmbeddingSpace, fit: Callable[[TeacherIndex], Whitening | None]
) -> list[tuple[TeacherIndex, Whitening | None]]:
    """Returns the databases that `fit` does not refuse, with what it returns; raises where it refuses all of them."""
    found: list[tuple[TeacherIndex, Whitening | None]] = []
    refusal: SpaceMismatchError | None = None
    for database in databases:
        try:
            found.append((database, fit(database)))
        except SpaceMismatchError as problem:
            if not space.same_teacher(database.space):
                raise
            refusal = refusal or problem
    if refusal is not None and not found:
        raise refusal
    return found
