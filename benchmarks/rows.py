"""What rows there are: the student in PyTorch, then each file in each runtime that can run it."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from aml_edge.artifact import Artifact, Format, Manifest, Precision
from aml_edge.benchmarks.file_names import short_names
from aml_edge.benchmarks.file_subject import FileSubject
from aml_edge.benchmarks.kernels import NOT_TIMED, is_timed, kernels_of
from aml_edge.benchmarks.student_subject import CPU, CUDA, StudentSubject, cuda_devices
from aml_edge.benchmarks.subject import Subject
from aml_edge.errors import UsageError
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.runtimes import RUNTIMES, Runtime

PYTORCH = "PyTorch eager"
TORCH = "torch"
SIMULATED = "simulated: its speed says nothing of the runtime that it stands for"


@dataclass(frozen=True)
class Group:
    """Files of one student, or trained from it for integers, that take the same pixels into the same space.

    Args:
        artifacts: at least one.
        checkpoint: their student; None where it was not found.
    """

    artifacts: tuple[Artifact, ...]
    checkpoint: StudentCheckpoint | None

    @property
    def manifest(self) -> Manifest:
        """The first file's; student, pixels and space are the same in all."""
        return self.artifacts[0].manifest


@dataclass(frozen=True)
class Row:
    """A row to be measured.

    Args:
        label: names it within its group.
        runtime: a name of `RUNTIMES`, or ``"torch"``.
        device: ``"cpu"``, or an accelerator as PyTorch names it.
        artifact: None for the student.
        subjects: number of threads → what runs with them; None where the device decides.
        not_run: why it cannot be timed, where that is known before.
        sampled: its accuracy is measured on a few queries only.
    """

    label: str
    runtime: str
    device: str
    artifact: Artifact | None
    subjects: tuple[tuple[int | None, Subject], ...]
    not_run: str | None = None
    sampled: bool = False


def group_artifacts(artifacts: Sequence[Artifact]) -> tuple[tuple[Artifact, ...], ...]:
    """Returns the artifacts by student, pixels and space, in the order in which each was first met.

    What was trained for integers stands behind the files of the student that it was trained from, if there are any.
    """
    groups: dict[tuple[str, object, str], list[Artifact]] = {}
    trained_for_integers = []
    for artifact in artifacts:
        if _trained_from(artifact) is None:
            groups.setdefault(_group_of(artifact, artifact.manifest.weights_sha256), []).append(artifact)
        else:
            trained_for_integers.append(artifact)
    for artifact in trained_for_integers:
        key = _group_of(artifact, _trained_from(artifact) or "")
        if key not in groups:
            key = _group_of(artifact, artifact.manifest.weights_sha256)
        groups.setdefault(key, []).append(artifact)
    return tuple(tuple(group) for group in groups.values())


def student_rows(group: Group, folder: Path, threads: Sequence[int]) -> tuple[Row, ...]:
    """Returns the student's rows: the CPU's, which is the reference, then a GPU's where there is one.

    Args:
        group: with or without its student.
        folder: holds the student's weights.
        threads: numbers of threads, fewest first.
    """
    manifest = group.manifest
    if group.checkpoint is None:
        missing = (
            f"student '{manifest.student}' (weights {manifest.weights_sha256[:8]}) was not found; "
            "name it with --student to have its files timed beside it"
        )
        return (Row(PYTORCH, TORCH, CPU, None, (), missing),)
    preprocessing = manifest.preprocessing
    subjects = tuple((count, StudentSubject(folder, preprocessing, CPU, count)) for count in threads)
    rows = [Row(PYTORCH, TORCH, CPU, None, subjects)]
    if cuda_devices():
        rows.append(
            Row(f"{PYTORCH}, {CUDA}", TORCH, CUDA, None, ((None, StudentSubject(folder, preprocessing, CUDA, None)),))
        )
    return tuple(rows)


def file_rows(artifacts: Sequence[Artifact], runtimes: Sequence[str], threads: Sequence[int]) -> tuple[Row, ...]:
    """Returns the rows of the files of a group, labels unique.

    Args:
        artifacts: the files.
        runtimes: names of `RUNTIMES`; empty for every one that is installed and runs here.
        threads: numbers of threads, fewest first.
    """
    rows = [row for artifact in artifacts for row in _rows_of(artifact, runtimes, threads)]
    alike = {label for label, count in Counter(row.label for row in rows).items() if count > 1}
    names = short_names([row.artifact.path for row in rows if row.artifact])
    return tuple(
        replace(row, label=f"{row.label}, {names[row.artifact.path]}") if row.label in alike and row.artifact else row
        for row in rows
    )


