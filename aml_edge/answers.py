"""What images find in a teacher's index: embedded in groups, each searched for at once, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aml_edge.embedder import Embedder, Embeddings
from aml_edge.errors import ImageBatchError, ImageName
from aml_edge.image_loading import EMBEDDING_BATCH, ImageItem, UnreadableImage, load_each
from aml_edge.index import TeacherIndex
from aml_edge.pixels import Pixels
from aml_edge.progress import Progress, ProgressTask, SilentProgress
from aml_edge.search import TopK, top_k

GROUP = 256
"""Queries that share a reading of the index; from so many on, products take longer than reading."""

_WORKERS = 2


@dataclass(frozen=True)
class FoundImage:
    """One answer: its rank from 1, its id in the index, and the cosine to the query."""

    rank: int
    id: str
    similarity: float


@dataclass(frozen=True)
class Answer:
    """What one image found, nearest first as the search has it; ``-`` is the image of standard input."""

    image: Path
    found: tuple[FoundImage, ...]


@dataclass(frozen=True)
class Answers:
    """What a search came to.

    Args:
        items: the images that could be read, in their order.
        answers: of each of them.
        unreadable: (name, reason) of the others.
    """

    items: tuple[ImageItem, ...]
    answers: tuple[Answer, ...]
    unreadable: tuple[tuple[ImageName, str], ...]


@dataclass(frozen=True)
class SearchOptions:
    """How an index is searched.

    Args:
        k: how many images each query finds.
        device: of PyTorch, where similarities are computed.
        skip_unreadable: whether images that cannot be read are left out, unless all are.
        search: takes (Q, D) embeddings and k, and returns rows of the index, −1 where it found fewer, in its own order;
            an exact search where None.
    """

    k: int = 10
    device: str = "cpu"
    skip_unreadable: bool = False
    search: Callable[[Embeddings, int], TopK] | None = None


def find_answers(
    items: Sequence[ImageItem],
    embedder: Embedder,
    index: TeacherIndex,
    options: SearchOptions,
    *,
    progress: Progress | None = None,
) -> Answers:
    """Returns what each image finds.

    Args:
        items: the images that ask.
        embedder: of the index's space (`aml_edge.querying`).
        index: what is asked.
        options: how.
        progress: where the work is announced, one step an image.

    Raises:
        ImageBatchError: images cannot be read, and are not to be skipped; all of them are listed.
        TeacherIndexError: a row of the index cannot be right.
    """
    readable: list[ImageItem] = []
    answers: list[Answer] = []
    unreadable: list[tuple[ImageName, str]] = []
    with (progress or SilentProgress()).task("searching", len(items)) as task:
        for start in range(0, len(items), GROUP):
            wanted = options.skip_unreadable or not unreadable
            group = _embed_group(items[start : start + GROUP], embedder, options, task, wanted=wanted)
            readable += group.items
            unreadable += group.unreadable
            if group.items:
                answers += _answers(group, index, options)
    if unreadable and not (options.skip_unreadable and answers):
        raise ImageBatchError(unreadable, len(items), skippable=len(unreadable) < len(items))
    return Answers(tuple(readable), tuple(answers), tuple(unreadable))


@dataclass(frozen=True)
class _Group:
    """Some of the images that ask: (n, D) embeddings of n that could be read, and the others."""

    items: tuple[ImageItem, ...]
    embeddings: Embeddings
    unreadable: tuple[tuple[ImageName, str], ...]


def _embed_group(
    items: Sequence[ImageItem], embedder: Embedder, options: SearchOptions, task: ProgressTask, *, wanted: bool
) -> _Group:
    """Returns a group; where nothing is to be skipped, nothing is embedded after the first that cannot be read.

    Args:
        items, embedder, options: as in `find_answers`.
        task: told of each image.
        wanted: whether to embed any; else images are only read, to find all that cannot be.
    """
    unreadable: list[tuple[ImageName, str]] = []
    readable: list[ImageItem] = []
    waiting: list[Pixels] = []
    rows = [np.empty((0, embedder.space.dimension), np.float32)]
    for place, image in enumerate(load_each(items, embedder.preprocessing, workers=_WORKERS), start=1):
        if isinstance(image, UnreadableImage):
            unreadable.append((image.path, image.reason))
        elif wanted and (options.skip_unreadable or not unreadable):
            readable.append(items[image.place])
            waiting.append(image.pixels)
        if waiting and (len(waiting) == EMBEDDING_BATCH or place == len(items)):
            rows.append(embedder.embed(waiting))
            waiting = []
        task.advance()
    return _Group(tuple(readable), np.concatenate(rows), tuple(unreadable))


def _answers(group: _Group, index: TeacherIndex, options: SearchOptions) -> Iterator[Answer]:
    database = index.checked_embeddings
    if options.search is None:
        result = top_k(group.embeddings, database, options.k, device=options.device)
        found = zip(result.rows.tolist(), result.similarities.tolist(), strict=True)
    else:
        listed = [rows[rows >= 0] for rows in options.search(group.embeddings, options.k).rows]
        cosines = (database[rows] @ query for rows, query in zip(listed, group.embeddings, strict=True))
        found = zip((rows.tolist() for rows in listed), (one.tolist() for one in cosines), strict=True)
    for item, (rows, similarities) in zip(group.items, found, strict=True):
        pairs = enumerate(zip(rows, similarities, strict=True), start=1)
        yield Answer(item.path, tuple(FoundImage(rank, index.ids[row], cosine) for rank, (row, cosine) in pairs))
