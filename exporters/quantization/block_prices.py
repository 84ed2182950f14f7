"""Block prices: what each block costs in floating point over integers, in bytes, in time, or in operations."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

from aml_edge.embedder import Embedder
from aml_edge.errors import UsageError
from aml_edge.pixels import Pixels
from aml_edge.progress import Progress, SilentProgress
from aml_edge.quantization.graph import Site, SiteGraph, SiteKind
from aml_edge.quantization_record import SearchBy

FLOAT_BYTES, INTEGER_BYTES, SCALE_BYTES = 4, 1, 4
NANOSECONDS_IN_MS = 1e6

OpenFile = Callable[[frozenset[str]], Embedder]
"""Makes a file in which these blocks stay in floating point, and opens it, with one thread."""


@dataclass(frozen=True)
class BlockPrices:
    """What each block costs in floating point over integers.

    Args:
        by: what a search makes small.
        unit: e.g. ``"ms"``; one multiplication and addition is one MAC.
        of_block: block → price; below zero where integers are dearer.
    """

    by: SearchBy
    unit: str
    of_block: Mapping[str, float]

    def total(self, blocks: Sequence[str]) -> float:
        """Returns what some blocks cost together."""
        return sum(self.of_block[block] for block in blocks)

    def text(self, price: float) -> str:
        """Returns a price with its unit, e.g. ``"0.31 ms"``, ``"1.27 MB"``, ``"12.4 M MACs"``."""
        if self.unit == "bytes":
            return f"{price / 1e6:.2f} MB"
        return f"{price / 1e6:.1f} M MACs" if self.unit == "MACs" else f"{price:.2f} {self.unit}"


@dataclass(frozen=True)
class PriceTiming:
    """How blocks are timed.

    Args:
        rounds: in each of which every file runs once, in turn.
        warm_up: rounds that do not count.
    """

    rounds: int = 20
    warm_up: int = 3

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.warm_up < 0:
            raise UsageError(
                f"`rounds` is {self.rounds} and `warm_up` is {self.warm_up}; a timing takes one round at least that "
                "counts, and none or more before."
            )


def size_prices(graph: SiteGraph) -> BlockPrices:
    """Returns the bytes that weights take more: 4 a value, less 1 a value and 4 an output channel's scale."""
    saved = FLOAT_BYTES - INTEGER_BYTES
    return BlockPrices(
        SearchBy.SIZE,
        "bytes",
        _by_block(graph, lambda weight: saved * math.prod(weight) - SCALE_BYTES * weight[0]),
    )


def operation_prices(graph: SiteGraph) -> BlockPrices:
    """Returns the MACs of the convolutions of each block, for want of a runtime that times them."""
    return BlockPrices(SearchBy.LATENCY, "MACs", _by_block(graph, lambda weight: math.prod(weight), per_place=True))


def latency_prices(
    blocks: Sequence[str],
    float_blocks: frozenset[str],
    open_file: OpenFile,
    image: Pixels,
    timing: PriceTiming | None = None,
    progress: Progress | None = None,
) -> BlockPrices:
    """Returns the milliseconds that an image takes longer with each block in floating point, all others in integers.

    All files are open at once and take turns, so that what slows the machine slows them all; a price is the median
    over rounds of the difference to the file without the block.

    Args:
        blocks: that are priced.
        float_blocks: in floating point in every file.
        open_file: makes files; each is closed.
        image: (H, W, 3) uint8 that they take.
        timing: how often.
        progress: where the work is announced.
    """
    timing, progress = timing or PriceTiming(), progress or SilentProgress()
    choices = [float_blocks, *(float_blocks | {block} for block in blocks)]
    with ExitStack() as opened:
        files = []
        with progress.task("files to time blocks by", len(choices)) as task:
            for choice in choices:
                files.append(opened.enter_context(closing(open_file(choice))))
                task.advance()
        rounds = []
        with progress.task("timing blocks", timing.rounds) as task:
            for number in range(timing.warm_up + timing.rounds):
                taken = [_ms(file, image) for file in files]
                if number >= timing.warm_up:
                    rounds.append(taken)
                    task.advance()
    prices = {
        block: statistics.median(taken[place] - taken[0] for taken in rounds)
        for place, block in enumerate(blocks, start=1)
    }
    return BlockPrices(SearchBy.LATENCY, "ms", prices)


def _ms(file: Embedder, image: Pixels) -> float:
    started = time.perf_counter_ns()
    file.embed([image])
    return (time.perf_counter_ns() - started) / NANOSECONDS_IN_MS


def _by_block(
    graph: SiteGraph, of_weight: Callable[[Sequence[int]], float], *, per_place: bool = False
) -> dict[str, float]:
    """Returns the sum over each block's convolutions of what their weights' shapes (O, C, h, w) say."""
    prices = dict.fromkeys(graph.blocks, 0.0)
    for site in graph.sites:
        if site.kind is SiteKind.CONVOLUTION:
            price = of_weight(tuple(graph.state(site.weight).shape))
            prices[site.block] += price * (_places(graph, site) if per_place else 1)
    return prices


def _places(graph: SiteGraph, site: Site) -> int:
    """Returns at how many places of its result a convolution computes."""
    height, width = graph.node(site.operator).meta["val"].shape[2:]
    return int(height) * int(width)
