"""`embed_shards`: what a teacher makes of the images of one shard after the other; and what else may do so.

A `ShardEngine` embeds the shards that a build lacks: `InThisProcess`, or one of `aml_edge.engines`. Images reach the
embedder in groups whose bounds depend on their place alone, so that who embeds a shard, and when, changes no byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Protocol

import numpy as np
import numpy.typing as npt
import PIL

from aml_edge.embedder import Embedder, Embeddings, EmbeddingSource
from aml_edge.errors import ImageBatchError, ImageName, TeacherIndexError
from aml_edge.image_loading import ImageItem, LoadedImage, UnreadableImage, load_each
from aml_edge.index.checked_rows import unsound_rows
from aml_edge.index.shards import Shard
from aml_edge.preprocessing import Preprocessing
from aml_edge.progress import ProgressTask
from aml_edge.space import EmbeddingSpace

DECODER = f"pillow {PIL.__version__}"
"""What decodes, for a plan; another one may round otherwise."""

READING_THREADS = 2
"""That read ahead, unless told otherwise."""

IMAGES_AT_ONCE = 64
"""Images held as pixels and handed to the embedder together, while as many are read: 150 MB each at 1024 px."""


@dataclass(frozen=True)
class ShardImages:
    """The images of a shard.

    Args:
        number: of the shard, from 0.
        first: place of its first image in the whole list.
        ids: n, of the images.
        items: n, the images.
    """

    number: int
    first: int
    ids: tuple[str, ...]
    items: tuple[ImageItem, ...]


@dataclass(frozen=True)
class ShardJob:
    """What a build has still to embed.

    Args:
        shards: those that it lacks, in order.
        images: of the whole build, for a message.
        skip_unreadable: leave out images that cannot be read, and those in which the network finds nothing.
    """

    shards: tuple[ShardImages, ...]
    images: int
    skip_unreadable: bool


class ShardEngine(EmbeddingSource, Protocol):
    """Where and by what shards are embedded."""

    def embed(self, job: ShardJob, task: ProgressTask) -> Iterator[tuple[int, Shard]]:
        """Yields the number of each shard and what it holds, in any order; the task advances by one an image.

        Raises:
            ImageBatchError: images cannot be read and are not to be skipped; all of them are listed.
            TeacherIndexError: an embedding is not finite or not of unit length.
            DownloadError: what holds images cannot be reached.
            EngineError: the engine cannot run, or broke off.
        """
        ...


@dataclass(frozen=True)
class InThisProcess:
    """A ShardEngine that embeds one shard after the other, here.

    Args:
        embedder: what embeds.
        workers: threads that read ahead.
    """

    embedder: Embedder
    workers: int

    @property
    def name(self) -> str:
        """That of the embedder."""
        return self.embedder.name

    @property
    def space(self) -> EmbeddingSpace:
        """That of the embedder."""
        return self.embedder.space

    @property
    def preprocessing(self) -> Preprocessing:
        """That of the embedder."""
        return self.embedder.preprocessing

    def embed(self, job: ShardJob, task: ProgressTask) -> Iterator[tuple[int, Shard]]:
        """Yields the shards in order."""
        return embed_shards(self.embedder, job, task, workers=self.workers)


def embed_shards(embedder: Embedder, job: ShardJob, task: ProgressTask, *, workers: int) -> Iterator[tuple[int, Shard]]:
    """Yields the number of each shard and what it holds, in order; images are read ahead across shards.

    Nothing is embedded after the first image that cannot be read and is not to be skipped; the rest is only read.

    Args:
        embedder: what embeds.
        job: what to embed.
        task: advanced by one an image.
        workers: threads that read ahead.

    Raises:
        ImageBatchError, TeacherIndexError, DownloadError: as `ShardEngine.embed` says.
    """
    items = [item for shard in job.shards for item in shard.items]
    results = load_each(items, embedder.preprocessing, workers=workers, hashed=True, ahead=IMAGES_AT_ONCE)
    for shard in job.shards:
        yield shard.number, _embedded(embedder, shard, results, job, task)


def _embedded(
    embedder: Embedder,
    shard: ShardImages,
    results: Iterator[LoadedImage | UnreadableImage],
    job: ShardJob,
    task: ProgressTask,
) -> Shard:
    rows, unreadable = [np.empty((0, embedder.space.dimension), np.float32)], []
    hashes: list[str] = []
    for start in range(0, len(shard.ids), IMAGES_AT_ONCE):
        group = dict(zip(range(start, len(shard.ids)), islice(results, IMAGES_AT_ONCE), strict=False))
        loaded = {place: one for place, one in group.items() if isinstance(one, LoadedImage)}
        if len(loaded) < len(group) and not job.skip_unreadable:
            raise ImageBatchError(_failures(chain(group.values(), results), task), job.images, skippable=True)
        if loaded:
            places, found = list(loaded), embedder.embed([one.pixels for one in loaded.values()])
            assert found.shape == (len(loaded), embedder.space.dimension)
            blank = _blank_rows(found) if job.skip_unreadable else np.empty(0, np.intp)
            kept = np.delete(np.arange(len(places)), blank)
            _require_sound(embedder.name, [shard.ids[places[row]] for row in kept], found[kept])
            rows.append(found[kept])
            loaded = {places[row]: loaded[places[row]] for row in kept}
        unreadable += [shard.first + place for place in group if place not in loaded]
        hashes += [one.sha256 for one in loaded.values() if one.sha256 is not None]
        task.advance(len(group))
    return Shard(np.concatenate(rows), tuple(hashes), tuple(unreadable))


def _failures(results: Iterable[LoadedImage | UnreadableImage], task: ProgressTask) -> Sequence[tuple[ImageName, str]]:
    """Returns every unreadable image, after the rest was read for nothing else."""
    failures = []
    for one in results:
        if isinstance(one, UnreadableImage):
            failures.append((one.path, one.reason))
        task.advance(status="looking for unreadable images")
    return failures


def _blank_rows(rows: Embeddings) -> npt.NDArray[np.intp]:
    """Returns which rows are of images in which the network finds nothing, such as one of a single colour.

    L2 with an eps leaves a row of almost nothing shorter than one; a row that is not finite is another matter.
    """
    return np.array([row for row in unsound_rows(rows) if np.linalg.norm(rows[row]) < 1], np.intp)


def _require_sound(name: str, ids: Sequence[str], rows: Embeddings) -> None:
    unsound = unsound_rows(rows)
    if len(unsound):
        raise TeacherIndexError(
            f"{name} gives {len(unsound)} embeddings that are not finite or not of unit length, the first for "
            f"{ids[unsound[0]]}; an index takes none of those: check the teacher's weights, or, where it is an image "
            "of next to nothing, pass --skip-unreadable."
        )
