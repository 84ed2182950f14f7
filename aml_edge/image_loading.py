"""Many image files read ahead in threads, in order, in bounded memory; none is passed over in silence.

`load_each` yields one result for every item: a `LoadedImage` or an `UnreadableImage`. Who must know which items were
left out, such as an index that goes on without them, uses it. `load_many` is for everyone else: it lists all
unreadable ones in one error, or leaves them out where it was told to; then the places of what it yields have gaps.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from aml_edge.decoding import require_file
from aml_edge.embedder import Embedder, Embeddings
from aml_edge.errors import ImageBatchError, ImageError, ImageName, UsageError
from aml_edge.pixels import Box, Pixels, decode_pixels, load_pixels
from aml_edge.preprocessing import Preprocessing
from aml_edge.progress import Progress, SilentProgress
from aml_edge.read_ahead import read_ahead

EMBEDDING_BATCH = 16
"""Images handed to an Embedder at once; it batches them further, or not, as suits its runtime."""

LARGEST_FILE_BYTES = 1 << 30
"""Of an image whose bytes are read whole; Pillow's limit on pixels, 16 bits and four channels each, is less."""


class StoredImage(Protocol):
    """An image that is no file of this machine: an object of a store, or a row of a table.

    It can be pickled, since processes on other machines read it as well.
    """

    @property
    def name(self) -> str:
        """What a message calls it, e.g. its URL."""
        ...

    @property
    def signature(self) -> str:
        """What is known of its bytes without reading them, and changes with them: size, version, time."""
        ...

    def read(self) -> bytes:
        """Returns its bytes, those of an image file.

        Raises:
            ImageError: it is not there.
            DownloadError: what holds it cannot be reached, which says nothing of the image.
        """
        ...


@dataclass(frozen=True)
class ImageItem:
    """An image file, and the box to cut out of it where only a part counts.

    Args:
        path: the file; of a stored image only a name.
        box: the part.
        stored: what holds the bytes, where no file of this machine does.
    """

    path: Path
    box: Box | None = None
    stored: StoredImage | None = None

    @property
    def name(self) -> ImageName:
        """What a message calls it."""
        return self.path if self.stored is None else self.stored.name

    def read(self) -> bytes:
        """Returns the bytes of the file.

        Raises:
            ImageError: it is not there, or larger than an image can be.
            DownloadError: what holds it cannot be reached.
        """
        if self.stored is not None:
            return self.stored.read()
        try:
            require_file(self.path)
            with self.path.open("rb") as stream:
                require_image_size(os.fstat(stream.fileno()).st_size, self.path)
                return stream.read()
        except FileNotFoundError:
            raise ImageError(self.path, "there is no such file") from None
        except OSError as problem:
            raise ImageError(self.path, problem.strerror or type(problem).__name__) from None


def require_image_size(size_bytes: int, name: ImageName) -> None:
    """Raises `ImageError` where a file has more bytes than an image can need."""
    if size_bytes > LARGEST_FILE_BYTES:
        raise ImageError(name, f"it has {size_bytes} bytes, and an image at most {LARGEST_FILE_BYTES}")


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
    path: ImageName
    reason: str


def load_each(
    items: Sequence[ImageItem], preprocessing: Preprocessing, *, workers: int, hashed: bool = False, ahead: int = 0
) -> Iterator[LoadedImage | UnreadableImage]:
    """Yields one result for each item, in order; threads decode ahead.

    Args:
        items: what to read.
        preprocessing: how to fit it.
        workers: threads.
        hashed: whether to hash the files too, which are read once: the SHA-256 is that of the bytes decoded.
        ahead: images that are held ready at least, for who takes so many at once.

    Raises:
        UsageError: there is no thread.
        DownloadError: what holds stored images cannot be reached.
    """
    if workers < 1:
        raise UsageError(f"`workers` is {workers}; reading takes at least one thread.")
    load = partial(_load, preprocessing=preprocessing, hashed=hashed)
    return read_ahead(load, enumerate(items), workers=workers, at_least=ahead)


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
        if item.stored is None and not hashed:
            return LoadedImage(place, load_pixels(item.path, preprocessing, item.box))
        content = item.read()
        pixels = decode_pixels(content, preprocessing, item.box, item.name)
        return LoadedImage(place, pixels, hashlib.sha256(content).hexdigest() if hashed else None)
    except ImageError as error:
        ((path, reason),) = error.failures
        return UnreadableImage(place, path, reason)


def _readable(
    results: Iterator[LoadedImage | UnreadableImage], total: int, skip_unreadable: bool
) -> Iterator[LoadedImage]:
    failures: list[tuple[ImageName, str]] = []
    for result in results:
        if isinstance(result, UnreadableImage):
            failures.append((result.path, result.reason))
        elif skip_unreadable or not failures:
            yield result
    if failures and not skip_unreadable:
        raise ImageBatchError(failures, total)
