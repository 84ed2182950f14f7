"""`EmbeddedSides`: each side of an evaluation is embedded once, whatever number of rows of the table need it.

A side is embedded before any whitening; whitening what was embedded costs a matrix product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from aml_edge.datasets.retrieval_dataset import RetrievalDataset
from aml_edge.embedder import Embedder, Embeddings
from aml_edge.errors import UsageError
from aml_edge.image_loading import embed_items
from aml_edge.preprocessing import Preprocessing
from aml_edge.progress import Progress
from aml_edge.scales import Scales


@dataclass(frozen=True)
class Side:
    """What embeds images, and how it sees them.

    Args:
        name: in a word, e.g. ``"student"``; two sides of one name are the same network.
        preprocessing, scales: of its images.
        open: returns the embedder.
    """

    name: str
    preprocessing: Preprocessing
    scales: Scales
    open: Callable[[], Embedder] = field(compare=False, repr=False)

    @property
    def description(self) -> str:
        """The name, with the number of scales where there are several."""
        return self.name if len(self.scales) == 1 else f"{self.name}, {len(self.scales)} scales"


class EmbeddedSides:
    """The queries and the database of a data set as each side embeds them, on demand, and kept.

    Args:
        dataset: whose images are embedded.
        progress: where the work is announced.
    """

    def __init__(self, dataset: RetrievalDataset, progress: Progress) -> None:
        self._dataset = dataset
        self._progress = progress
        self._embedders: dict[Side, Embedder] = {}
        self._queries: dict[Side, Embeddings] = {}
        self._database: dict[Side, Embeddings] = {}

    def open(self, side: Side) -> None:
        """Opens a side's embedder, which shows early whether it can run."""
        if side not in self._embedders:
            self._embedders[side] = side.open()

    def queries(self, side: Side) -> Embeddings:
        """Returns (N, D) embeddings of the queries, cropped to their boxes; raises as `embed_queries`."""
        if side not in self._queries:
            self.open(side)
            self._queries[side] = embed_queries(
                self._embedders[side], self._dataset, name=side.name, progress=self._progress, said=side.description
            )
        return self._queries[side]

    def database(self, side: Side) -> Embeddings:
        """Returns (M, D) embeddings of the database's images; raises as `embed_database`."""
        if self._dataset.queries_are_database:
            return self.queries(side)
        if side not in self._database:
            self.open(side)
            self._database[side] = embed_database(
                self._embedders[side], self._dataset, progress=self._progress, said=side.description
            )
        return self._database[side]

    def close(self) -> None:
        """Closes what was opened; embeddings are kept."""
        for embedder in self._embedders.values():
            embedder.close()
        self._embedders.clear()


def embed_queries(
    embedder: Embedder, dataset: RetrievalDataset, *, name: str, progress: Progress, said: str | None = None
) -> Embeddings:
    """Returns (N, D) embeddings of a data set's queries, cropped to their boxes.

    Args:
        embedder: what embeds.
        dataset: whose queries.
        name: of what embeds, for messages.
        progress: where the work is announced.
        said: of what embeds, there; its name where None.

    Raises:
        ImageBatchError: images cannot be read; all of them are listed.
        UsageError: an embedding is not finite.
    """
    described = f"queries, {said or name}"
    queries = embed_items(embedder, dataset.query_items, progress=progress, description=described)
    broken = np.flatnonzero(~np.isfinite(queries).all(axis=1))
    if len(broken):
        raise UsageError(
            f"{name} gives {len(broken)} of {len(queries)} queries an embedding that is not finite, the first to "
            f"{dataset.query_items[broken[0]].path}; there is no ranking of those: train or export it again."
        )
    return queries


def embed_database(embedder: Embedder, dataset: RetrievalDataset, *, progress: Progress, said: str) -> Embeddings:
    """Returns (M, D) embeddings of a data set's database; raises `ImageBatchError`, which lists what cannot be read."""
    return embed_items(embedder, dataset.database_items, progress=progress, description=f"database, {said}")
