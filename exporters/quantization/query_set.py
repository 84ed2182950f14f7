"""`QuerySet`: queries with their pixels at hand, the teacher's database, and which of it answers them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from aml_edge.datasets.retrieval_dataset import RetrievalDataset
from aml_edge.embedder import Embeddings
from aml_edge.ground_truth import QueryGroundTruth
from aml_edge.image_loading import ImageItem, load_many
from aml_edge.index import TeacherIndex
from aml_edge.pixels import Pixels
from aml_edge.preprocessing import Preprocessing
from aml_edge.progress import Progress, SilentProgress

WORKERS = 2


@dataclass(frozen=True, eq=False)
class QuerySet:
    """Queries that ask a teacher's database.

    Args:
        images: N of (H, W, 3) uint8, fitted as a file is given them.
        ground_truth: N, in rows of the database.
        database: (M, D) embeddings.
    """

    images: tuple[Pixels, ...]
    ground_truth: tuple[QueryGroundTruth, ...]
    database: Embeddings

    def __post_init__(self) -> None:
        assert len(self.images) == len(self.ground_truth)

    def taken(self, places: Sequence[int]) -> QuerySet:
        """Returns some of the queries, by their places."""
        images = tuple(self.images[place] for place in places)
        return replace(self, images=images, ground_truth=tuple(self.ground_truth[place] for place in places))


def load_query_set(
    dataset: RetrievalDataset, index: TeacherIndex, preprocessing: Preprocessing, progress: Progress | None = None
) -> QuerySet:
    """Returns a data set's queries, cropped to their boxes and fitted, and its database as a teacher embedded it.

    Args:
        dataset: of the revisited protocol.
        index: the teacher's, of this data set.
        preprocessing: of the file that the queries are for.
        progress: where the work is announced.

    Raises:
        UsageError: the data set has no settings.
        TeacherIndexError: the index lacks images of the data set, or holds an embedding that cannot be one.
        ImageBatchError: images cannot be read; all of them are listed.
    """
    dataset.require_settings()
    database = np.asarray(index.checked_embeddings[index.rows_of(dataset.database_ids)], np.float32)
    images = load_pixels_of(dataset.query_items, preprocessing, "reading queries", progress)
    return QuerySet(images, tuple(dataset.ground_truth), database)


def load_pixels_of(
    items: Sequence[ImageItem], preprocessing: Preprocessing, description: str, progress: Progress | None = None
) -> tuple[Pixels, ...]:
    """Returns the fitted pixels of some images; raises `ImageBatchError`, which lists those that cannot be read."""
    with (progress or SilentProgress()).task(description, len(items)) as task:
        pixels = []
        for one in load_many(items, preprocessing, workers=WORKERS, skip_unreadable=False):
            pixels.append(one.pixels)
            task.advance()
    return tuple(pixels)
