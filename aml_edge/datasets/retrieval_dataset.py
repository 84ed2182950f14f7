"""`RetrievalDataset`: queries, a database, and which of it answers them, whatever layout they were read from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aml_edge.errors import UsageError
from aml_edge.ground_truth import QueryGroundTruth
from aml_edge.image_loading import ImageItem
from aml_edge.protocol import RECALL_AT, Protocol


@dataclass(frozen=True)
class RetrievalDataset:
    """Queries, a database, and which database images show what a query shows.

    Args:
        name: e.g. ``"roxford5k"``.
        root: the folder.
        query_items: N query images, each with its box where it has one.
        database_items: M database images; the very same tuple where each image asks all others.
        database_ids: paths relative to the root, parts joined by ``/``, in the same order.
        ground_truth: one a query, in rows of the database. Where there are no settings, positives are easy.
        protocol: how answers are judged.
        recall_at: cut-offs of recall@k, where the protocol has it.
    """

    name: str
    root: Path
    query_items: tuple[ImageItem, ...]
    database_items: Sequence[ImageItem]
    database_ids: tuple[str, ...]
    ground_truth: Sequence[QueryGroundTruth]
    protocol: Protocol = Protocol.REVISITED
    recall_at: tuple[int, ...] = RECALL_AT

    @property
    def queries_are_database(self) -> bool:
        """Whether each image asks all others, so that embedding the images once is enough."""
        return self.query_items is self.database_items

    def require_settings(self) -> None:
        """Raises `UsageError` where answers are not judged as easy, medium and hard."""
        if self.protocol is not Protocol.REVISITED:
            raise UsageError(
                f"`dataset` is {self.name}, whose results are published as {self.protocol}, not as mAP in the settings "
                "easy, medium and hard; measure it with `aml-edge eval`."
            )
