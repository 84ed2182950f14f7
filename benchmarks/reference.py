"""The student that a file was made from, so that the file can be timed beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aml_edge.artifact import Artifact, Manifest
from aml_edge.errors import UsageError
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.networks.released import student_of_weights, untrained_student
from aml_edge.networks.student import StudentSpec


def find_student(manifest: Manifest, runs: Path) -> StudentCheckpoint | None:
    """Returns the student with the weights that a manifest names: of a run, or a seeded untrained one; else None."""
    found = student_of_weights(manifest.weights_sha256, runs=runs)
    if found is not None or not manifest.space.is_untrained:
        return found
    try:
        untrained = untrained_student(StudentSpec(manifest.backbone, manifest.space.dimension))
    except UsageError:  # a backbone that this timm does not have
        return None
    return untrained if untrained.weights_sha256 == manifest.weights_sha256 else None


def require_student_of(artifacts: Sequence[Artifact], checkpoint: StudentCheckpoint) -> None:
    """Raises `UsageError` that names both sides unless every file was made from the student."""
    weights = checkpoint.weights_sha256
    for artifact in artifacts:
        manifest = artifact.manifest
        if manifest.weights_sha256 != weights:
            raise UsageError(
                f"`student` is '{checkpoint.name}' (weights {weights[:8]}), but {artifact.path} was made from "
                f"'{manifest.student}' (weights {manifest.weights_sha256[:8]}); "
                "a file is timed beside its own student: name that one, or none."
            )
