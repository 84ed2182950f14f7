"""Which files a benchmark is about: those that were named, or those that lie in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aml_edge.artifact import Artifact
from aml_edge.errors import ArtifactError
from aml_edge.formats import FORMATS, read_artifact
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.space import EmbeddingSpace


@dataclass(frozen=True)
class Discovery:
    """What lies in a folder.

    Args:
        artifacts: the files to measure, by name.
        left_out: the others, with the reason, one sentence each.
    """

    artifacts: tuple[Artifact, ...]
    left_out: tuple[str, ...]


def read_named(paths: Sequence[Path]) -> tuple[Artifact, ...]:
    """Returns the artifacts at these paths; a folder stands for the model files in it.

    Raises:
        ArtifactError: a path is no artifact, or a folder without any.
    """
    return tuple(read_artifact(file) for path in paths for file in _files_of(path))


def discover(
    folder: Path, checkpoint: StudentCheckpoint | None = None, space: EmbeddingSpace | None = None
) -> Discovery:
    """Returns what lies in a folder, which need not exist.

    Args:
        folder: where to look; folders in it are not entered.
        checkpoint: files of another student are left out; None for files of any.
        space: files of another space are left out; None for files of any.
    """
    artifacts: list[Artifact] = []
    left_out: list[str] = []
    for file in model_files(folder):
        try:
            artifact = read_artifact(file)
        except ArtifactError as error:
            left_out.append(str(error))
            continue
        manifest = artifact.manifest
        if checkpoint is not None and manifest.weights_sha256 != checkpoint.weights_sha256:
            left_out.append(f"{file} is of another student, '{manifest.student}' ({manifest.weights_sha256[:8]}).")
        elif space is not None and manifest.space.fingerprint != space.fingerprint:
            left_out.append(f"{file} lives in another space than the index, {manifest.space.describe()}.")
        else:
            artifacts.append(artifact)
    return Discovery(tuple(artifacts), tuple(left_out))


def model_files(folder: Path) -> tuple[Path, ...]:
    """Returns the paths in a folder whose names end like a model file's, by name; half-written ones are hidden."""
    suffixes = {support.suffix for support in FORMATS.values()}
    return tuple(path for path in sorted(folder.glob("*")) if path.suffix in suffixes and not path.name.startswith("."))


def _files_of(path: Path) -> tuple[Path, ...]:
    if not path.is_dir() or path.suffix in {support.suffix for support in FORMATS.values()}:
        return (path,)
    files = model_files(path)
    if not files:
        raise ArtifactError(f"{path} holds no model file; `aml-edge export` makes one.")
    return files
