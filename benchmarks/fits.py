"""What the square input of an exported file costs: asymmetric mAP of a student by fit, beside its own aspect.

Run as ``python -m aml_edge.benchmarks.fits --student demo --index indexes/demo --dataset data/demo/test/synth``. The
student in PyTorch stands for every file made from it: verification shows that a file gives the same embeddings.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from aml_edge.bootstrap import Interval, paired_bootstrap
from aml_edge.datasets.loading import load_test_set
from aml_edge.datasets.retrieval_dataset import RetrievalDataset
from aml_edge.evaluation import evaluate_retrieval
from aml_edge.index import TeacherIndex, open_index
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.networks.released import resolve_student
from aml_edge.preprocessing import Fit
from aml_edge.querying import student_queries
from aml_edge.ranking import RetrievalReport, SettingReport
from aml_edge.script_errors import errors_in_a_line


@dataclass(frozen=True)
class FitReport:
    """Asymmetric mAP of a student whose queries are fitted in one way, all in 0..1.

    Args:
        fit: native, or a square one.
        report: the three settings.
        medium_loss: mAP, medium, that the fit loses against native; negative where it gains.
        medium_loss_interval: 95 %, paired bootstrap over queries.
    """

    fit: Fit
    report: RetrievalReport
    medium_loss: float
    medium_loss_interval: Interval


def measure_fits(
    checkpoint: StudentCheckpoint, index: TeacherIndex, dataset: RetrievalDataset, image_side_px: int
) -> tuple[FitReport, ...]:
    """Returns one report a fit, native first.

    Args:
        checkpoint: the student.
        index: its teacher's.
        dataset: whose queries ask the index.
        image_side_px: longest side (native) or side of the square.

    Raises:
        SpaceMismatchError: the student belongs to another teacher than the index.
    """
    reports = {}
    for fit in Fit:
        fitted = replace(checkpoint, preprocessing=checkpoint.preprocessing.fitted(fit, image_side_px))
        reports[fit] = evaluate_retrieval(student_queries(fitted, index), index, dataset, name=str(fit))
    native = _known(reports[Fit.NATIVE].medium)
    return tuple(
        FitReport(
            fit=fit,
            report=report,
            medium_loss=float(np.mean(native) - np.mean(_known(report.medium))),
            medium_loss_interval=paired_bootstrap(_known(report.medium), native),
        )
        for fit, report in reports.items()
    )


def fits_table(reports: Sequence[FitReport]) -> str:
    """Returns the reports as a Markdown table, mAP in points of 100."""
    lines = [
        "| fit | easy | medium | hard | medium lost against native [95 %] |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for one in reports:
        settings = (one.report.easy, one.report.medium, one.report.hard)
        maps = " | ".join(_points(setting.mean_average_precision) for setting in settings)
        low, high = 100 * one.medium_loss_interval.low, 100 * one.medium_loss_interval.high
        loss = "–" if one.fit is Fit.NATIVE else f"{100 * one.medium_loss:.1f} [{low:.1f}, {high:.1f}]"
        lines.append(f"| {one.fit} | {maps} | {loss} |")
    return "\n".join(lines)


def _points(value: float) -> str:
    return "–" if np.isnan(value) else f"{100 * value:.1f}"


def _known(setting: SettingReport) -> list[float]:
    """Returns the average precisions of the queries that have a positive."""
    return [value for value in setting.average_precisions if not np.isnan(value)]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--student", help="as elsewhere; the newest run's")
    parser.add_argument("--index", type=Path, required=True, help="the teacher's index of the data set")
    parser.add_argument("--dataset", type=Path, required=True, help="a data set in the revisited layout")
    parser.add_argument("--image-size", type=int, help="side, px; the student's own")
    arguments = parser.parse_args()
    with errors_in_a_line(parser):
        index = open_index(arguments.index)
        checkpoint = resolve_student(arguments.student, space=index.space_before_whitening)
        side = arguments.image_size or checkpoint.preprocessing.image_side_px
        dataset = load_test_set(arguments.dataset)
        reports = measure_fits(checkpoint, index, dataset, side)
        queries = len(_known(reports[0].report.medium))
        print(f"student {checkpoint.name} at {side} px, {queries} queries of {dataset.name}, asymmetric mAP\n")
        print(fits_table(reports))


if __name__ == "__main__":
    main()
