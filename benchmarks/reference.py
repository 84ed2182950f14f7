"""The student that a file was made from, so that the file can be timed beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from aml_edge.artifact import Artifact, Manifest
from aml_edge.errors import UsageError
from aml_edge.networks.checkpoints import STUDENT_RECORD, StudentCheckpoint, load_student
from aml_edge.networks.released import untrained_student
from aml_edge.networks.student import StudentSpec


def find_student(manifest: Manifest, runs: Path) -> StudentCheckpoint | None:
    """Returns the student with the weights that a manifest names: of a run, or a seeded untrained one; else None."""
    for record in sorted(runs.glob(f"*/{STUDENT_RECORD}")):
        if _recorded_weights(record) == manifest.weights_sha256:
            found = load_student(record.parent)
            if found.weights_sha256 == manifest.weights_sha256:
                return found
    if not manifest.space.is_untrained:
        return None
    untrained = untrained_student(StudentSpec(manifest.backbone, manifest.space.dimension))
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


def _recorded_weights(record: Path) -> object:
    """Returns what the copy of a record says; a copy that cannot be read says nothing."""
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content.get("weights_sha256") if isinstance(content, dict) else None
