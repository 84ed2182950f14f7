"""Rows of an evaluation: who asked whom, under which conditions, and how well that was answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aml_edge.approximate.cost import ApproximationCost
from aml_edge.bootstrap import Interval, bootstrap_mean
from aml_edge.measures import MeasuresReport
from aml_edge.ranking import RetrievalReport, SettingReport
from aml_edge.scales import SINGLE_SCALE, Scales


@dataclass(frozen=True)
class RetrievalRow:
    """How well one side's queries were answered by another side's database, by the revisited protocol.

    Args:
        queries, database: what embedded them, in a word or two, e.g. ``"student"`` and ``"teacher"``.
        report: the three settings.
        easy_interval, medium_interval, hard_interval: of mAP, 95 % over queries; None where no query has a positive.
        query_scales, database_scales: at which each side saw an image.
        whitening: whose whitening the database's embeddings went through, ``"teacher"`` or ``"student"``.
        whitening_sha256: of that whitening.
        index: folder of the index, where the database is one.
        distractors: database rows besides those of the data set.
        approximation: what approximate search costs, where this is it; None for an exact search.
    """

    queries: str
    database: str
    report: RetrievalReport
    easy_interval: Interval | None
    medium_interval: Interval | None
    hard_interval: Interval | None
    query_scales: Scales = SINGLE_SCALE
    database_scales: Scales = SINGLE_SCALE
    whitening: str | None = None
    whitening_sha256: str | None = None
    index: Path | None = None
    distractors: int = 0
    approximation: ApproximationCost | None = None

    @property
    def name(self) -> str:
        """Queries and database in one, for a table."""
        return _name(self)

    @property
    def settings(self) -> tuple[tuple[str, SettingReport, Interval | None], ...]:
        """(name, report, interval of mAP) of each setting."""
        return (
            ("easy", self.report.easy, self.easy_interval),
            ("medium", self.report.medium, self.medium_interval),
            ("hard", self.report.hard, self.hard_interval),
        )


@dataclass(frozen=True)
class MeasuredRow:
    """How well one side's queries were answered by another side's database, by a protocol without settings.

    Args:
        report: the protocol's measures, the main one first.
        interval: of the main one, 95 % over queries; None where no query has a positive.
        queries, database, query_scales, database_scales, whitening, whitening_sha256, index, distractors,
            approximation: as in `RetrievalRow`.
    """

    queries: str
    database: str
    report: MeasuresReport
    interval: Interval | None
    query_scales: Scales = SINGLE_SCALE
    database_scales: Scales = SINGLE_SCALE
    whitening: str | None = None
    whitening_sha256: str | None = None
    index: Path | None = None
    distractors: int = 0
    approximation: ApproximationCost | None = None

    @property
    def name(self) -> str:
        """Queries and database in one, for a table."""
        return _name(self)


def retrieval_row(queries: str, database: str, report: RetrievalReport) -> RetrievalRow:
    """Returns a report with the names of its two sides and a 95 % bootstrap interval of each mAP."""
    easy, medium, hard = (_interval(one.average_precisions) for one in (report.easy, report.medium, report.hard))
    return RetrievalRow(queries, database, report, easy, medium, hard)


def measured_row(queries: str, database: str, report: MeasuresReport) -> MeasuredRow:
    """Returns a report with the names of its two sides and a 95 % bootstrap interval of its main measure."""
    return MeasuredRow(queries, database, report, _interval(report.main.values))


def database_name(database: str, distractors: int) -> str:
    """Returns what a database is called in a table, e.g. ``"teacher + 1 001 001"``."""
    return f"{database} + {distractors:,}".replace(",", " ") if distractors else database


def _name(row: RetrievalRow | MeasuredRow) -> str:
    exact = f"{row.queries} → {database_name(row.database, row.distractors)}"
    return exact if row.approximation is None else f"{exact}, {row.approximation.ann}"


def _interval(per_query: Sequence[float]) -> Interval | None:
    values = np.array(per_query)
    present = values[~np.isnan(values)]
    return bootstrap_mean(present) if len(present) else None
