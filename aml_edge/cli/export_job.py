"""The steps of `aml-edge export`: students made ready, files written, each held to index and budget."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from aml_edge.cli.console import ConsoleProgress, unredirected
from aml_edge.cli.quantization_options import QuantizationOptions
from aml_edge.cli.verification_options import ImageOptions

if TYPE_CHECKING:
    from aml_edge.exporters.budget import BudgetSearch, Chosen
    from aml_edge.exporters.export import ExportReport
    from aml_edge.exporters.export_spec import ExportSpec
    from aml_edge.exporters.preparation import PreparedStudent
    from aml_edge.exporters.student_preparation import IntegerSettings
    from aml_edge.exporters.verification import VerificationOptions, Verifier
    from aml_edge.image_loading import ImageItem
    from aml_edge.index import TeacherIndex
    from aml_edge.networks.checkpoints import StudentCheckpoint
    from aml_edge.networks.whitening import Whitening


@dataclass(frozen=True, eq=False)
class ExportJob:
    """What all files of one command share; `integers` is None where images choose none, `search` where nothing does."""

    checkpoint: StudentCheckpoint
    teacher: TeacherIndex | None
    integers: IntegerSettings | None
    search: BudgetSearch | None
    items: tuple[ImageItem, ...]

    @property
    def whitening(self) -> Whitening | None:
        """The whitening that goes into the files; raises `SpaceMismatchError` where the index is another teacher's."""
        name = f"student '{self.checkpoint.name}'"
        return None if self.teacher is None else self.teacher.whitening_for(self.checkpoint.space, name=name)


def require_writable(out: Path) -> None:
    """Raises `OSError` where no file can be written into a folder that may yet have to be made."""
    standing = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not standing.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(standing))
    if not os.access(standing, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(standing))


@dataclass(frozen=True, eq=False)
class ReadyStudent:
    """What is known of a file before it is made."""

    spec: ExportSpec
    prepared: PreparedStudent | None = None
    chosen: Chosen | None = None


def budget_search(
    quantization: QuantizationOptions,
    images: ImageOptions,
    checkpoint: StudentCheckpoint,
    teacher: TeacherIndex | None,
    console: Console,
) -> BudgetSearch | None:
    """Returns the search that a budget asks for, or None where none is given; raises as `BudgetSearch`."""
    from aml_edge.datasets.loading import load_test_set
    from aml_edge.exporters.budget import BudgetSearch

    budget = quantization.budget()
    if budget is None:
        return None
    assert teacher is not None and images.dataset is not None, "`require_queries` refuses a budget without them"
    return BudgetSearch(checkpoint, teacher, load_test_set(images.dataset, progress=ConsoleProgress(console)), budget)


def make_ready(job: ExportJob, specs: Sequence[ExportSpec], console: Console) -> list[ReadyStudent]:
    """Returns each file's student, ready for integers where images choose them; all have one precision and side."""
    from aml_edge.exporters.student_preparation import prepare_student

    whitening = job.whitening
    if job.integers is None:
        return [ReadyStudent(spec) for spec in specs]
    with unredirected(console) as bar:
        progress = ConsoleProgress(bar)
        prepared = prepare_student(job.checkpoint, specs[0], whitening, job.integers, progress)
        calibration = prepared.record.calibration
        if calibration is not None and prepared.post_training is not None:
            console.print(
                f"calibrated on {calibration.count} images of {escape(calibration.source)}, {calibration.draw} draw, "
                f"seed {calibration.seed}",
                soft_wrap=True,
            )
        if job.search is None:
            return [ReadyStudent(spec, prepared) for spec in specs]
        chosen = [job.search.choose(prepared, spec, progress) for spec in specs]
    return [ReadyStudent(spec, one.prepared, one) for spec, one in zip(specs, chosen, strict=True)]


def export_files(
    job: ExportJob, ready: Sequence[ReadyStudent], out: Path, console: Console
) -> list[tuple[ExportReport, ReadyStudent]]:
    """Returns the report of each file that was written, beside what it was made from; raises as `export_student`."""
    from aml_edge.exporters.export import export_student, report_of
    from aml_edge.exporters.student_preparation import with_measured_simulation

    space = None if job.teacher is None else job.teacher.space
    written, reports = [], []
    with unredirected(console) as bar, ConsoleProgress(bar).task("exporting", len(ready)) as task:
        for one in ready:
            started = time.perf_counter()
            artifact = export_student(
                job.checkpoint, one.spec, out, whitening=job.whitening, space=space, quantized=one.prepared
            )
            written.append((artifact, time.perf_counter() - started))
            task.advance(status=str(one.spec.format))
    for (artifact, seconds), one in zip(written, ready, strict=True):
        if one.prepared is not None:
            artifact = with_measured_simulation(artifact, one.prepared, job.items, ConsoleProgress(console))
        reports.append((report_of(artifact, seconds=seconds), one))
    return reports


def verify_file(
    report: ExportReport,
    chosen: Chosen | None,
    search: BudgetSearch | None,
    verifier: Verifier,
    options: VerificationOptions,
) -> ExportReport:
    from aml_edge.exporters.budget import cost_of, judged_by_budget, with_search
    from aml_edge.exporters.verification import written
    from aml_edge.formats import read_artifact

    artifact = read_artifact(report.path)
    if chosen is None or search is None:
        return report.verified_by(verifier.verify(artifact, options))
    record = search.judge(artifact, chosen)
    artifact = with_search(artifact, record)
    verification = judged_by_budget(
        verifier.examine(artifact, options), chosen, record, cost_of(artifact, chosen.prepared)
    )
    return report.verified_by(written(artifact, verification))
