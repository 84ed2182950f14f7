"""A greedy search for mixed precision: the fewest and cheapest blocks in floating point with which a budget holds.

Where all in integers does not hold it, the block that saves the most error for its price goes back to floating point
until it holds; then, the dearest first, each is tried in integers again. Everything is measured in the fake-quantized
network, on the queries that choose; `verdict_of` judges the real file by others.

A budget holds where the upper end of the drop's 95 % interval is within it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aml_edge.embedder import Embeddings
from aml_edge.errors import UsageError
from aml_edge.exporters.quantization.block_prices import BlockPrices
from aml_edge.exporters.quantization.query_set import QuerySet
from aml_edge.exporters.quantization.sensitivity import embed_with_each_block_alone, embedding_error
from aml_edge.exporters.quantization.trials import Trials
from aml_edge.ground_truth import QueryGroundTruth
from aml_edge.map_drop import Drop, QuerySplit, measure_drop
from aml_edge.progress import Progress, ProgressTask, SilentProgress
from aml_edge.quantization.post_training import PostTraining
from aml_edge.quantization_record import SearchRecord

SMALLEST_PRICE = 1e-3
"""Of the largest: a block that costs nothing in floating point, or less, counts as this cheap."""


@dataclass(frozen=True)
class FloatBlock:
    """A block that stayed in floating point.

    Args:
        block: which.
        without: what is lost if it too is in integers, on the queries that chose.
        price: what its floating point costs, with its unit; empty where it costs nothing.
    """

    block: str
    without: Drop
    price: str

    @property
    def why(self) -> str:
        """The reason, in words."""
        lost = self.without
        gain = f"for {self.price} less" if self.price else "and floating point costs nothing"
        return (
            f"in integers up to {lost.high:.2f} points of mAP may be lost ({lost.points:.2f} [{lost.low:.2f}, "
            f"{lost.high:.2f}] on {lost.queries} queries), {gain}"
        )


@dataclass(frozen=True)
class MixedPrecision:
    """What a search found.

    Args:
        float_blocks: all that stay in floating point, those that the options ask for among them.
        chosen: those that the search chose, in run order.
        drop: on the queries that chose; the real file is judged by others.
        max_drop: the budget, points of 100.
        held: whether the budget holds on these queries; if not, this is the choice with the lowest upper end.
        prices: what it made small.
        measured: how many choices were measured.
    """

    float_blocks: frozenset[str]
    chosen: tuple[FloatBlock, ...]
    drop: Drop
    max_drop: float
    held: bool
    prices: BlockPrices
    measured: int

    @property
    def reasons(self) -> Mapping[str, str]:
        """Chosen block → why it stayed in floating point."""
        return {one.block: one.why for one in self.chosen}

    @property
    def price(self) -> float:
        """What the chosen blocks cost, in the unit of the prices."""
        return self.prices.total([one.block for one in self.chosen])


def search_mixed_precision(
    post_training: PostTraining,
    selection: QuerySet,
    max_drop: float,
    prices: BlockPrices,
    progress: Progress | None = None,
) -> MixedPrecision:
    """Returns which blocks stay in floating point so that at most `max_drop` points of medium mAP are lost.

    Args:
        post_training: the network; the blocks that its options leave in floating point stay there.
        selection: the queries that choose.
        max_drop: the budget, points of 100.
        prices: of each block that may go back to floating point.
        progress: where the work is announced.

    Raises:
        UsageError: the budget is no number of points, or no query has a positive.
    """
    require_budget(max_drop)
    progress = progress or SilentProgress()
    blocks = post_training.graph.blocks
    trials = Trials(post_training, selection, max_drop)
    with progress.task("all blocks in integers", 1) as task:
        chosen = frozenset[str]() if trials.holds(frozenset(), task) else None
    if chosen is None:
        chosen = _held(_order(post_training, selection, prices, progress), trials, prices, progress)
    best = trials.best(prices) if chosen is None else chosen
    kept = [
        FloatBlock(block, trials.without[block], prices.text(price) if (price := prices.of_block[block]) > 0 else "")
        for block in blocks
        if block in best
    ]
    return MixedPrecision(
        post_training.float_blocks | best,
        tuple(kept),
        trials.drop(best),
        max_drop,
        chosen is not None,
        prices,
        trials.measured,
    )


def verdict_of(
    found: MixedPrecision,
    student_rows: Embeddings,
    file_rows: Embeddings,
    database: Embeddings,
    ground_truth: Sequence[QueryGroundTruth],
    split: QuerySplit,
) -> SearchRecord:
    """Returns what a real file came to, on queries that did not choose its blocks.

    Args:
        found: by the search.
        student_rows, file_rows: (N, D) embeddings of all queries, the file's from its runtime.
        database: (M, D) the teacher's.
        ground_truth: N, in rows of the database.
        split: of the queries.
    """
    drop = measure_drop(student_rows, file_rows, database, ground_truth, split.verdict)
    return SearchRecord(
        max_drop=found.max_drop,
        by=found.prices.by,
        selection_queries=len(split.selection),
        verdict_queries=drop.queries,
        drop=drop.points,
        low=drop.low,
        high=drop.high,
        held=drop.holds(found.max_drop),
    )


def require_budget(max_drop: float) -> None:
    """Raises `UsageError` unless a budget is a number of points that can be lost."""
    if not (0 <= max_drop < math.inf):
        raise UsageError(
            f"`max_drop` is {max_drop:g}; it is how many points of 100 of asymmetric mAP may be lost: give 0 or more."
        )


def _order(
    post_training: PostTraining, selection: QuerySet, prices: BlockPrices, progress: Progress
) -> tuple[str, ...]:
    """Returns the blocks that may go back to floating point, those that save the most error for their price first."""
    candidates = [block for block in post_training.graph.blocks if block not in post_training.float_blocks]
    alone = embed_with_each_block_alone(post_training, selection.images, candidates, progress)
    saved = {block: embedding_error(alone.float_rows, alone.of_block[block]).lost for block in candidates}
    floor = SMALLEST_PRICE * max((abs(prices.of_block[block]) for block in candidates), default=0.0) or 1.0
    return tuple(sorted(candidates, key=lambda block: -saved[block] / max(prices.of_block[block], floor)))


def _held(order: Sequence[str], trials: Trials, prices: BlockPrices, progress: Progress) -> frozenset[str] | None:
    """Returns blocks with which the budget holds, none of them for nothing; None where none was found."""
    with progress.task("blocks back to floating point", max(0, len(order) - 1)) as task:
        grown = _grown(order, trials, task)
    if grown is None:
        return None
    dearest_first = sorted(grown, key=lambda block: -prices.of_block[block])
    with progress.task("blocks tried in integers again", len(grown)) as task:
        return _thinned(dearest_first, trials, task)


def _grown(order: Sequence[str], trials: Trials, task: ProgressTask) -> frozenset[str] | None:
    """Returns the first blocks of an order with which the budget holds, or None; the last one stays in integers."""
    for count in range(1, len(order)):
        blocks = frozenset(order[:count])
        trials.without[order[count - 1]] = trials.drop(blocks - {order[count - 1]})
        if trials.holds(blocks, task):
            return blocks
    return None


def _thinned(chosen: Sequence[str], trials: Trials, task: ProgressTask) -> frozenset[str]:
    """Returns those of the chosen blocks without which the budget does not hold, each tried once, in this order."""
    kept = frozenset(chosen)
    for block in chosen:
        trials.without[block] = trials.drop(kept - {block})
        if trials.holds(kept - {block}, task):
            kept -= {block}
    return kept
