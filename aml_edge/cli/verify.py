"""`aml-edge verify`: does this file still live in the teacher's space?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aml_edge.cli.console import ConsoleProgress, JsonOption, at_least_wide, console_for, write_json
from aml_edge.cli.option_groups import with_option_groups
from aml_edge.cli.verification_failures import Failures
from aml_edge.cli.verification_options import ImageOptions, JudgedSearchOptions, ToleranceOptions
from aml_edge.errors import (
    ArtifactError,
    ImageBatchError,
    MissingExtraError,
    RuntimeUnavailableError,
    UnknownOperatorError,
    UsageError,
)
from aml_edge.progress import SayingProgress

if TYPE_CHECKING:
    from aml_edge.artifact import Artifact
    from aml_edge.exporters.verification import Verification, VerificationOptions, Verifier
    from aml_edge.exporters.verification_images import VerificationImages
    from aml_edge.index import TeacherIndex
    from aml_edge.networks.checkpoints import StudentCheckpoint


@with_option_groups
def verify(
    artifacts: Annotated[list[Path], typer.Argument(metavar="ARTIFACT…", help="Exported files.")],
    *,
    index: Annotated[Path, typer.Option(help="The teacher's index that queries will meet.")],
    images: ImageOptions,
    student: Annotated[
        str | None,
        typer.Option(help="What they were made from, aml:NAME for a released one; the run with their weights."),
    ] = None,
    runtime: Annotated[str | None, typer.Option(help="What runs them, e.g. tensorflow; the format's own.")] = None,
    tolerances: ToleranceOptions,
    search: JudgedSearchOptions,
    json_target: JsonOption = None,
) -> None:
    """Prove that exported files stay in the teacher's space, and write the verdict into them.

    Each file runs in its real runtime over real images and is compared with the student and with the teacher's index.
    Where one of several cannot be loaded the others are verified all the same.

    Exit codes: 0 all verified; 3 one failed; 1 one was not run (nothing is known of it, so a script must not take it
    for a pass) or an error; 2 wrong usage.
    """
    from aml_edge.exporters.verification import VerificationOptions
    from aml_edge.index import open_index

    console = console_for(json_target)
    progress = ConsoleProgress(console)
    failures = Failures(console, alone=len(artifacts) == 1)
    files = failures.without_unreadable(artifacts)
    limits, opened = asdict(tolerances) | search.tolerances(), open_index(index)
    searches = search.searches().open(opened)
    verifiers = _verifiers(files, student, opened, images.find(progress), progress)
    options = VerificationOptions(runtime, limits, progress, searches)
    outcomes = [_outcome(file, verifier, options, failures) for file, verifier in zip(files, verifiers, strict=True)]
    verifications = [one for one in outcomes if one is not None]
    write_json([*verifications, *failures.unloaded], json_target)
    _require_all_verified(verifications, failures)


def _outcome(
    file: Artifact, verifier: Verifier | None, options: VerificationOptions, failures: Failures
) -> Verification | None:
    """Returns what a file is worth, once it was printed and then written into the file; None where it does not load."""
    from aml_edge.exporters.compatibility_tables import WIDEST_COLUMNS, render_verification
    from aml_edge.exporters.verification import unverified, written

    try:
        verification = unverified(file) if verifier is None else verifier.examine(file, options)
    except ImageBatchError as problem:
        raise ImageBatchError(problem.failures, problem.total, skippable=True) from None
    except (ArtifactError, MissingExtraError, RuntimeUnavailableError, UnknownOperatorError) as problem:
        failures.cannot_load(file.path, problem)
        return None
    with at_least_wide(failures.console, WIDEST_COLUMNS):
        failures.console.print(render_verification(verification), "", crop=False)
    try:
        return written(file, verification)
    except ArtifactError as problem:
        failures.cannot_write(file.path, problem)
        return verification


def _require_all_verified(verifications: Sequence[Verification], failures: Failures) -> None:
    from aml_edge.exporters.verdicts import require_all_verified, require_none_failed

    judgements = [(one.path, one.judgement) for one in verifications]
    require_none_failed(judgements)
    without = [*(one.path for one in failures.unloaded), *failures.unwritten]
    if without:
        raise ArtifactError(
            f"{', '.join(map(str, without))}: no verdict was written into it, for the reasons above; put that right, "
            "then verify it again."
        )
    require_all_verified(judgements)


def _verifiers(
    files: Sequence[Artifact],
    student: str | None,
    index: TeacherIndex,
    images: VerificationImages | None,
    progress: SayingProgress,
) -> list[Verifier | None]:
    """Returns what verifies each file, one for files of the same student, None for files of an untrained one.

    Files that do not belong to the index or to the student are refused here, before anything runs.
    """
    from aml_edge.exporters.verification import Verifier, refuse_strangers, require_space_of
    from aml_edge.networks.released import resolve_student

    trained = [file for file in files if not file.manifest.space.is_untrained]
    for file in trained:
        require_space_of(index, file)
    named = None
    if student is not None and trained:
        named = resolve_student(student, space=index.space_before_whitening, progress=progress)
    verifiers: dict[str, Verifier] = {}
    for file in trained:
        weights = file.manifest.weights_sha256
        if weights not in verifiers:
            checkpoint = named or _student_of(file)
            refuse_strangers(file, checkpoint, index)
            verifiers[weights] = Verifier(checkpoint, index, images)
    return [None if file.manifest.space.is_untrained else verifiers[file.manifest.weights_sha256] for file in files]


def _student_of(file: Artifact) -> StudentCheckpoint:
    """Returns the student of the run that the file was made from."""
    from aml_edge.networks.released import RUNS, student_of_weights

    manifest = file.manifest
    found = student_of_weights(manifest.weights_sha256)
    if found is None:
        raise UsageError(
            f"the file {file.path.name} was made from student '{manifest.student}' (weights "
            f"{manifest.weights_sha256[:8]}), which no run in {RUNS} has; name it with --student."
        )
    return found
