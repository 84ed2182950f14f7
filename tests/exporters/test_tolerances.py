"""The table of tolerances and how a user changes one."""

from __future__ import annotations

from dataclasses import fields

import pytest

from aml_edge.artifact import Precision
from aml_edge.errors import UsageError
from aml_edge.exporters.tolerances import TOLERANCES, Tolerances

UNSAID = {"ann_map_loss_points", "ann_overlap"}
"""What approximate search may cost is up to whoever names one."""
FLOORS = {"overlap", "rank_correlation", "cosine", "centred_cosine"}


def test_every_precision_has_tolerances() -> None:
    assert set(TOLERANCES) == set(Precision)


@pytest.mark.parametrize(
    ("stricter", "looser"),
    [
        (Precision.FP32, Precision.FP16),
        (Precision.FP16, Precision.INT8_WEIGHTS),
        (Precision.FP16, Precision.INT8_INT16),
        (Precision.INT8_WEIGHTS, Precision.INT8),
        (Precision.INT8_INT16, Precision.INT8),
        (Precision.INT8_WEIGHTS, Precision.INT8_DYNAMIC),
        (Precision.INT8_WEIGHTS, Precision.PALETTE8),
        (Precision.PALETTE8, Precision.PALETTE6),
    ],
)
def test_fewer_bits_are_granted_no_less(stricter: Precision, looser: Precision) -> None:
    full, half = TOLERANCES[stricter], TOLERANCES[looser]
    for field in fields(Tolerances):
        strict, lenient = getattr(full, field.name), getattr(half, field.name)
        if field.name in UNSAID:
            assert strict is lenient is None
            continue
        assert strict >= lenient if field.name in FLOORS else strict <= lenient


MISTAKES = {
    "red and blue exchanged": (0.954, 0.584, 0.057, 0.743, 0.982, 6.57),
    "another mean and deviation": (0.947, 0.510, 0.058, 0.698, 0.975, 6.93),
    "pixels not normalised": (0.968, 0.646, 0.057, 0.685, 0.971, 6.12),
    "calibrated on noise": (0.974, 0.733, 0.070, 0.677, 0.969, 12.13),
}
"""What each did to the 60 queries of `stamps`: the values that a verification reports."""


@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize("measured", MISTAKES.values(), ids=MISTAKES)
def test_no_precision_grants_a_mistake(precision: Precision, measured: tuple[float, ...]) -> None:
    limits = TOLERANCES[precision]
    cosine, centred, pair, overlap, correlation, points = measured
    assert cosine < limits.cosine and centred < limits.centred_cosine - 0.15 and overlap < limits.overlap - 0.1
    assert correlation < limits.rank_correlation
    assert pair > 1.5 * limits.pair_error or precision is Precision.INT8  # single images of a good file are as far off
    assert points > 5 * limits.map_loss_points


def test_overriding_changes_what_is_named_and_nothing_else() -> None:
    standard = TOLERANCES[Precision.FP32]
    changed = standard.overridden({"cosine": 0.9, "overlap": None})
    assert changed.differing(standard) == {"cosine": 0.9}
    assert changed.overlap == standard.overlap
    assert standard.overridden({}) == standard


@pytest.mark.parametrize(("name", "value", "most"), [("cosine", 1.5, "1"), ("pair_error", -0.1, "1")])
def test_a_tolerance_that_cannot_be_is_refused(name: str, value: float, most: str) -> None:
    with pytest.raises(UsageError, match=rf"`{name}` is {value:g}; .* between 0 and {most}"):
        TOLERANCES[Precision.FP32].overridden({name: value})


def test_nan_is_no_tolerance() -> None:
    with pytest.raises(UsageError, match="`cosine` is nan"):
        TOLERANCES[Precision.FP32].overridden({"cosine": float("nan")})


def test_map_loss_is_in_points_of_a_hundred() -> None:
    assert TOLERANCES[Precision.FP32].overridden({"map_loss_points": 5.0}).map_loss_points == 5.0
    with pytest.raises(UsageError, match="between 0 and 100"):
        TOLERANCES[Precision.FP32].overridden({"map_loss_points": 101.0})


def test_what_approximation_may_cost_is_judged_where_it_is_said() -> None:
    standard = TOLERANCES[Precision.FP32]
    changed = standard.overridden({"ann_map_loss_points": 2.0, "ann_overlap": 0.9})
    assert changed.differing(standard) == {"ann_map_loss_points": 2.0, "ann_overlap": 0.9}
    assert standard.differing(changed) == {}
    with pytest.raises(UsageError, match=r"`ann_overlap` is 2; .* between 0 and 1"):
        standard.overridden({"ann_overlap": 2.0})
