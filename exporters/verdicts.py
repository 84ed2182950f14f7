"""The verdict on a file: written into its manifest, and turned into an exit code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from aml_edge.artifact import Artifact, Verdict
from aml_edge.errors import ArtifactError, VerificationError, VerificationNotRunError
from aml_edge.exporters.judgement import Judgement
from aml_edge.formats import write_manifest, write_sidecar


def not_run(reason: str) -> Judgement:
    """Returns the judgement that nothing can be said, and why."""
    return Judgement(Verdict.NOT_RUN, (reason,))


def recorded(artifact: Artifact, judgement: Judgement, note: str = "") -> Artifact:
    """Returns the artifact with the verdict in its manifest, inside the file and beside it.

    A verification that was not run proves nothing, so it leaves an earlier verdict as it is. A manifest beside the file
    that is not the one inside is replaced. A verdict is written again where it does not say what it is about: where the
    file has changed since, or is an older one.

    Args:
        artifact: as it is.
        judgement: what verification said.
        note: how it was found, e.g. the runtime and the images.

    Raises:
        ArtifactError: the file cannot be written.
    """
    manifest = artifact.manifest
    judged = artifact
    if judgement.verdict is not Verdict.NOT_RUN or manifest.verdict is Verdict.NOT_RUN:
        reason = "; ".join(judgement.reasons)
        words = f"{reason} ({note})" if reason and note else reason or note
        judged = Artifact(artifact.path, replace(manifest, verdict=judgement.verdict, verdict_reason=words))
    try:
        tied = judged is artifact or (manifest.content_sha256 is not None and not artifact.changed)
        if judged.manifest == manifest and tied:
            write_sidecar(artifact)
            return artifact
        return write_manifest(judged)
    except OSError as problem:
        raise ArtifactError(
            f"the verdict '{judgement.verdict}' cannot be written into {artifact.path}: {problem.strerror}; "
            "make the file and its folder writable, then verify again."
        ) from None


def require_none_failed(judgements: Sequence[tuple[Path, Judgement]]) -> None:
    """Raises `VerificationError` that names the files whose verdict is failed."""
    failed = [str(path) for path, judgement in judgements if judgement.verdict is Verdict.FAILED]
    if failed:
        raise VerificationError(f"{', '.join(failed)} failed verification, for the reasons above; do not ship it.")


def require_all_verified(judgements: Sequence[tuple[Path, Judgement]]) -> None:
    """Raises as `require_none_failed`, and `VerificationNotRunError` that names the files nothing was proven of."""
    require_none_failed(judgements)
    unproven = [str(path) for path, judgement in judgements if judgement.verdict is Verdict.NOT_RUN]
    if unproven:
        raise VerificationNotRunError(
            f"{', '.join(unproven)}: not verified, for the reasons above, so nothing is known of it; "
            "a file that was not verified has neither passed nor failed."
        )
