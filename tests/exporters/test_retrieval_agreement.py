"""Three mAPs and their differences, against average precisions worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from aml_edge.exporters.retrieval_agreement import QueryEmbeddings, measure_retrieval_agreement
from aml_edge.ranking import QueryGroundTruth

Rows = npt.NDArray[np.float32]
DATABASE = np.eye(4, dtype=np.float32)
TRUTH = [QueryGroundTruth((0,), (1,), ()), QueryGroundTruth((), (3,), (2,))]


def ranking(*orders: tuple[int, int, int, int]) -> Rows:
    """Returns (Q, 4) queries whose similarities to the database rank it in the given orders."""
    rows = np.zeros((len(orders), 4), np.float32)
    for query, order in zip(rows, orders, strict=True):
        query[list(order)] = (4, 3, 2, 1)
    return rows


PERFECT = ranking((0, 1, 2, 3), (3, 2, 1, 0))
REVERSED = ranking((3, 2, 1, 0), (0, 1, 2, 3))


def test_maps_are_those_of_the_revisited_protocol() -> None:
    measured = measure_retrieval_agreement(QueryEmbeddings(PERFECT, PERFECT, REVERSED), DATABASE, TRUTH)
    assert measured.easy is not None and measured.medium is not None and measured.hard is not None
    assert (measured.easy.queries, measured.medium.queries, measured.hard.queries) == (1, 2, 2)
    assert (measured.easy.native_student, measured.easy.student) == (1.0, 1.0)
    # easy: the second, hard, is left out; the positive comes third of three, trapezoid of 0 and 1/3
    assert measured.easy.artifact == pytest.approx((0 + 1 / 3) / 2)
    # medium: positives third and fourth of four; and one last of three, junk left out
    first = ((0 + 1 / 3) / 2 + (1 / 3 + 2 / 4) / 2) / 2
    assert measured.medium.artifact == pytest.approx((first + (0 + 1 / 3) / 2) / 2)


def test_differences_are_second_minus_first() -> None:
    measured = measure_retrieval_agreement(QueryEmbeddings(PERFECT, REVERSED, PERFECT), DATABASE, TRUTH)
    assert measured.hard is not None
    lost = measured.hard.student - 1.0
    assert measured.hard.square.value == pytest.approx(lost)
    assert measured.hard.export.value == pytest.approx(-lost)
    assert measured.hard.square.interval.low <= lost <= measured.hard.square.interval.high


def test_equal_embeddings_differ_by_nothing_at_all() -> None:
    measured = measure_retrieval_agreement(QueryEmbeddings(REVERSED, REVERSED, REVERSED), DATABASE, TRUTH)
    for _, setting in measured.settings:
        assert (setting.export.value, setting.export.interval.low, setting.export.interval.high) == (0, 0, 0)


def test_a_setting_without_positives_is_left_out() -> None:
    only_hard = [QueryGroundTruth((), (0,), ()), QueryGroundTruth((), (3,), ())]
    measured = measure_retrieval_agreement(QueryEmbeddings(PERFECT, PERFECT, PERFECT), DATABASE, only_hard)
    assert measured.easy is None
    assert [name for name, _ in measured.settings] == ["medium", "hard"]


def test_an_embedder_that_is_not_finite_has_no_map() -> None:
    broken = PERFECT.copy()
    broken[1, 2] = np.inf
    measured = measure_retrieval_agreement(QueryEmbeddings(PERFECT, PERFECT, broken), DATABASE, TRUTH)
    assert measured.easy is not None
    assert measured.easy.student == 1.0
    numbers = (measured.easy.artifact, measured.easy.export.value, measured.easy.export.interval.low)
    assert all(math.isnan(number) for number in numbers)
    assert measured.easy.square.value == 0.0
