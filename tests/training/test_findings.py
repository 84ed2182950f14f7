"""Findings of the paper, judged on rows whose average precisions are known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from aml_edge.evaluation import RetrievalRow, retrieval_row
from aml_edge.ranking import RetrievalReport, SettingReport
from aml_edge.training.findings import FINDINGS, Claim, Finding, Outcome, judge_findings
from aml_edge.training.reproduction import LATER_ROWS, ROWS, TEACHER, UNTRAINED, ReproducedRow
from aml_edge.training.settings import Mining, Mode

QUERIES = 50
NOISE = np.random.default_rng(0).uniform(-0.1, 0.1, QUERIES)
"""What makes a query hard for every row alike."""


def measured(mean: float, own: float = 0.0) -> RetrievalRow:
    """Returns a row whose medium mAP is `mean`; `own` is a share of noise that no other row has."""
    values = mean + NOISE - NOISE.mean()
    if own:
        wobble = np.random.default_rng(round(1e6 * mean)).uniform(-own, own, QUERIES)
        values = values + wobble - wobble.mean()
    setting = SettingReport(mean, (*values.tolist(), float("nan")), mean, mean, mean)
    return retrieval_row("student", "student", RetrievalReport(setting, setting, setting))


def row(name: str, symmetric: float, asymmetric: float | None = None, own: float = 0.0) -> ReproducedRow:
    """Returns a row of the table with these mAPs, medium."""
    return ReproducedRow(
        name=name,
        network="small",
        teacher="large",
        labels=True,
        mining=Mining.HARD,
        loss="contrastive",
        asymmetric_training=asymmetric is not None,
        training=None,
        symmetric=measured(symmetric, own),
        asymmetric=None if asymmetric is None else measured(asymmetric, own),
    )


AS_PUBLISHED = (
    row(TEACHER, 0.60),
    row(UNTRAINED, 0.30, 0.05),
    row("contr-alone", 0.58),
    row("contr", 0.62, 0.36),
    row("contr-plus", 0.63, 0.38),
    row("triplet", 0.50, 0.06),
    row("ms", 0.50, 0.04),
    row("reg", 0.59, 0.45),
    row("rkd", 0.55, 0.06),
    row("dark", 0.40, 0.05),
)


def outcomes(rows: Sequence[ReproducedRow]) -> dict[str, Outcome]:
    return {finding.text: finding.outcome for finding in judge_findings(rows)}


def finding(rows: Sequence[ReproducedRow], beginning: str) -> Finding:
    (found,) = [one for one in judge_findings(rows) if one.text.startswith(beginning)]
    return found


def test_rows_as_published_hold_every_finding() -> None:
    assert set(outcomes(AS_PUBLISHED).values()) == {Outcome.HELD}


def test_every_claim_is_about_a_row_that_there_is() -> None:
    names = {TEACHER, UNTRAINED, *ROWS, *LATER_ROWS}
    claims = [claim for of_finding in FINDINGS.values() for claim in of_finding]
    assert {name for claim in claims for name, _ in (claim.better, claim.worse)} <= names
    assert all(claim.better != claim.worse for claim in claims)


def test_the_other_way_round_does_not_hold() -> None:
    rows = [one if one.name != "contr" else row("contr", 0.55, 0.36) for one in AS_PUBLISHED]
    found = finding(rows, "symmetric: the student of Contr beats")
    assert found.outcome is Outcome.NOT_HELD
    (comparison,) = found.comparisons
    assert comparison.difference == pytest.approx(-0.05)
    assert comparison.interval is not None
    assert comparison.interval.low == pytest.approx(-0.05) == comparison.interval.high  # every query differs as much


def test_a_difference_within_the_noise_is_too_close_to_call() -> None:
    rows = [one if one.name != "contr" else row("contr", 0.605, 0.36, own=0.2) for one in AS_PUBLISHED]
    assert finding(rows, "symmetric: the student of Contr beats").outcome is Outcome.OPEN


def test_one_comparison_that_fails_is_enough() -> None:
    rows = [one if one.name != "rkd" else row("rkd", 0.60, 0.06) for one in AS_PUBLISHED]
    found = finding(rows, "symmetric: Triplet, MS, RKD and DR")
    assert found.outcome is Outcome.NOT_HELD
    assert [one.outcome for one in found.comparisons] == [Outcome.HELD, Outcome.HELD, Outcome.NOT_HELD, Outcome.HELD]


def test_failing_is_less_than_a_quarter_of_the_way_to_reg() -> None:
    """From 0.05, untrained, to 0.45, Reg: the quarter is at 0.15."""
    for value, outcome in ((0.14, Outcome.HELD), (0.16, Outcome.NOT_HELD)):
        rows = [one if one.name != "rkd" else row("rkd", 0.55, value) for one in AS_PUBLISHED]
        found = finding(rows, "asymmetric: RKD and DR fail")
        assert found.outcome is outcome
        assert found.comparisons[0].claim == Claim(("reg", Mode.ASYMMETRIC), ("rkd", Mode.ASYMMETRIC), 0.25)
        assert found.comparisons[0].difference == pytest.approx(0.15 - value)


def test_slightly_below_is_more_than_three_quarters_of_the_way_to_the_teacher() -> None:
    """From 0.30, untrained, to 0.60, the teacher: three quarters are at 0.525."""
    for value, expected in (
        (0.535, [Outcome.HELD, Outcome.HELD]),
        (0.515, [Outcome.HELD, Outcome.NOT_HELD]),
        (0.61, [Outcome.NOT_HELD, Outcome.HELD]),
    ):
        rows = [one if one.name != "reg" else row("reg", value, 0.45) for one in AS_PUBLISHED]
        found = finding(rows, "symmetric: Reg is slightly below")
        assert [one.outcome for one in found.comparisons] == expected
        assert found.comparisons[1].difference == pytest.approx(value - 0.525)


def test_what_was_not_reproduced_is_not_judged() -> None:
    rows = [one for one in AS_PUBLISHED if one.name not in ("dark", UNTRAINED)]
    judged = outcomes(rows)
    missing = {text for text, outcome in judged.items() if outcome is Outcome.NOT_TESTED}
    assert missing == {
        "symmetric: Reg is slightly below the teacher",
        "symmetric: Triplet, MS, RKD and DR are worse than the student trained alone",
        "asymmetric: Reg is best",
        "asymmetric: RKD and DR fail completely",
        "asymmetric: Triplet and MS fail completely",
    }
    assert set(judged.values()) == {Outcome.HELD, Outcome.NOT_TESTED}
    assert all(
        (one.outcome is Outcome.NOT_TESTED) == (one.difference is None) == (one.interval is None)
        for finding in judge_findings(rows)
        for one in finding.comparisons
    )


def test_each_row_has_a_recipe() -> None:
    folder = Path(__file__).parents[2] / "training" / "recipes"
    assert {f"small-{name}" for name in (TEACHER, *ROWS, *LATER_ROWS)} == {
        file.stem for file in folder.glob("small-*.toml")
    }
