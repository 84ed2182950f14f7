"""Asymmetric mAP of a student at its native pixels, of the student at a file's pixels, and of the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aml_edge.bootstrap import Interval, paired_bootstrap
from aml_edge.embedder import Embeddings
from aml_edge.exporters.agreement import Vector
from aml_edge.ranking import QueryGroundTruth, RetrievalReport, evaluate_revisited


@dataclass(frozen=True)
class MapDifference:
    """A difference of two mAPs over the same queries, in 0..1.

    Args:
        value: second minus first.
        interval: paired bootstrap over queries, 95 %.
    """

    value: float
    interval: Interval


@dataclass(frozen=True)
class SettingAgreement:
    """Asymmetric mAP in one setting, in 0..1; NaN where an embedding is not finite.

    Args:
        queries: how many have a positive.
        native_student: mAP of the student at its native pixels.
        student: of the student at the file's pixels.
        artifact: of the file.
        square: what the file's square changes, student − native_student.
        export: what the export changes, artifact − student.
    """

    queries: int
    native_student: float
    student: float
    artifact: float
    square: MapDifference
    export: MapDifference


@dataclass(frozen=True)
class RetrievalAgreement:
    """Asymmetric mAP in the three settings of the revisited protocol; None where no query has a positive."""

    easy: SettingAgreement | None
    medium: SettingAgreement | None
    hard: SettingAgreement | None

    @property
    def settings(self) -> tuple[tuple[str, SettingAgreement], ...]:
        """(name, agreement) of the settings that have queries."""
        named = (("easy", self.easy), ("medium", self.medium), ("hard", self.hard))
        return tuple((name, setting) for name, setting in named if setting is not None)


@dataclass(frozen=True)
class QueryEmbeddings:
    """(Q, D) embeddings of the same queries: the student's at native pixels and at the file's, and the file's own."""

    native_student: Embeddings
    student: Embeddings
    artifact: Embeddings


def measure_retrieval_agreement(
    queries: QueryEmbeddings, database: Embeddings, ground_truth: Sequence[QueryGroundTruth]
) -> RetrievalAgreement:
    """Returns the three mAPs against the same (M, D) database of teacher embeddings, and their differences.

    An embedder that gives one value that is not finite has no mAP: a query without an answer is not left out.
    """
    sides = _Reports(
        *(
            evaluate_revisited(rows @ database.T, ground_truth) if np.isfinite(rows).all() else None
            for rows in (queries.native_student, queries.student, queries.artifact)
        )
    )
    return RetrievalAgreement(
        easy=_setting(sides, "easy", [bool(truth.easy) for truth in ground_truth]),
        medium=_setting(sides, "medium", [bool(truth.easy or truth.hard) for truth in ground_truth]),
        hard=_setting(sides, "hard", [bool(truth.hard) for truth in ground_truth]),
    )


@dataclass(frozen=True)
class _Reports:
    native_student: RetrievalReport | None
    student: RetrievalReport | None
    artifact: RetrievalReport | None


def _setting(sides: _Reports, name: str, has_positive: Sequence[bool]) -> SettingAgreement | None:
    evaluated = np.flatnonzero(has_positive)
    if not len(evaluated):
        return None
    native, student, artifact = (
        _average_precisions(report, name, evaluated) for report in (sides.native_student, sides.student, sides.artifact)
    )
    return SettingAgreement(
        queries=len(evaluated),
        native_student=float(native.mean()),
        student=float(student.mean()),
        artifact=float(artifact.mean()),
        square=_difference(native, student),
        export=_difference(student, artifact),
    )


def _average_precisions(report: RetrievalReport | None, name: str, evaluated: npt.NDArray[np.intp]) -> Vector:
    if report is None:
        return np.full(len(evaluated), np.nan)
    setting = {"easy": report.easy, "medium": report.medium, "hard": report.hard}[name]
    return np.asarray(setting.average_precisions, np.float64)[evaluated]


def _difference(first: Vector, second: Vector) -> MapDifference:
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return MapDifference(np.nan, Interval(np.nan, np.nan))
    return MapDifference(float(second.mean() - first.mean()), paired_bootstrap(first, second))
