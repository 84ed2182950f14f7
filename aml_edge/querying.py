"""Embedders of queries whose rows may be compared with an index: a student, an exported file, the teacher itself.

Each is refused unless it lives in the index's space; a student of the same teacher before whitening is followed by the
index's whitening. Student and teacher see a query at the index's scales unless told otherwise; a file has one.
"""

from __future__ import annotations

from dataclasses import replace

from aml_edge.artifact import Artifact
from aml_edge.embedder import Embedder
from aml_edge.index import TeacherIndex
from aml_edge.networks.checkpoints import StudentCheckpoint, TeacherCheckpoint
from aml_edge.preprocessing import Preprocessing
from aml_edge.runtimes import open_artifact
from aml_edge.runtimes.checkpoint_embedders import student_embedder, teacher_embedder
from aml_edge.scales import Scales
from aml_edge.space import require_same_space


def student_queries(
    checkpoint: StudentCheckpoint,
    index: TeacherIndex,
    *,
    image_side_px: int | None = None,
    scales: Scales | None = None,
    device: str = "cpu",
) -> Embedder:
    """Returns a student that asks the index, at its own size and the index's scales, or at other ones.

    Raises:
        SpaceMismatchError: it was trained for another teacher, dimension or whitening; both sides are named.
    """
    whitening = index.whitening_for(checkpoint.space, name=f"student '{checkpoint.name}'")
    preprocessing = sized(checkpoint.preprocessing, image_side_px)
    return student_embedder(
        checkpoint, preprocessing, whitening=whitening, scales=scales or index.scales, device=device
    )


def artifact_queries(artifact: Artifact, index: TeacherIndex, *, runtime: str | None = None) -> Embedder:
    """Returns an exported file that asks the index, in the named runtime or its format's default one.

    Raises:
        SpaceMismatchError: it lives in another space; nothing is added to what a phone would send.
        MissingExtraError, RuntimeUnavailableError, UsageError, ArtifactError: the runtime cannot run the file here.
    """
    require_file_of(artifact, index)
    return open_artifact(artifact, runtime)


def teacher_queries(
    checkpoint: TeacherCheckpoint, index: TeacherIndex, *, scales: Scales | None = None, device: str = "cpu"
) -> Embedder:
    """Returns the teacher that asks its own index, as its database was embedded, or at other scales.

    Raises:
        SpaceMismatchError: the index is of another teacher; both sides are named.
    """
    require_teacher_of(checkpoint, index)
    return teacher_embedder(
        checkpoint, index.preprocessing, whitening=index.whitening, scales=scales or index.scales, device=device
    )


def require_file_of(artifact: Artifact, index: TeacherIndex) -> None:
    """Raises `SpaceMismatchError` that names both sides unless an exported file lives in the index's space."""
    require_same_space(
        artifact.manifest.space,
        index.space,
        left_name=f"the file {artifact.path.name}",
        right_name=f"the index {index.path}",
    )


def require_teacher_of(checkpoint: TeacherCheckpoint, index: TeacherIndex) -> None:
    """Raises `SpaceMismatchError` that names both sides unless a teacher, with the index's whitening, embedded it."""
    space = checkpoint.space(index.whitening)
    require_same_space(
        space, index.space, left_name=f"teacher '{checkpoint.name}'", right_name=f"the index {index.path}"
    )


def sized(preprocessing: Preprocessing, image_side_px: int | None) -> Preprocessing:
    """Returns a preprocessing of another side, or the same where none is given."""
    return preprocessing if image_side_px is None else replace(preprocessing, image_side_px=image_side_px)
