"""Every error that aml-edge raises on purpose.

AmlEdgeError                       exit code 1
├── UsageError                     exit code 2: an argument that cannot work, or names nothing that is there
├── MissingExtraError              an optional dependency is not installed
├── ImageError                     an image that cannot be read; names the file
│   └── ImageBatchError            several of them, all listed
├── DatasetError                   a data set whose layout or metadata is broken
├── UnsafePickleError              a pickle that asks for a type it may not have
├── DownloadError                  a file that could not be fetched, or is not the published one
├── CheckpointError                weights that do not fit, or a file that is no checkpoint
├── TeacherIndexError              an index that is missing, damaged or incomplete
├── ForeignIndexError              vectors of another tool that cannot be imported
├── ArchiveError                   an archive that is damaged, or would write where it may not
├── EngineError                    a job on a cluster that cannot run, or broke off
├── SpaceMismatchError             two sides of a comparison live in different embedding spaces
├── ArtifactError                  a model file without a readable manifest
├── TrainingError                  a training that cannot go on
├── QuantizationError              integers that cannot hold a network, or too little to choose them by
├── ExportError                    a converter failed; names its log
├── RuntimeUnavailableError        a runtime that cannot run on this machine
├── UnknownOperatorError           an operator that an evaluator does not know
├── BenchmarkError                 a measurement that broke off
├── VerificationNotRunError        nothing that could prove or disprove an artifact
└── VerificationError              exit code 3: the artifact left the teacher's space

A message has three parts: the argument and its value, the rule, the next step.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

ImageName = Path | str
"""What a message calls an image: the path of its file, or the address of what holds its bytes."""


class AmlEdgeError(Exception):
    """An error whose message is written for the person at the terminal."""

    exit_code: ClassVar[int] = 1


class UsageError(AmlEdgeError):
    """An argument, or a combination of arguments, that cannot work."""

    exit_code: ClassVar[int] = 2


def unusable_path(path: Path, message: str, otherwise: type[AmlEdgeError]) -> AmlEdgeError:
    """Returns the error that a path which someone named cannot be used: wrong usage where nothing is there.

    Args:
        path: as it was named.
        message: of the error.
        otherwise: its type where something else is there.
    """
    return (otherwise if path.exists() else UsageError)(message)


class MissingExtraError(AmlEdgeError):
    """An optional dependency is not installed.

    Args:
        package: what could not be imported, e.g. ``"coremltools"``.
        extra: the extra of aml-edge that brings it, e.g. ``"coreml"``.
        purpose: what needs it, e.g. ``"the Core ML format"``.
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}, which is not installed: pip install 'aml-edge[{extra}]'")
        self.package = package
        self.extra = extra


class ImageError(AmlEdgeError):
    """An image that cannot be read; the message names the file.

    Args:
        path: the file, or what holds its bytes.
        reason: what is wrong with it, in a few words.
    """

    def __init__(self, path: ImageName, reason: str) -> None:
        super().__init__(f"{path} cannot be read as an image: {reason}; replace it or leave it out.")
        self.failures: tuple[tuple[ImageName, str], ...] = ((path, reason),)


class ImageBatchError(ImageError):
    """Several images that cannot be read, all listed.

    Args:
        failures: (path, reason) of each, in the order they were met.
        total: how many images were asked for.
        skippable: whether whoever asked for them may leave such images out, with --skip-unreadable.
    """

    def __init__(self, failures: Sequence[tuple[ImageName, str]], total: int, *, skippable: bool = False) -> None:
        listed = "\n".join(f"  {path}: {reason}" for path, reason in failures)
        skip = ", or pass --skip-unreadable" if skippable else ""
        AmlEdgeError.__init__(
            self, f"{len(failures)} of {total} images cannot be read; remove or replace them{skip}:\n{listed}"
        )
        self.failures = tuple(failures)
        self.total = total


class DatasetError(AmlEdgeError):
    """A data set whose layout or metadata is broken."""


class UnsafePickleError(AmlEdgeError):
    """A pickle that asks for a type it may not have; nothing of it has run."""


class DownloadError(AmlEdgeError):
    """A file that could not be fetched, or that is not the one that was published."""


class CheckpointError(AmlEdgeError):
    """Weights that do not fit the network, or a file that is no checkpoint."""


class TeacherIndexError(AmlEdgeError):
    """An index that is missing, damaged or incomplete."""


class ForeignIndexError(AmlEdgeError):
    """Vectors of another tool (an array, a table, a FAISS file, a collection) that cannot be imported."""


class ArchiveError(AmlEdgeError):
    """An archive that is damaged, too large, or would write where it may not."""


class EngineError(AmlEdgeError):
    """A job on a cluster that cannot run there, or broke off."""


class SpaceMismatchError(AmlEdgeError):
    """Two sides of a comparison live in different embedding spaces; both are named."""


class ArtifactError(AmlEdgeError):
    """A model file without a readable manifest."""


class TrainingError(AmlEdgeError):
    """A training that cannot go on; what it had learned stays in its run folder."""


class QuantizationError(AmlEdgeError):
    """Integers that cannot hold a network, or too little to choose them by."""


class ExportError(AmlEdgeError):
    """A converter failed; the message ends with where its log is."""


class RuntimeUnavailableError(AmlEdgeError):
    """A runtime that cannot run on this machine."""


class UnknownOperatorError(AmlEdgeError):
    """An operator that an evaluator does not know."""


class BenchmarkError(AmlEdgeError):
    """A measurement that broke off: the process that made it died."""


class VerificationNotRunError(AmlEdgeError):
    """Nothing that could prove or disprove an artifact: neither verified nor failed."""


class VerificationError(AmlEdgeError):
    """The artifact left the teacher's space."""

    exit_code: ClassVar[int] = 3
