"""A verification for people: sections in a fixed order, each value beside its limit, and the verdict last."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from aml_edge.approximate.cost import ApproximationCost
from aml_edge.artifact import Verdict
from aml_edge.exporters.agreement import EmbeddingAgreement, Spread
from aml_edge.exporters.checks import Check
from aml_edge.exporters.compatibility import CompatibilityReport
from aml_edge.exporters.quantization_summary import summarise_convolutions, summarise_quantization
from aml_edge.exporters.retrieval_agreement import MapDifference
from aml_edge.exporters.verification import Verification
from aml_edge.quantization_record import QuantizationRecord
from aml_edge.runtimes.half_rounding import LARGEST_HALF

VERDICT_STYLES = {Verdict.VERIFIED: "bold green", Verdict.FAILED: "bold red", Verdict.NOT_RUN: "bold yellow"}
WIDEST_COLUMNS = 110
"""What the widest table takes."""
FEW_VALUES = 1000
"""A dtype with fewer stored values is shapes and axes, not weights."""

Checks = Mapping[str, Check]


def render_verification(verification: Verification) -> RenderableType:
    """Returns what a person reads of a verification, in at most `WIDEST_COLUMNS`."""
    parts = list(_title(verification))
    report = verification.report
    if report is not None:
        proven = verification.judgement.verdict is not Verdict.NOT_RUN
        checks = {check.key: check for check in verification.checks if proven}
        parts += [
            *_section("1  Asymmetric mAP", _retrieval(report, checks)),
            *_section("2  Ranking of the teacher's index, file beside student", _ranking(report, checks)),
            *_section("3  Embeddings, cosine of", _embeddings(report, checks)),
            *_section("4  Faults", _faults(report, checks)),
            *_section("5  Operators", _operators(report, verification.manifest.quantization)),
        ]
        for cost in report.approximation:
            title = f"6  Approximate search, {cost.ann}, beside exact search by the file"
            parts += _section(title, _approximation(cost, checks))
    return Group(*parts, *_verdict(verification))


def _title(verification: Verification) -> Iterator[RenderableType]:
    manifest, report = verification.manifest, verification.report
    yield Text(str(verification.path), "bold")
    yield Text(f"{manifest.format} {manifest.precision}")
    yield Text(f"student {manifest.student} ({manifest.weights_sha256[:8]}), space {manifest.space.describe()}")
    if report is not None:
        yield Text(
            f"run by {report.runtime} on {report.images} images of {report.source} "
            f"({report.distinct_images} distinct), index of {report.ranking.database_images}"
        )


def _section(title: str, body: Iterator[RenderableType]) -> Iterator[RenderableType]:
    yield Text()
    yield Text(title, "bold cyan")
    for part in body:
        yield Padding(part, (0, 0, 0, 3))


def _retrieval(report: CompatibilityReport, checks: Checks) -> Iterator[RenderableType]:
    if report.retrieval is None:
        yield Text("not run: no ground truth")
        return
    table = _table("queries", "native", "square", "file", "square − native", "file − square", "limit")
    for name, setting in report.retrieval.settings:
        maps = (setting.native_student, setting.student, setting.artifact)
        table.add_row(
            f"{name}, {setting.queries}",
            *(_number(100 * value, ".2f") for value in maps),
            _difference(setting.square),
            _difference(setting.export),
            _limit(checks, f"map_loss_points {name}", "", -1),
        )
    yield table
    yield Text("native and square: the student at its own pixels and at the file's; [95 % over queries]", "dim")


def _ranking(report: CompatibilityReport, checks: Checks) -> Iterator[RenderableType]:
    ranking = report.ranking
    table = _table("", "smallest", "mean", "by chance", "limit")
    for overlap in ranking.overlaps:
        shares = (f"{share:.4f}" for share in (overlap.smallest, overlap.mean, overlap.chance))
        limit = _limit(checks, f"overlap {overlap.k}", "mean")
        table.add_row(f"share of the first {overlap.k} in common", *shares, limit)
    correlations = (_number(value, ".6f") for value in (ranking.smallest_correlation, ranking.mean_correlation))
    limit = _limit(checks, "rank_correlation", "mean")
    table.add_row(f"rank correlation over {ranking.correlated_rows} rows", *correlations, "0.0000", limit)
    yield table


def _embeddings(report: CompatibilityReport, checks: Checks) -> Iterator[RenderableType]:
    table = _table("", "smallest", "1st percentile", "median", "limit")
    _add_agreement(table, report.agreement, checks, "", "file–student")
    half, teacher, kernels = report.half_precision, report.teacher, report.kernels
    if half is not None:
        _add_agreement(table, half.agreement, checks, "half ", "half precision–student")
    if kernels is not None:
        table.add_row("other kernels, centred", *_spread(kernels.centred_cosine), _limit(checks, "kernels", "median"))
    if teacher is not None:
        table.add_row("student–teacher (distillation)", *_spread(teacher.student_cosine), "")
        limit = _limit(checks, "teacher_cosine_loss", "median lost")
        table.add_row("file–teacher (and export)", *_spread(teacher.artifact_cosine), limit)
    yield table
    if kernels is not None:
        yield Text(f"other kernels: {kernels.other}, on {kernels.images} images, beside {kernels.verified}", "dim")
    yield from _pair_errors(report, checks)
    if teacher is None:
        yield Text("to the teacher: not run, none of the images is in the index")
    else:
        yield Text(
            f"nearer to its own teacher embedding than to another's, {teacher.images} images: "
            f"student {100 * teacher.student_own_first:.1f} %, file {100 * teacher.artifact_own_first:.1f} %"
        )


def _add_agreement(table: Table, agreement: EmbeddingAgreement, checks: Checks, key: str, label: str) -> None:
    table.add_row(label, *_spread(agreement.cosine), _limit(checks, f"{key}cosine", "smallest"))
    centred = _spread(agreement.centred_cosine)
    table.add_row(f"{label}, centred", *centred, _limit(checks, f"{key}centred_cosine", "smallest"))


def _pair_errors(report: CompatibilityReport, checks: Checks) -> Iterator[RenderableType]:
    table = _table("similarity of two images", "largest error", "mean error", "limit")
    sides = [("file", "", report.agreement)]
    if report.half_precision is not None:
        sides.append(("half precision", "half ", report.half_precision.agreement))
    for label, key, agreement in sides:
        errors = (_number(error, ".6f") for error in (agreement.pair_error.largest, agreement.pair_error.mean))
        table.add_row(label, *errors, _limit(checks, f"{key}pair_error", "largest"))
    yield table
    yield Text(
        f"median distance of two images: student {report.student_pair_distance:.4f}, "
        f"index {report.index_pair_distance:.4f}"
    )


def _faults(report: CompatibilityReport, checks: Checks) -> Iterator[RenderableType]:
    table = _table("", "NaN or infinite", "largest norm error", "limit")
    sides = [("file", "", report.agreement, report.images)]
    half = report.half_precision
    if half is not None:
        sides.append(("half precision", "half ", half.agreement, half.images))
    for label, key, agreement, images in sides:
        broken = Text(f"{agreement.non_finite} of {images}", "bold red" if agreement.non_finite else "")
        table.add_row(
            label, broken, _number(agreement.largest_norm_error, ".1e"), _limit(checks, f"{key}norm_error", "")
        )
    yield table
    if half is not None:
        plain = "would fit" if half.head.fits_half_when_raised else "would overflow"
        yield Text(
            f"head's input at most {half.head.largest:.4g}, half precision holds {LARGEST_HALF:g}; "
            f"to the power {half.head.exponent:.3g} without rescaling it {plain}"
        )


def _operators(report: CompatibilityReport, quantization: QuantizationRecord | None) -> Iterator[RenderableType]:
    census = report.census
    if census is None:
        yield Text("not run: no file")
        return
    ordered = sorted(census.operators.items(), key=lambda entry: (-entry[1], entry[0]))
    yield Text(f"{sum(census.operators.values())}, of them transposes {census.transposes}: ").append(
        ", ".join(f"{name} {count}" for name, count in ordered), "dim"
    )
    weights = (f"{dtype} {count / 1e6:.2f} M" for dtype, count in census.weight_values.items() if count >= FEW_VALUES)
    yield Text(f"weights {', '.join(weights) or 'none'}")
    if census.integer_convolutions + census.dynamic_convolutions + census.weight_only_convolutions:
        yield Text(summarise_convolutions(census))
    for line in () if quantization is None else summarise_quantization(quantization):
        yield Text(line)


def _approximation(cost: ApproximationCost, checks: Checks) -> Iterator[RenderableType]:
    if cost.measures:
        table = _table("queries", "exact", "approximate", "approximate − exact", "limit")
        for one in cost.measures:
            table.add_row(
                f"{one.name}, {one.queries}",
                *(_number(100 * value, ".2f") for value in (one.exact, one.approximate)),
                _difference(MapDifference(one.difference, one.interval)),
                _limit(checks, f"ann_map_loss_points {cost.ann} {one.name}", "", -1),
            )
        yield table
        wanted = f"asked for {cost.depth} of {cost.database_images} images"
        yield Text(f"{wanted}; what is not returned counts as never found; [95 % over queries]", "dim")
    if not cost.found:
        return
    table = _table("", "smallest", "mean", "limit")
    for share in cost.found:
        shares = (f"{value:.4f}" for value in (share.smallest, share.mean))
        limit = _limit(checks, f"ann_overlap {cost.ann} {share.k}", "mean")
        table.add_row(f"share of the first {share.k} that is found", *shares, limit)
    yield table


def _verdict(verification: Verification) -> Iterator[RenderableType]:
    judgement = verification.judgement
    yield Text()
    for warning in judgement.warnings:
        yield Text(f"note: {warning}", "yellow")
    yield Text(str(judgement.verdict).upper(), VERDICT_STYLES[judgement.verdict]).append(
        _tally(verification), "not bold"
    )
    for reason in judgement.reasons:
        yield Padding(Text(f"− {reason}"), (0, 0, 0, 3))


def _tally(verification: Verification) -> str:
    if verification.judgement.verdict is Verdict.NOT_RUN:
        return ""
    held = sum(check.holds for check in verification.checks)
    return f": {held} of {len(verification.checks)} tolerances kept"


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="left" if name == "limit" else "right", no_wrap=True)
    return table


def _spread(spread: Spread) -> tuple[str, str, str]:
    return (
        _number(spread.smallest, ".6f"),
        _number(spread.first_percentile, ".6f"),
        _number(spread.median, ".6f"),
    )


def _number(value: float, style: str) -> str:
    return format(value, style) if math.isfinite(value) else "NaN"


def _difference(difference: MapDifference) -> str:
    if not math.isfinite(difference.value):
        return "NaN"
    low, high = 100 * difference.interval.low, 100 * difference.interval.high
    return f"{100 * difference.value:+.2f} [{low:+.2f}, {high:+.2f}]"


def _limit(checks: Checks, key: str, column: str, sign: int = 1) -> Text:
    """Returns a check's limit and whether it is kept; `sign` −1 where the table shows the negative of its value."""
    check = checks.get(key)
    if check is None:
        return Text()
    comparison = "≥" if check.is_floor is (sign > 0) else "≤"
    kept = ("kept", "green") if check.holds else ("MISSED", "bold red")
    return Text.assemble(f"{column} {comparison} {sign * check.limit + 0:g} ".lstrip(), kept)
