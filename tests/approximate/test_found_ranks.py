"""Ranks in lists that end: against a slow loop over the lists, and against exact ranks where nothing is left out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from aml_edge.approximate.found_ranks import NEVER, found_ranks
from aml_edge.ground_truth import QueryGroundTruth
from aml_edge.labelled_ranks import labelled_ranks_of
from aml_edge.measures import average_precision_at_k, average_precision_at_r, recall_at_k
from aml_edge.ranking import SettingReport, average_precision, evaluate_revisited, precision_at, revisited_report

TRUTH = QueryGroundTruth(easy=(4, 7), hard=(2,), junk=(9, 1))
SETTINGS = ("easy", "medium", "hard")


def slow_average_precision(found: list[int], positives: set[int], ignored: set[int]) -> float:
    """Walks down the list: trapezoids between the precisions before and at each positive; nothing for the others."""
    area, right, seen = 0.0, 0, 0
    for row in found:
        if row in ignored:
            continue
        if row in positives:
            before = right / seen if seen else 1.0
            area += (before + (right + 1) / (seen + 1)) / 2
            right += 1
        seen += 1
    return area / len(positives) if positives else float("nan")


def slow_precision(k: int, found: list[int], positives: set[int], ignored: set[int]) -> float:
    """Right ones among the first k, over k, or over the place of the last positive where all were found before."""
    if not positives:
        return float("nan")
    kept = [row for row in found if row not in ignored]
    places = [place for place, row in enumerate(kept, start=1) if row in positives]
    cut_off = min(k, places[-1]) if len(places) == len(positives) else k
    return sum(place <= cut_off for place in places) / cut_off


def test_counts_from_the_list_as_it_is() -> None:
    (ranks,) = found_ranks(np.array([[9, 4, 30, 2, -1, -1]]), [TRUTH])
    assert (ranks.easy.tolist(), ranks.hard.tolist(), ranks.junk.tolist()) == ([1, NEVER], [3], [0])


def test_what_is_no_row_of_the_database_takes_no_place() -> None:
    (ranks,) = found_ranks(np.array([[-1, 4, -1, -1, 7, 1]]), [TRUTH])
    assert (ranks.easy.tolist(), ranks.hard.tolist(), ranks.junk.tolist()) == ([0, 1], [NEVER], [2])


@pytest.mark.parametrize("found", [[[]], [[-1, -1]]])
def test_an_empty_list_finds_nothing(found: list[list[int]]) -> None:
    (ranks,) = found_ranks(np.array(found, np.int64), [TRUTH])
    assert (ranks.easy.tolist(), ranks.hard.tolist(), ranks.junk.tolist()) == ([NEVER, NEVER], [NEVER], [])
    report = revisited_report([ranks])
    for setting in (report.easy, report.medium, report.hard):
        assert setting.mean_average_precision == pytest.approx(0, abs=1e-15)
        assert setting.mean_precision_at_10 == 0


@pytest.mark.parametrize("depth", [1, 5, 17, 40])
def test_measures_of_lists_are_those_of_a_slow_loop(depth: int) -> None:
    generator = np.random.default_rng(depth)
    lists, truths = [], []
    for _ in range(200):
        order = generator.permutation(40)
        found = order[: generator.integers(0, depth + 1)]
        lists.append([*found.tolist(), *[-1] * (depth - len(found))])
        labelled = generator.permutation(40)[: generator.integers(0, 12)].tolist()
        cuts = np.sort(generator.integers(0, len(labelled) + 1, 2))
        parts = np.split(np.array(labelled, int), cuts)
        truths.append(QueryGroundTruth(*(tuple(part.tolist()) for part in parts)))
    report = revisited_report(found_ranks(np.array(lists, np.int64), truths))
    ways: dict[str, Callable[[QueryGroundTruth], tuple[set[int], set[int]]]] = {
        "easy": lambda truth: (set(truth.easy), {*truth.hard, *truth.junk}),
        "medium": lambda truth: ({*truth.easy, *truth.hard}, set(truth.junk)),
        "hard": lambda truth: (set(truth.hard), {*truth.easy, *truth.junk}),
    }
    for name, way in ways.items():
        setting: SettingReport = getattr(report, name)
        expected = [slow_average_precision(found, *way(truth)) for found, truth in zip(lists, truths, strict=True)]
        np.testing.assert_allclose(setting.average_precisions, expected, atol=1e-14)
        for k, value in (
            (1, setting.mean_precision_at_1),
            (5, setting.mean_precision_at_5),
            (10, setting.mean_precision_at_10),
        ):
            precisions = [slow_precision(k, found, *way(truth)) for found, truth in zip(lists, truths, strict=True)]
            assert value == pytest.approx(np.nanmean(precisions), abs=1e-12)


def test_other_measures_take_what_was_not_found_as_never_found() -> None:
    ranks = np.array([2, NEVER, NEVER], np.intp)
    assert recall_at_k(2, ranks) == 0
    assert recall_at_k(4, ranks) == 1
    assert average_precision_at_k(100, ranks) == pytest.approx((1 / 3) / 3)
    assert average_precision_at_r(ranks) == pytest.approx((1 / 3) / 3)
    assert precision_at(10, ranks) == pytest.approx(1 / 10)  # and not 1 / 3: the last positive never comes
    assert average_precision(ranks) == pytest.approx((1 / 3 + 0) / 2 / 3, abs=1e-15)


def test_a_whole_ranking_gives_exact_ranks() -> None:
    generator = np.random.default_rng(0)
    similarities = generator.normal(size=(30, 50))
    truths = [
        QueryGroundTruth(*(tuple(part.tolist()) for part in np.split(generator.permutation(50)[:9], [3, 6])))
        for _ in similarities
    ]
    found: npt.NDArray[np.int64] = np.argsort(-similarities, axis=1).astype(np.int64)
    for ours, theirs in zip(found_ranks(found, truths), labelled_ranks_of(similarities, truths), strict=True):
        for name in ("easy", "hard", "junk"):
            assert getattr(ours, name).tolist() == getattr(theirs, name).tolist()
    assert revisited_report(found_ranks(found, truths)) == evaluate_revisited(similarities, truths)
