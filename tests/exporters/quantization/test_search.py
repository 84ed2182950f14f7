"""The search for mixed precision: on a network that one block in integers ruins, and on drops that a test makes up."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from aml_edge.errors import UsageError
from aml_edge.exporters.quantization import search
from aml_edge.exporters.quantization.block_prices import BlockPrices, size_prices
from aml_edge.exporters.quantization.search import MixedPrecision, search_mixed_precision, verdict_of
from aml_edge.exporters.quantization.sensitivity import AloneRows, embed_float, embed_quantized
from aml_edge.exporters.quantization.trials import Trials
from aml_edge.map_drop import Drop, measure_drop, split_queries
from aml_edge.quantization.post_training import PostTraining
from aml_edge.quantization_record import SearchBy, SearchRecord

MAX_DROP = 5.0
"""Points; the lively student in int8 loses none of them but for the ruined block."""


def found_in(ruined: Any) -> MixedPrecision:
    """Returns what the search finds on the queries that choose."""
    split = split_queries(ruined.queries.ground_truth)
    prices = size_prices(ruined.post_training.graph)
    return search_mixed_precision(ruined.post_training, ruined.queries.taken(split.selection), MAX_DROP, prices)


@pytest.fixture(scope="module")
def found(ruined: Any) -> MixedPrecision:
    return found_in(ruined)


def test_the_ruined_block_alone_goes_back_to_floating_point(ruined: Any, found: MixedPrecision) -> None:
    assert found.held
    assert found.float_blocks == {"conv_stem", "head", ruined.block}
    assert [one.block for one in found.chosen] == [ruined.block]
    assert found.drop.high <= MAX_DROP
    assert found.price == found.prices.of_block[ruined.block]
    (kept,) = found.chosen
    assert kept.without.points > 20
    lost = kept.without
    assert found.reasons == {
        ruined.block: f"in integers up to {lost.high:.2f} points of mAP may be lost ({lost.points:.2f} "
        f"[{lost.low:.2f}, {lost.high:.2f}] on 12 queries), for 0.24 MB less"
    }


def test_the_budget_holds_on_queries_that_did_not_choose(ruined: Any, found: MixedPrecision) -> None:
    """And without the search it does not."""
    queries, post_training = ruined.queries, ruined.post_training
    split = split_queries(queries.ground_truth)
    student_rows = embed_float(post_training.graph, queries.images)
    file_rows = embed_quantized(post_training.quantized(found.float_blocks), queries.images)
    record = verdict_of(found, student_rows, file_rows, queries.database, queries.ground_truth, split)
    drop = measure_drop(student_rows, file_rows, queries.database, queries.ground_truth, split.verdict)
    assert record == SearchRecord(MAX_DROP, SearchBy.SIZE, 12, 12, drop.points, drop.low, drop.high, True)
    all_integer = embed_quantized(post_training.quantized(), queries.images)
    ruins = verdict_of(found, student_rows, all_integer, queries.database, queries.ground_truth, split)
    assert not ruins.held
    assert ruins.low > MAX_DROP


def test_the_same_queries_find_the_same(ruined: Any, found: MixedPrecision) -> None:
    assert found_in(ruined) == found


@pytest.mark.parametrize("max_drop", [-0.5, math.nan, math.inf])
def test_a_budget_is_a_number_of_points(ruined: Any, max_drop: float) -> None:
    with pytest.raises(UsageError) as refused:
        search_mixed_precision(ruined.post_training, ruined.queries, max_drop, size_prices(ruined.post_training.graph))
    assert str(refused.value) == (
        f"`max_drop` is {max_drop:g}; it is how many points of 100 of asymmetric mAP may be lost: give 0 or more."
    )


def test_where_the_options_leave_all_in_floating_point_there_is_nothing_to_search(ruined: Any) -> None:
    options = replace(ruined.post_training.options, float_blocks=frozenset(ruined.post_training.graph.blocks))
    in_float = replace(ruined.post_training, options=options)
    selection = ruined.queries.taken(range(4))
    found = search_mixed_precision(in_float, selection, 0.0, size_prices(in_float.graph))
    assert (found.held, found.chosen, found.float_blocks) == (True, (), frozenset(in_float.graph.blocks))
    assert (found.drop.points, found.measured) == (0.0, 1)


Search = Callable[..., MixedPrecision]
ALONE: Mapping[str, float] = {"blocks.0.0": 40.0, "blocks.1.0": 30.0, "blocks.1.1": 20.0, "blocks.2.0": 10.0}
"""Angle, degrees, by which a made-up block in integers alone turns every second embedding."""


@pytest.fixture
def made_up(post_training: PostTraining, ruined: Any, monkeypatch: pytest.MonkeyPatch) -> Search:
    """Returns a function that searches among four blocks with made-up errors and drops.

    Its arguments: the points that each block in integers loses (they add up), the budget, and the prices.
    """
    options = replace(post_training.options, float_blocks=frozenset(post_training.graph.blocks) - ALONE.keys())
    network = replace(post_training, options=options)
    turned = np.stack([turn_every_second(angle) for angle in ALONE.values()])
    rows = AloneRows(turn_every_second(0.0), dict(zip(ALONE, turned, strict=True)))
    monkeypatch.setattr(search, "embed_with_each_block_alone", lambda *_: rows)

    def find(lost: Mapping[str, float], max_drop: float, prices: Mapping[str, float]) -> MixedPrecision:
        def drop(self: Any, blocks: frozenset[str]) -> Drop:
            points = sum(value for block, value in lost.items() if block not in blocks)
            self._drops[blocks] = made_up = Drop(points, points - 0.1, points + 0.1, 20)
            return made_up

        monkeypatch.setattr(Trials, "drop", drop)
        every = dict.fromkeys(post_training.graph.blocks, 1.0) | dict(prices)
        return search_mixed_precision(network, ruined.queries, max_drop, BlockPrices(SearchBy.LATENCY, "ms", every))

    return find


def turn_every_second(degrees: float) -> Any:
    """Returns eight unit rows round a circle, every second one turned."""
    angles = np.radians(np.arange(8) * 45.0 + np.array([0.0, degrees] * 4))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_where_all_integers_hold_nothing_is_chosen(made_up: Search) -> None:
    found = made_up({"blocks.0.0": 0.2}, 0.5, {})
    assert (found.held, found.chosen, found.price, found.measured) == (True, (), 0, 1)
    assert found.reasons == {}


def test_the_worst_for_its_price_goes_first(made_up: Search) -> None:
    """Of equal prices the one of the largest error; a block at a tenth of the price before it."""
    lost = dict.fromkeys(ALONE, 1.0)
    assert [one.block for one in made_up(lost, 3.2, {}).chosen] == ["blocks.0.0"]
    assert [one.block for one in made_up(lost, 3.2, {"blocks.1.1": 0.1}).chosen] == ["blocks.1.1"]


def test_a_block_that_is_dearer_in_integers_goes_first(made_up: Search) -> None:
    found = made_up(dict.fromkeys(ALONE, 1.0), 3.2, {"blocks.2.0": -0.3})
    assert [one.block for one in found.chosen] == ["blocks.2.0"]
    assert found.price == pytest.approx(-0.3)


def test_blocks_that_were_not_needed_are_given_back_the_dearest_first(made_up: Search) -> None:
    """The last of them is what held the budget; of the two before, both could be in integers."""
    prices = {"blocks.0.0": 1.0, "blocks.1.0": 1.1, "blocks.1.1": 0.9}
    found = made_up({"blocks.0.0": 0.3, "blocks.1.0": 0.2, "blocks.1.1": 2.0}, 0.45, prices)
    assert [one.block for one in found.chosen] == ["blocks.0.0", "blocks.1.1"]
    assert found.float_blocks.issuperset({"blocks.0.0", "blocks.1.1"})
    assert "blocks.1.0" not in found.float_blocks
    assert found.drop.points == pytest.approx(0.2)
    reasons = found.reasons
    assert reasons["blocks.0.0"].startswith(
        "in integers up to 0.60 points of mAP may be lost (0.50 [0.40, 0.60] on 20 queries), for 1.00"
    )
    assert "(2.20 [" in reasons["blocks.1.1"]


def test_where_nothing_holds_the_best_is_given_and_one_block_stays_in_integers(made_up: Search) -> None:
    found = made_up(dict.fromkeys(ALONE, 1.0), 0.5, {})
    assert not found.held
    assert [one.block for one in found.chosen] == ["blocks.0.0", "blocks.1.0", "blocks.1.1"]
    assert found.drop.points == pytest.approx(1.0)
    assert found.reasons["blocks.1.1"].startswith("in integers up to 2.10 points of mAP may be lost (2.00 [")


def test_a_block_that_is_faster_in_floating_point_is_said_to_cost_nothing(made_up: Search) -> None:
    found = made_up({"blocks.2.0": 2.0}, 0.5, {"blocks.2.0": -0.15})
    (kept,) = found.chosen
    assert kept.why.endswith("on 20 queries), and floating point costs nothing")


def test_of_choices_that_lose_the_same_the_cheapest_is_the_best(made_up: Search) -> None:
    found = made_up({"blocks.2.0": 2.0}, 0.5, {"blocks.2.0": 100.0})
    assert (found.held, found.chosen) == (False, ())
