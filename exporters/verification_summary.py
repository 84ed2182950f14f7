"""A verification in a line or two, for a command that does more than verify."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.text import Text

from aml_edge.artifact import Verdict
from aml_edge.exporters.compatibility import CompatibilityReport
from aml_edge.exporters.compatibility_tables import VERDICT_STYLES
from aml_edge.exporters.verification import Verification


def summarise_verification(verification: Verification) -> Text:
    """Returns the verdict with the numbers that matter most, then every reason against it, one a line."""
    judgement, report = verification.judgement, verification.report
    text = Text.assemble((str(judgement.verdict), VERDICT_STYLES[judgement.verdict]))
    if judgement.verdict is not Verdict.NOT_RUN and report is not None:
        text.append(": " + ", ".join(_numbers(report)))
    elif len(judgement.reasons) == 1:
        return text.append(f": {judgement.reasons[0]}")
    else:
        text.append(":")
    return text.append("".join(f"\n− {reason}" for reason in judgement.reasons))


def _numbers(report: CompatibilityReport) -> Iterator[str]:
    retrieval = report.retrieval
    setting = None if retrieval is None else (retrieval.medium or retrieval.easy or retrieval.hard)
    if retrieval is not None and setting is not None:
        name = next(name for name, one in retrieval.settings if one is setting)
        yield f"{name} mAP {100 * setting.student:.2f} → {100 * setting.artifact:.2f}"
    yield f"cosine ≥ {_floor(report.agreement.cosine.smallest)}"
    yield f"centred ≥ {_floor(report.agreement.centred_cosine.smallest)}"
    if report.half_precision is not None:
        yield f"centred in simulated half ≥ {_floor(report.half_precision.agreement.centred_cosine.smallest)}"
    yield f"{report.images} images in {report.runtime}"


def _floor(value: float) -> str:
    """Returns a cosine cut, not rounded, to five digits: 0.999997 is not 1."""
    return f"{math.floor(value * 1e5) / 1e5:.5f}" if math.isfinite(value) else "NaN"
