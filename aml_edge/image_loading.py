"""Many image files read ahead in threads, in order, in bounded memory; none is passed over in silence.

`load_each` yields one result for every item: a `LoadedImage` or an `UnreadableImage`. Who must know which items were
left out, such as an index that goes on without them, uses it. `load_many` is for everyone else: it lists all
unreadable ones in one error, or leaves them out where it was told to; then the places of what it yields have gaps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from aml_edge.embedder import Embedder, Embeddings
from aml_edge.errors import ImageBatchError, ImageError, UsageError
from aml_edge.files import file_sha256
from aml_edge.pixels import Box, Pixels, load_pixels
from aml_edge.preprocessing import Preprocessing
from aml_edge.progress import Progress, SilentProgress
from aml_edge.read_ahead import read_ahead

EMBEDDING_BATCH = 16
"""Images handed to an Embedder at once; it batches them further, or not, as suits its runtime."""


@dataclass(frozen=True)
class ImageItem:
    """An image file, and the box to cut out of it where only a part counts."""

    path: Path
    box: Box | None = None


@dataclass(frozen=True)
class LoadedImage:
    """Fitted pixels, with the item's place in the sequence that was asked for.

    Args:
        place, pixels: as said.
        sha256: of the file's bytes, where it was asked for.
    """

    place: int
    pixels: Pixels
    sha256: str | None = None


@dataclass(frozen=True)
class UnreadableImage:
    """An item that cannot be read, with its place in the sequence that was asked for and the reason in words."""

    place: int
    path: Path
    reason: str


def load_each(
    items: Sequence[ImageItem], preprocessing: Preprocessing, *, workers: int, hashed: bool = False
) -> Iterator[LoadedImage | UnreadableImage]:
    """Yields one result for each item, in order; `workers` threads decode ahead, and hash the files where told to."""
    if workers < 1:
        raise UsageError(f"`workers` is {workers}; reading takes at least one thread.")
    load = partial(_load, preprocessing=preprocessing, hashed=hashed)
    return read_ahead(load, enumerate(items), workers=workers)


def load_many(
    items: Sequence[ImageItem], preprocessing: Preprocessing, *, workers: int, skip_unreadable: bool
) -> Iterator[LoadedImage]:
    """Yields the images of the items, in order; `workers` threads decode ahead.

    Args:
        items: what to read.
        preprocessing: how to fit it.
        workers: threads.
        skip_unreadable: leave unreadable ones out. Else nothing is yielded after the first of them, so that what was
            yielded has no gaps, and the rest is only read to find all of them.

    Raises:
        ImageBatchError: after the last item, where some are unreadable and not to be skipped; all of them are listed.
    """
    return _readable(load_each(items, preprocessing, workers=workers), len(items), skip_unreadable)


def embed_items(
    embedder: Embedder,
    items: Sequence[ImageItem],
    *,
    progress: Progress | None = None,
    description: str = "embedding",
    workers: int = 2,
) -> Embeddings:
    """Returns (N, D) float32 embeddings of N items, fitted as the embedder asks; rows L2-normalised.

    Args:
        embedder: what embeds.
        items: image files.
        progress: where the work is announced, one step an image.
        description: what the work is called there.
        workers: threads that read ahead.

    Raises:
        ImageBatchError: images cannot be read; all of them are listed.
    """
    embeddings = np.zeros((len(items), embedder.space.dimension), np.float32)
    waiting: list[LoadedImage] = []
    with (progress or SilentProgress()).task(description, len(items)) as task:
        for loaded in load_many(items, embedder.preprocessing, workers=workers, skip_unreadable=False):
            waiting.append(loaded)
            if len(waiting) == EMBEDDING_BATCH or loaded.place == len(items) - 1:
                rows = embedder.embed([image.pixels for image in waiting])
                assert rows.shape == (len(waiting), embeddings.shape[1])
                embeddings[waiting[0].place : loaded.place + 1] = rows
                task.advance(len(waiting))
                waiting.clear()
    return embeddings


def _load(
    placed: tuple[int, ImageItem], *, preprocessing: Preprocessing, hashed: bool
) -> LoadedImage | UnreadableImage:
    place, item = placed
    try:
        pixels = load_pixels(item.path, preprocessing, item.box)
        return LoadedImage(place, pixels, file_sha256(item.path) if hashed else None)
    except ImageError as error:
        ((path, reason),) = error.failures
        return UnreadableImage(place, path, reason)


def _readable(
    results: Iterator[LoadedImage | UnreadableImage], total: int, skip_unreadable: bool
) -> Iterator[LoadedImage]:
    failures: list[tuple[Path, str]] = []
    for result in results:
        if isinstance(result, UnreadableImage):
            failures.append((result.path, result.reason))
        elif skip_unreadable or not failures:
            yield result
    if failures and not skip_unreadable:
        raise ImageBatchError(failures, total)
