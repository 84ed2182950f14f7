"""`Trials`: what is lost with some blocks in floating point, measured in the fake-quantized network."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from aml_edge.embedder import Embeddings
from aml_edge.exporters.quantization.block_prices import BlockPrices
from aml_edge.exporters.quantization.query_set import QuerySet
from aml_edge.exporters.quantization.sensitivity import embed_float, embed_quantized
from aml_edge.map_drop import Drop, measure_drop
from aml_edge.progress import ProgressTask
from aml_edge.quantization.post_training import PostTraining


class Trials:
    """Measures choices of blocks to leave in floating point, each once.

    Args:
        post_training, selection, max_drop: of the search.

    Attributes:
        without: block → what is lost if it too is in integers, as far as that was measured.
    """

    def __init__(self, post_training: PostTraining, selection: QuerySet, max_drop: float) -> None:
        self._post_training, self._selection, self._max_drop = post_training, selection, max_drop
        self._drops: dict[frozenset[str], Drop] = {}
        self.without: dict[str, Drop] = {}

    @cached_property
    def _float_rows(self) -> Embeddings:
        return embed_float(self._post_training.graph, self._selection.images)

    @property
    def measured(self) -> int:
        """How many choices were measured."""
        return len(self._drops)

    def drop(self, blocks: frozenset[str]) -> Drop:
        """Returns what is lost with these blocks in floating point beside those of the options."""
        if blocks not in self._drops:
            student = self._post_training.quantized(self._post_training.float_blocks | blocks)
            rows = embed_quantized(student, self._selection.images)
            database, truth = self._selection.database, self._selection.ground_truth
            self._drops[blocks] = measure_drop(self._float_rows, rows, database, truth, range(len(truth)))
        return self._drops[blocks]

    def holds(self, blocks: frozenset[str], task: ProgressTask) -> bool:
        """Returns whether the budget holds with these blocks in floating point, and announces it."""
        drop = self.drop(blocks)
        task.advance(status=f"{len(blocks)} in floating point: at most {drop.high:.2f} points lost")
        return drop.holds(self._max_drop)

    def best(self, prices: BlockPrices) -> frozenset[str]:
        """Returns the choice with the lowest upper end, the cheapest of several."""
        order = {
            blocks: (np.nan_to_num(drop.high, nan=np.inf), prices.total([*blocks]))
            for blocks, drop in self._drops.items()
        }
        return min(order, key=lambda blocks: order[blocks])
