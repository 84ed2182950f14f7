"""Prices of blocks: from the shapes of weights, and by a clock that a test moves."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from aml_edge.embedder import Embeddings
from aml_edge.errors import UsageError
from aml_edge.exporters.quantization.block_prices import (
    BlockPrices,
    PriceTiming,
    latency_prices,
    operation_prices,
    size_prices,
)
from aml_edge.pixels import Pixels
from aml_edge.preprocessing import Preprocessing
from aml_edge.quantization.post_training import PostTraining
from aml_edge.quantization_record import SearchBy
from aml_edge.space import EmbeddingSpace

IMAGE: npt.NDArray[np.uint8] = np.zeros((64, 64, 3), np.uint8)


def test_bytes_are_those_of_the_weights_less_a_scale_a_channel(post_training: PostTraining) -> None:
    prices = size_prices(post_training.graph)
    assert (prices.by, prices.unit) == (SearchBy.SIZE, "bytes")
    assert prices.of_block["conv_stem"] == 3 * (32 * 3 * 3 * 3) - 4 * 32
    assert prices.of_block["blocks.0.0"] == 3 * (32 * 3 * 3 + 32 * 16) - 4 * (32 + 16)
    assert prices.of_block["adaptor"] == 3 * (64 * 1280) - 4 * 64
    assert prices.of_block["head"] == 0


def test_operations_are_those_of_each_place_of_a_result(post_training: PostTraining) -> None:
    """Of an image of 64 px, which the stem halves and the trunk divides by 32."""
    prices = operation_prices(post_training.graph)
    assert (prices.by, prices.unit) == (SearchBy.LATENCY, "MACs")
    assert prices.of_block["conv_stem"] == 32 * 32 * (32 * 3 * 3 * 3)
    assert prices.of_block["blocks.0.0"] == 32 * 32 * (32 * 3 * 3 + 32 * 16)
    assert prices.of_block["adaptor"] == 2 * 2 * (64 * 1280)


class Clock:
    """Counts nanoseconds, and what happened."""

    def __init__(self) -> None:
        self.now = 0
        self.runs: list[frozenset[str]] = []
        self.open: list[frozenset[str]] = []


class TimedFile:
    """A file that takes a millisecond a block in floating point, and one more while the machine is slow."""

    space = EmbeddingSpace("toy", "0" * 64, 1)
    preprocessing = Preprocessing(64)
    name = "timed"

    def __init__(self, clock: Clock, float_blocks: frozenset[str]) -> None:
        self._clock, self._blocks = clock, float_blocks
        clock.open.append(float_blocks)

    def embed(self, images: Sequence[Pixels]) -> Embeddings:
        """Moves the clock."""
        self._clock.runs.append(self._blocks)
        slow = len(self._clock.runs) > 12  # from the fourth round on, three files each
        costs = {"stem": 0.25, "slow": 2.0, "fast": -0.5}
        self._clock.now += round(1e6 * (5 + slow + sum(costs[block] for block in self._blocks)))
        return np.ones((len(images), 1), np.float32)

    def close(self) -> None:
        """Says so."""
        self._clock.open.remove(self._blocks)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter_ns", lambda: clock.now)
    return clock


def test_latency_is_the_median_difference_of_files_that_take_turns(clock: Clock, progress: Any) -> None:
    stem = frozenset({"stem"})
    prices = latency_prices(
        ["slow", "fast"], stem, lambda blocks: TimedFile(clock, blocks), IMAGE, PriceTiming(5, 1), progress
    )
    assert prices.unit == "ms"
    assert prices.by is SearchBy.LATENCY
    assert prices.of_block == pytest.approx({"slow": 2.0, "fast": -0.5})
    assert clock.runs == [stem, stem | {"slow"}, stem | {"fast"}] * 6
    assert clock.open == []
    assert progress.announced == [("files to time blocks by", 3), ("timing blocks", 5)]
    assert progress.done == 8


def test_files_are_closed_where_one_cannot_be_made(clock: Clock) -> None:
    def fail(blocks: frozenset[str]) -> TimedFile:
        if "fast" in blocks:
            raise UsageError("no such file")
        return TimedFile(clock, blocks)

    with pytest.raises(UsageError, match="no such file"):
        latency_prices(["slow", "fast"], frozenset(), fail, IMAGE)
    assert clock.open == []


@pytest.mark.parametrize(("rounds", "warm_up"), [(0, 0), (1, -1)])
def test_a_timing_needs_a_round(rounds: int, warm_up: int) -> None:
    with pytest.raises(UsageError) as refused:
        PriceTiming(rounds, warm_up)
    assert str(refused.value) == (
        f"`rounds` is {rounds} and `warm_up` is {warm_up}; a timing takes one round at least that counts, and none or "
        "more before."
    )


@pytest.mark.parametrize(
    ("unit", "price", "text"),
    [("bytes", 1_270_000, "1.27 MB"), ("ms", 0.314, "0.31 ms"), ("MACs", 12.44e6, "12.4 M MACs")],
)
def test_a_price_is_read_with_its_unit(unit: str, price: float, text: str) -> None:
    prices = BlockPrices(SearchBy.LATENCY, unit, {"one": price, "other": price})
    assert prices.text(price) == text
    assert prices.total(["one", "other"]) == 2 * price
