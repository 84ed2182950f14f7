"""The randomisation test against a slow loop over all signs, a coin and the normal law."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aml_edge import randomisation
from aml_edge.errors import UsageError
from aml_edge.randomisation import paired_randomisation_test

values = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(values, st.integers(0, 1000))
def test_few_queries_are_exact(first: list[float], seed: int) -> None:
    second = np.random.default_rng(seed).permutation(first).tolist()
    differences = [right - left for left, right in zip(first, second, strict=True)]
    ways = list(product([-1, 1], repeat=len(differences)))
    far = [
        abs(sum(sign * one for sign, one in zip(way, differences, strict=True))) >= abs(sum(differences))
        for way in ways
    ]
    assert paired_randomisation_test(first, second) == pytest.approx(sum(far) / len(ways))


def test_all_one_way_is_as_rare_as_a_coin() -> None:
    """Five of five for the second: all heads or all tails, 2 in 32."""
    assert paired_randomisation_test([0.1] * 5, [0.3, 0.2, 0.4, 0.6, 0.2]) == 2 / 32
    assert paired_randomisation_test([0.1] * 9, [0.3] * 9) == 2 / 512  # sums of equal values, whatever their rounding


def test_no_difference_is_no_evidence() -> None:
    run = np.random.default_rng(0).random(100)
    assert paired_randomisation_test(run, run) == 1.0
    one_differs = run.copy()
    one_differs[3] += 0.5
    assert paired_randomisation_test(run, one_differs) == 1.0


def test_many_queries_against_the_normal_law() -> None:
    """Signed sums of many differences are normal with their root of squares as deviation."""
    generator = np.random.default_rng(1)
    first, shift = generator.random(400), generator.normal(0.012, 0.1, 400)
    found = paired_randomisation_test(first, first + shift)
    expected = math.erfc(abs(shift.sum()) / math.sqrt((shift**2).sum()) / math.sqrt(2))
    assert 0.01 < expected < 0.3
    assert found == pytest.approx(expected, abs=4 * math.sqrt(expected / 10_000))  # four standard errors


def test_both_sides_count_alike_and_chance_is_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = np.random.default_rng(2).random((2, 40))
    forward = paired_randomisation_test(first, second, seed=3)
    assert forward == paired_randomisation_test(second, first, seed=3)
    assert forward != paired_randomisation_test(first, second, seed=4)
    for drawn_at_once in (1, 4000):
        monkeypatch.setattr(randomisation, "DRAWN_AT_ONCE", drawn_at_once)
        assert paired_randomisation_test(first, second, seed=3) == pytest.approx(forward, abs=0.02)


def test_a_clear_difference_is_never_impossible() -> None:
    first = np.zeros(60)
    assert paired_randomisation_test(first, first + 0.5) == 1 / 10_001


def test_what_is_no_pair_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^`first` holds 2 values and `second` 1; pairs need one of each a query\.$"):
        paired_randomisation_test([0.1, 0.2], [0.1])
    with pytest.raises(UsageError, match="`second` holds a value that is not finite"):
        paired_randomisation_test([0.1, 0.2], [0.1, math.nan])
