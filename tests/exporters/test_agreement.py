"""Agreement of embeddings, against angles whose cosines are known and against slow loops."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from aml_edge.exporters import agreement

Rows = npt.NDArray[np.float32]
NAN = float("nan")


def at_angles(*degrees: float) -> Rows:
    """Returns unit rows (N, 2) at the given angles."""
    radians = np.deg2rad(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def random_rows(count: int, dimension: int = 16, seed: int = 0) -> Rows:
    rows = np.random.default_rng(seed).normal(size=(count, dimension))
    normalised: Rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return normalised


def test_cosines_are_those_of_the_angles() -> None:
    measured = agreement.cosines(at_angles(0, 10, 90), at_angles(60, 10, 180))
    assert measured == pytest.approx([0.5, 1.0, 0.0], abs=1e-7)


def test_cosines_do_not_depend_on_length() -> None:
    rows = random_rows(5)
    assert agreement.cosines(3 * rows, 0.01 * rows) == pytest.approx(np.ones(5), abs=1e-7)


@pytest.mark.parametrize("broken", [0.0, NAN, math.inf])
def test_cosine_of_an_unusable_row_is_nan(broken: float) -> None:
    rows = random_rows(3)
    rows[1] = broken
    measured = agreement.cosines(rows, random_rows(3))
    assert np.isnan(measured).tolist() == [False, True, False]


def test_spread_is_smallest_first_percentile_and_median() -> None:
    spread = agreement.spread_of(np.arange(201) / 200)
    assert (spread.smallest, spread.first_percentile, spread.median) == pytest.approx((0.0, 0.01, 0.5))


def test_one_nan_makes_the_whole_spread_nan() -> None:
    spread = agreement.spread_of(np.array([0.1, NAN, 0.9]))
    assert all(math.isnan(value) for value in (spread.smallest, spread.first_percentile, spread.median))


def test_centred_cosine_sees_what_a_common_part_hides() -> None:
    # two images a small angle either side of a common direction; the artifact exchanges them
    student, artifact = at_angles(44, 46), at_angles(46, 44)
    assert agreement.cosines(student, artifact) == pytest.approx([math.cos(math.radians(2))] * 2)
    assert agreement.centred_cosines(student, artifact) == pytest.approx([-1.0, -1.0], abs=1e-5)


def test_centred_cosine_subtracts_the_student_s_mean_from_both() -> None:
    student, artifact = random_rows(6, 4), random_rows(6, 4, seed=1)
    mean = student.astype(np.float64).mean(axis=0)
    expected = []
    for ours, theirs in zip(student - mean, artifact - mean, strict=True):
        expected.append(ours @ theirs / math.sqrt((ours @ ours) * (theirs @ theirs)))
    assert agreement.centred_cosines(student, artifact) == pytest.approx(expected)


def test_pair_error_is_that_of_similarities() -> None:
    # pairs (0,1), (0,2), (1,2): student cos 30, 90, 60; artifact cos 60, 90, 30 degrees
    error = agreement.pair_error(at_angles(0, 30, 90), at_angles(0, 60, 90))
    difference = math.cos(math.radians(30)) - math.cos(math.radians(60))
    assert error.largest == pytest.approx(difference)
    assert error.mean == pytest.approx(2 * difference / 3)


def test_pair_error_ignores_a_rotation_of_the_whole_space() -> None:
    rows = random_rows(20, 8)
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(8, 8)))[0].astype(np.float32)
    assert agreement.pair_error(rows, rows @ rotation).largest == pytest.approx(0, abs=1e-6)


def test_pair_error_in_blocks_equals_that_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    student, artifact = random_rows(23), random_rows(23, seed=1)
    whole = agreement.pair_error(student, artifact)
    monkeypatch.setattr(agreement, "BLOCK_ROWS", 5)
    in_blocks = agreement.pair_error(student, artifact)
    assert (in_blocks.largest, in_blocks.mean) == pytest.approx((whole.largest, whole.mean))


@pytest.mark.parametrize("count", [0, 1])
def test_pair_error_of_less_than_two_images_is_nan(count: int) -> None:
    assert math.isnan(agreement.pair_error(random_rows(count), random_rows(count)).largest)


def test_median_pair_distance_is_that_of_the_angles() -> None:
    # distances of 60, 60 and 120 degrees: 0.5, 0.5, 1.5
    assert agreement.median_pair_distance(at_angles(0, 60, 120)) == pytest.approx(0.5)


def test_median_pair_distance_of_equal_images_is_zero() -> None:
    assert agreement.median_pair_distance(np.tile(random_rows(1), (20, 1))) == pytest.approx(0, abs=1e-6)


def test_own_teacher_first_counts_pairs() -> None:
    teacher = at_angles(0, 50, 100)
    # the first is nearest to its own, the second nearer to the third's, the third nearest to the second's
    rows = at_angles(0, 90, 50)
    slow = 0.0
    for place, row in enumerate(rows.astype(np.float64)):
        own = row @ teacher[place].astype(np.float64)
        for other in (0, 1, 2):
            if other != place:
                similarity = row @ teacher[other].astype(np.float64)
                slow += 1.0 if own > similarity else 0.5 if own == similarity else 0.0
    assert agreement.own_teacher_first(rows, teacher) == pytest.approx(slow / 6)
    assert agreement.own_teacher_first(teacher, teacher) == 1.0


def test_own_teacher_first_is_half_where_all_are_alike() -> None:
    same = np.tile(at_angles(30), (7, 1))
    assert agreement.own_teacher_first(same, same) == 0.5


def test_largest_norm_error() -> None:
    rows = random_rows(4)
    rows[2] *= 0.75
    assert agreement.largest_norm_error(rows) == pytest.approx(0.25)


def test_rows_with_nan_or_infinity_are_counted_once() -> None:
    rows = random_rows(5)
    rows[0, :3], rows[1, 0], rows[2, 0] = NAN, math.inf, -math.inf
    assert agreement.non_finite_rows(rows) == 3
    assert math.isnan(agreement.largest_norm_error(rows))


def test_agreement_of_equal_embeddings_is_whole() -> None:
    rows = random_rows(30)
    whole = agreement.agreement_of(rows, rows)
    assert whole.cosine.smallest == pytest.approx(1)
    assert whole.centred_cosine.smallest == pytest.approx(1)
    assert (whole.pair_error.largest, whole.non_finite) == (0, 0)
    assert whole.largest_norm_error < 1e-6


def test_agreement_with_one_nan_leaves_no_number_to_pass_by() -> None:
    rows = random_rows(30)
    broken = rows.copy()
    broken[7, 3] = NAN
    measured = agreement.agreement_of(rows, broken)
    numbers = (measured.cosine.smallest, measured.centred_cosine.median, measured.pair_error.mean)
    assert all(math.isnan(number) for number in (*numbers, measured.largest_norm_error))
    assert measured.non_finite == 1


def test_evenly_spaced_takes_all_or_a_comb() -> None:
    assert agreement.evenly_spaced(4, 10).tolist() == [0, 1, 2, 3]
    assert agreement.evenly_spaced(10, 5).tolist() == [0, 2, 4, 6, 8]
    assert agreement.evenly_spaced(0, 5).tolist() == []
