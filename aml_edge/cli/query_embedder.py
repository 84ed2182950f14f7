"""Who embeds the queries of `aml-edge search`: an exported file, a student, or the teacher itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aml_edge.errors import UsageError
from aml_edge.progress import SayingProgress
from aml_edge.scales import SINGLE_SCALE, Scales, describe_scales

if TYPE_CHECKING:
    from aml_edge.embedder import Embedder
    from aml_edge.index import TeacherIndex


@dataclass(frozen=True)
class AskingOptions:
    """Who embeds the queries, and where."""

    artifact: Annotated[Path | None, typer.Option(help="An exported file, as a phone would run it.")] = None
    student: Annotated[
        str | None, typer.Option(help="A checkpoint, a run, or aml:NAME for a released one, instead of a file.")
    ] = None
    teacher: Annotated[
        str | None, typer.Option(help="The teacher, as for index build, instead of both: symmetric search.")
    ] = None
    runtime: Annotated[str | None, typer.Option(help="What runs the file; its format's default.")] = None
    device: Annotated[str, typer.Option(help="Where PyTorch embeds and searches: cpu, cuda.")] = "cpu"


@dataclass(frozen=True)
class QueryEmbedder:
    """What embeds the queries, and what it is in a few words."""

    embedder: Embedder
    who: str


def open_query_embedder(options: AskingOptions, index: TeacherIndex, progress: SayingProgress) -> QueryEmbedder:
    """Returns what embeds the queries of an index: what was named, or the newest run's student.

    Raises:
        UsageError: several were named, or a runtime for a network of PyTorch.
        SpaceMismatchError: it lives in another space than the index; both sides are named.
    """
    from aml_edge.formats import read_artifact
    from aml_edge.networks.released import resolve_student, resolve_teacher
    from aml_edge.querying import artifact_queries, student_queries, teacher_queries

    _require_one(options)
    if options.artifact is not None:
        file = read_artifact(options.artifact)
        who = f"file {file.path}, {file.standing}{_scales_said(SINGLE_SCALE, index)}"
        return QueryEmbedder(artifact_queries(file, index, runtime=options.runtime), who)
    at = _scales_said(index.scales, index)
    if options.teacher is not None:
        teacher = resolve_teacher(options.teacher, progress=progress)
        who = f"teacher {teacher.name} ({teacher.space().weights_sha256[:8]}){at}"
        return QueryEmbedder(teacher_queries(teacher, index, device=options.device), who)
    student = resolve_student(options.student, space=index.space_before_whitening, progress=progress)
    who = f"student {student.name} ({student.weights_sha256[:8]}){at}"
    return QueryEmbedder(student_queries(student, index, device=options.device), who)


def _require_one(options: AskingOptions) -> None:
    named = [f"`{name}`" for name in ("artifact", "student", "teacher") if getattr(options, name) is not None]
    if len(named) > 1:
        given = f"{', '.join(named[:-1])} and {named[-1]} are {'both' if len(named) == 2 else 'all'} given"
        raise UsageError(f"{given}, but one of them embeds a query; give one.")
    if options.runtime is not None and options.artifact is None:
        who = "teacher" if options.teacher is not None else "student"
        raise UsageError(f"`runtime` is {options.runtime!r}, but a {who} runs in PyTorch; give a file with --artifact.")


def _scales_said(scales: Scales, index: TeacherIndex) -> str:
    """Returns what there is to say of the scales of a query and of the index, beyond one each."""
    if scales == index.scales == SINGLE_SCALE:
        return ""
    asked, stored = describe_scales(scales), describe_scales(index.scales)
    return f", at scale {asked}" if asked == stored else f", at scale {asked}; the index at {stored}"
