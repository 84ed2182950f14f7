"""The paper's findings, judged on reproduced rows: held, not held, or too close to call.

Each finding is a list of comparisons: this row's mAP above that row's, in one testing mode. A comparison holds where
the 95 % interval of the paired difference over queries is above zero, fails where it is below, and is open otherwise. A
finding holds where all its comparisons do, and does not where one fails.

Two words have no number in the paper. Here "fails completely" is: of the way from an untrained student to Reg, both
tested asymmetrically, less than a quarter. "Slightly below the teacher" is: of the way from an untrained student to the
teacher, both tested symmetrically, more than three quarters.

Source: Budnik and Avrithis, "Asymmetric metric learning for knowledge transfer", CVPR 2021, section 5.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from aml_edge.bootstrap import Interval, paired_bootstrap
from aml_edge.training.reproduction import UNTRAINED, ReproducedRow
from aml_edge.training.settings import Mode

FAILING_SHARE = 0.25
SLIGHT_SHARE = 0.75


class Outcome(StrEnum):
    """What came of a comparison or a finding."""

    HELD = "held"
    NOT_HELD = "not held"
    OPEN = "too close to call"
    NOT_TESTED = "not tested"


@dataclass(frozen=True)
class Claim:
    """One row's mAP is above another's.

    Args:
        better, worse: row and testing mode.
        share: so far towards the better one from the untrained student, tested in the same mode, instead of it.
        worse_share: so far towards the worse one, likewise.
    """

    better: tuple[str, Mode]
    worse: tuple[str, Mode]
    share: float = 1.0
    worse_share: float = 1.0


@dataclass(frozen=True)
class Comparison:
    """A claim and what came of it.

    Args:
        claim: see `Claim`.
        difference: mean over queries of better − worse, in 0..1; None where a row is missing.
        interval: of it, 95 %.
        outcome: see `Outcome`.
    """

    claim: Claim
    difference: float | None
    interval: Interval | None
    outcome: Outcome


@dataclass(frozen=True)
class Finding:
    """A finding of the paper and what came of it here.

    Args:
        text: in words.
        comparisons: what it says in numbers.
        outcome: of all of them.
    """

    text: str
    comparisons: tuple[Comparison, ...]
    outcome: Outcome


def _above(better: str, worse: Sequence[str], testing: Mode, share: float = 1.0) -> list[Claim]:
    return [Claim((better, testing), (other, testing), share) for other in worse]


_SYM, _ASYM = Mode.SYMMETRIC, Mode.ASYMMETRIC
_OTHERS = ("triplet", "ms", "rkd", "dark")
FINDINGS: dict[str, list[Claim]] = {
    "symmetric: the student of Contr beats the teacher": _above("contr", ["teacher"], _SYM),
    "symmetric: the student of Contr⁺ beats the teacher": _above("contr-plus", ["teacher"], _SYM),
    "symmetric: Reg comes after Contr and Contr⁺": _above("contr", ["reg"], _SYM) + _above("contr-plus", ["reg"], _SYM),
    "symmetric: Reg is slightly below the teacher": [
        *_above("teacher", ["reg"], _SYM),
        Claim(("reg", _SYM), ("teacher", _SYM), worse_share=SLIGHT_SHARE),
    ],
    "symmetric: Triplet, MS, RKD and DR are worse than the student trained alone": _above("contr-alone", _OTHERS, _SYM),
    "asymmetric: Reg is best": _above("reg", ["contr", "contr-plus", *_OTHERS], _ASYM),
    "asymmetric: Reg is well below the student trained alone, tested symmetrically": [
        Claim(("contr-alone", _SYM), ("reg", _ASYM))
    ],
    "asymmetric: Contr⁺ comes before Contr": _above("contr-plus", ["contr"], _ASYM),
    "asymmetric: RKD and DR fail completely": _above("reg", ["rkd", "dark"], _ASYM, FAILING_SHARE),
    "asymmetric: Triplet and MS fail completely": _above("reg", ["triplet", "ms"], _ASYM, FAILING_SHARE),
}


def judge_findings(rows: Sequence[ReproducedRow]) -> tuple[Finding, ...]:
    """Returns what came of each finding of the paper, by mAP in the medium setting."""
    precisions = _average_precisions(rows)
    return tuple(_judged(text, claims, precisions) for text, claims in FINDINGS.items())


def _average_precisions(rows: Sequence[ReproducedRow]) -> Mapping[tuple[str, Mode], npt.NDArray[np.float64]]:
    found: dict[tuple[str, Mode], npt.NDArray[np.float64]] = {}
    for row in rows:
        for testing, tested in ((_SYM, row.symmetric), (_ASYM, row.asymmetric)):
            if tested is not None:
                values = np.array(tested.report.medium.average_precisions)
                found[row.name, testing] = values[~np.isnan(values)]  # the same queries in every row
    return found


def _judged(
    text: str, claims: Sequence[Claim], precisions: Mapping[tuple[str, Mode], npt.NDArray[np.float64]]
) -> Finding:
    comparisons = tuple(_compared(claim, precisions) for claim in claims)
    outcomes = {comparison.outcome for comparison in comparisons}
    by_weight = (Outcome.NOT_TESTED, Outcome.NOT_HELD, Outcome.OPEN, Outcome.HELD)
    return Finding(text, comparisons, next(outcome for outcome in by_weight if outcome in outcomes))


def _compared(claim: Claim, precisions: Mapping[tuple[str, Mode], npt.NDArray[np.float64]]) -> Comparison:
    better = _on_the_way(claim.better, claim.share, precisions)
    worse = _on_the_way(claim.worse, claim.worse_share, precisions)
    if better is None or worse is None:
        return Comparison(claim, None, None, Outcome.NOT_TESTED)
    interval = paired_bootstrap(worse, better)
    outcome = Outcome.HELD if interval.low > 0 else Outcome.NOT_HELD if interval.high < 0 else Outcome.OPEN
    return Comparison(claim, float((better - worse).mean()), interval, outcome)


def _on_the_way(
    tested: tuple[str, Mode], share: float, precisions: Mapping[tuple[str, Mode], npt.NDArray[np.float64]]
) -> npt.NDArray[np.float64] | None:
    """Returns what lies so far from the untrained student to a row, query by query; None where one was not tested."""
    row, untrained = precisions.get(tested), precisions.get((UNTRAINED, tested[1]))
    if share == 1 or row is None:
        return row
    return None if untrained is None else share * row + (1 - share) * untrained