def fp32_place(rows: Sequence[Row], row: Row) -> int | None:
    """Returns the place of the first fp32 file of a row's format in its runtime; None for fp32 itself, and without."""
    if row.artifact is None or row.artifact.manifest.precision is Precision.FP32:
        return None
    wanted = (row.runtime, row.artifact.manifest.format, Precision.FP32)
    for place, other in enumerate(rows):
        manifest = None if other.artifact is None else other.artifact.manifest
        if manifest is not None and (other.runtime, manifest.format, manifest.precision) == wanted:
            return place
    return None


def runtimes_for(
    model_format: Format, named: Sequence[str] = (), *, integer_activations: bool = False
) -> tuple[Runtime, ...]:
    """Returns the runtimes to run a file in: those named, or every one that is installed here and simulates nothing.

    Where there is none of the latter, the first that could be elsewhere, so that the format has a row that says so.

    Args:
        model_format: of the file.
        named: names of `RUNTIMES`.
        integer_activations: whether exact kernels are of interest, unless they are named: floats need none.

    Raises:
        UsageError: a name that is none of `RUNTIMES`.
    """
    for name in named:
        if name not in RUNTIMES:
            raise UsageError(f"`runtime` is {name!r}; it must be one of {', '.join(RUNTIMES)}.")
    fitting = [runtime for runtime in RUNTIMES.values() if model_format in runtime.formats]
    if named:
        return tuple(runtime for runtime in fitting if runtime.name in named)
    wanted = [runtime for runtime in fitting if integer_activations or runtime.exact_for is None]
    real = [runtime for runtime in wanted if not runtime.simulates]
    return tuple(runtime for runtime in real if runtime.runs_here() and _is_installed(runtime)) or tuple(real[:1])


def simulator_of(model_format: Format) -> Runtime | None:
    """Returns the first runtime that simulates the format on this machine, or None."""
    fitting = (runtime for runtime in RUNTIMES.values() if model_format in runtime.formats and runtime.simulates)
    return next((runtime for runtime in fitting if runtime.runs_here()), None)


def _trained_from(artifact: Artifact) -> str | None:
    quantization = artifact.manifest.quantization
    return None if quantization is None else quantization.trained_from


def _group_of(artifact: Artifact, weights_sha256: str) -> tuple[str, object, str]:
    manifest = artifact.manifest
    return weights_sha256, manifest.preprocessing, manifest.space.fingerprint


def _rows_of(artifact: Artifact, runtimes: Sequence[str], threads: Sequence[int]) -> Iterator[Row]:
    manifest = artifact.manifest
    integer = manifest.precision.has_integer_activations
    for runtime in runtimes_for(manifest.format, runtimes, integer_activations=integer):
        counts = (None,) if runtime.chooses_threads else tuple(threads)
        subjects = tuple((count, FileSubject(artifact, runtime.name, count)) for count in counts)
        not_run = SIMULATED if runtime.simulates else None if is_timed(runtime.name) else NOT_TIMED
        yield Row(
            label=_label(artifact, runtime),
            runtime=runtime.name,
            device=CPU,
            artifact=artifact,
            subjects=subjects if not_run is None else (),
            not_run=not_run,
            sampled=not is_timed(runtime.name) and not runtimes,
        )


def _label(artifact: Artifact, runtime: Runtime) -> str:
    """Returns format, precision and runtime, and a file's integer kernels where the runtime's name has them not."""
    kernels = kernels_of(artifact, runtime.name) if runtime.exact_for is None else None
    trained = "" if _trained_from(artifact) is None else " trained"
    named = f"{artifact.manifest.format} {artifact.manifest.precision}{trained}, {runtime.name}"
    return named if kernels is None else f"{named} {kernels}"


def _is_installed(runtime: Runtime) -> bool:
    """Whether what a runtime imports can be found, without importing it."""
    return runtime.module is None or importlib.util.find_spec(runtime.module.partition(".")[0]) is not None
