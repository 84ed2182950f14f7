"""Bootstrap intervals against every resample of a tiny sample, and against the normal law of a large one."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from aml_edge import bootstrap
from aml_edge.bootstrap import Interval, bootstrap_mean, paired_bootstrap
from aml_edge.errors import UsageError

NAN = float("nan")


def test_tiny_sample_against_all_its_resamples() -> None:
    values = [0.0, 0.1, 0.5, 0.7, 1.0]
    means = np.sort([np.mean(drawn) for drawn in product(values, repeat=5)])  # all 3125, each as likely
    interval = bootstrap_mean(values)
    # 10 000 draws put the share below an end within 3 × sqrt(.025 × .975 / 10 000) = 0.5 % of 2.5 %
    for end, share in ((interval.low, 0.025), (interval.high, 0.975)):
        below, to = np.searchsorted(means, end - 1e-9) / 3125, np.searchsorted(means, end + 1e-9) / 3125
        assert below - 0.005 <= share <= to + 0.005


def test_large_sample_against_the_normal_law() -> None:
    values = np.random.default_rng(1).normal(0.5, 0.2, size=2000)
    interval = bootstrap_mean(values)
    error = 1.959964 * values.std() / math.sqrt(2000)
    # an end of 10 000 resamples is uncertain by about 0.03 standard errors
    assert interval.low == pytest.approx(values.mean() - error, abs=0.1 * error)
    assert interval.high == pytest.approx(values.mean() + error, abs=0.1 * error)


def test_two_values_fall_into_quarters() -> None:
    # means 0, 1/2, 1 with chances 1/4, 1/2, 1/4: both ends lie in the outer quarters
    assert bootstrap_mean([0.0, 1.0]) == Interval(0.0, 1.0)


def test_one_value_and_equal_values_have_no_spread() -> None:
    assert bootstrap_mean([0.25]) == Interval(0.25, 0.25)
    assert bootstrap_mean([0.25] * 40) == Interval(0.25, 0.25)


def test_moves_and_scales_with_the_values() -> None:
    values = np.random.default_rng(2).random(30)
    plain, moved = bootstrap_mean(values), bootstrap_mean(3 * values - 1)
    assert moved.low == pytest.approx(3 * plain.low - 1)
    assert moved.high == pytest.approx(3 * plain.high - 1)


def test_same_seed_same_interval_whatever_is_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(3).random(50)
    first = bootstrap_mean(values, seed=4)
    monkeypatch.setattr(bootstrap, "DRAWN_AT_ONCE", 700)
    assert bootstrap_mean(values, seed=4) == first
    assert bootstrap_mean(values, seed=5) != first


def test_pairs_are_drawn_together() -> None:
    first = np.random.default_rng(5).random(60)
    assert paired_bootstrap(first, first) == Interval(0.0, 0.0)
    shifted = paired_bootstrap(first, first + 0.125)
    assert shifted.low == pytest.approx(0.125)
    assert shifted.high == pytest.approx(0.125)


def test_paired_is_second_minus_first() -> None:
    first, second = np.random.default_rng(6).random((2, 40))
    forward, backward = paired_bootstrap(first, second), paired_bootstrap(second, first)
    assert forward == bootstrap_mean(second - first)
    # the same resamples, mirrored
    assert (forward.low, forward.high) == pytest.approx((-backward.high, -backward.low))


@pytest.mark.parametrize("broken", [[], [0.1, NAN], [math.inf], [[0.1, 0.2]]])
def test_what_has_no_mean_is_refused(broken: list[float]) -> None:
    with pytest.raises(UsageError, match="`values`"):
        bootstrap_mean(broken)


def test_messages_name_the_argument_and_the_way_out() -> None:
    with pytest.raises(UsageError) as refusal:
        bootstrap_mean([0.1, NAN])
    assert str(refusal.value) == (
        "`values` holds a value that is not finite; leave out the queries that have no value."
    )
    with pytest.raises(UsageError) as refusal:
        paired_bootstrap([0.1, 0.2], [0.1])
    assert str(refusal.value) == ("`first` holds 2 values and `second` 1; pairs need one of each a query.")
