"""`build_index`: a teacher embeds a folder of images, in shards, and a build that was killed goes on to the same bytes.

Shards lie in `OUT.partial` (`aml_edge.index.shards`); the finished index appears as `OUT` by one rename. Images reach
the embedder in groups whose bounds depend on their place alone, so it makes no difference where a build was
interrupted. That its bytes are then the same needs an embedder that gives the same rows for the same groups: PyTorch
does on one machine, for one number of threads. The plan therefore records what embeds and what decodes, and a build
under another plan is refused.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
import PIL

from aml_edge.datasets.image_source import ImageSource
from aml_edge.embedder import Embedder, Embeddings
from aml_edge.errors import ImageBatchError, TeacherIndexError, UsageError
from aml_edge.image_loading import LoadedImage, UnreadableImage, load_each
from aml_edge.index.checked_rows import unsound_rows
from aml_edge.index.record import RECORD_FILE, IndexRecord
from aml_edge.index.shards import (
    BuildPlan,
    Shard,
    ShardSummary,
    begin_build,
    is_build_of,
    read_shard,
    remove_build,
    shard_path,
    signature_of,
    sole_builder,
    summarise_shard,
    write_shard,
)
from aml_edge.index.teacher_index import IDS_FILE, WHITENING_FILE, TeacherIndex, encode_ids, open_index
from aml_edge.index.writing import write_rows
from aml_edge.networks.whitening import Whitening
from aml_edge.networks.whitening_file import encode_whitening
from aml_edge.pixels import Pixels
from aml_edge.progress import Progress, ProgressTask, SilentProgress
from aml_edge.scales import SINGLE_SCALE, Scales

IMAGES_AT_ONCE = 64
"""Images held as pixels and handed to the embedder together: 150 MB at 1024 px."""


@dataclass(frozen=True)
class IndexOptions:
    """How an index is built.

    Args:
        whitening: that of the embedder's space, kept with the index since queries need it.
        scales: at which the embedder sees each image, kept with the index since queries are best embedded alike.
        skip_unreadable: leave out images that cannot be read, and record them.
        restart: throw away an unfinished build instead of going on with it.
        workers: threads that read ahead.
        shard_images: images of a shard: what a killed build loses at most.
    """

    whitening: Whitening | None = None
    scales: Scales = SINGLE_SCALE
    skip_unreadable: bool = False
    restart: bool = False
    workers: int = 2
    shard_images: int = 256

    def __post_init__(self) -> None:
        if self.shard_images < 1:
            raise UsageError(f"`shard_images` is {self.shard_images}; a shard holds at least one image.")


def build_index(
    embedder: Embedder,
    source: ImageSource,
    out: Path,
    options: IndexOptions | None = None,
    *,
    progress: Progress | None = None,
) -> TeacherIndex:
    """Returns the index of a teacher over images, after it was written; an unfinished one of the same plan goes on.

    Args:
        embedder: the teacher, its whitening included; its name says what computes, with version and threads.
        source: the images.
        out: the index's folder, which must not hold anything yet.
        options: how to build it.
        progress: where the work is announced, one step an image.

    Raises:
        ImageBatchError: images cannot be read and are not to be skipped; all of them are listed.
        TeacherIndexError: `out` is taken, an unfinished build has another plan, or an embedding is not finite
            or not of unit length.
        UsageError: the whitening is not that of the embedder's space.
    """
    options, partial = options or IndexOptions(), Path(f"{out}.partial")
    _require_whitening(embedder, options.whitening)
    plan = BuildPlan(
        space=embedder.space,
        preprocessing=embedder.preprocessing,
        images=len(source.ids),
        ids_sha256=hashlib.sha256(encode_ids(source.ids)).hexdigest(),
        shard_images=options.shard_images,
        engine=embedder.name,
        decoder=f"pillow {PIL.__version__}",
        scales=options.scales,
    )
    if _is_taken(out):
        if not is_build_of(partial, plan):  # else that build was killed between its last rename and its clean-up
            raise TeacherIndexError(
                f"{out} is there already, and an index is never written over; remove it to build it again, "
                "or give another --out."
            )
        remove_build(partial)
        return open_index(out)
    with sole_builder(partial):
        begin_build(partial, plan, restart=options.restart)
        build = _Build(embedder, source, partial, options)
        summaries = build.embed_missing(progress or SilentProgress())
        build.assemble(summaries, partial / "index")
        os.rename(partial / "index", out)
        remove_build(partial)
    return open_index(out)


@dataclass(frozen=True)
class _Build:
    embedder: Embedder
    source: ImageSource
    folder: Path
    options: IndexOptions

    def embed_missing(self, progress: Progress) -> list[ShardSummary]:
        """Returns the summary of every shard, after those that were not there have been written."""
        total, size = len(self.source.items), self.options.shard_images
        shards = [range(start, min(start + size, total)) for start in range(0, total, size)]
        signatures = [self._signature(places) for places in shards]
        summaries = {
            number: summary
            for number, (places, signature) in enumerate(zip(shards, signatures, strict=True))
            if (summary := self._summary(number, places, signature)) is not None
        }
        pending = [number for number in range(len(shards)) if number not in summaries]
        items = [self.source.items[place] for number in pending for place in shards[number]]
        results = load_each(items, self.embedder.preprocessing, workers=self.options.workers, hashed=True)
        with progress.task("embedding", total) as task:
            task.advance(total - len(items))
            for number in pending:
                shard = self._embed_shard(results, shards[number], task)
                write_shard(shard_path(self.folder, number), shard, signatures[number])
                summaries[number] = shard.summary
        return [summaries[number] for number in range(len(shards))]

    def assemble(self, summaries: Sequence[ShardSummary], folder: Path) -> None:
        """Writes the finished index into `folder`."""
        unreadable = {place for summary in summaries for place in summary.unreadable}
        kept = [one for place, one in enumerate(self.source.ids) if place not in unreadable]
        if not kept:
            raise TeacherIndexError(
                f"none of the {len(unreadable)} images of {self.source.root} can be read; give another folder."
            )
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        ids = encode_ids(kept)
        (folder / IDS_FILE).write_bytes(ids)
        if self.options.whitening is not None:
            (folder / WHITENING_FILE).write_bytes(encode_whitening(self.options.whitening))
        shards = (read_shard(shard_path(self.folder, number), one) for number, one in enumerate(summaries))
        written = write_rows(folder, kept, self.embedder.space.dimension, shards)
        record = IndexRecord(
            space=self.embedder.space,
            preprocessing=self.embedder.preprocessing,
            count=len(kept),
            ids_sha256=hashlib.sha256(ids).hexdigest(),
            skipped=tuple(self.source.ids[place] for place in sorted(unreadable)),
            scales=self.options.scales,
            embeddings_sha256=written.embeddings_sha256,
            images_sha256=written.images_sha256,
        )
        (folder / RECORD_FILE).write_text(record.dumps(), encoding="utf-8")

    def _embed_shard(
        self, results: Iterator[LoadedImage | UnreadableImage], places: range, task: ProgressTask
    ) -> Shard:
        rows, unreadable = [np.empty((0, self.embedder.space.dimension), np.float32)], []
        hashes: list[str] = []
        for start in range(places.start, places.stop, IMAGES_AT_ONCE):
            group = dict(zip(range(start, places.stop), islice(results, IMAGES_AT_ONCE), strict=False))
            loaded = {place: one for place, one in group.items() if isinstance(one, LoadedImage)}
            if len(loaded) < len(group) and not self.options.skip_unreadable:
                raise self._all_unreadable(chain(group.values(), results), task)
            unreadable += [place for place in group if place not in loaded]
            hashes += [one.sha256 for one in loaded.values() if one.sha256 is not None]
            if loaded:
                rows.append(self._embed({place: one.pixels for place, one in loaded.items()}))
            task.advance(len(group))
        return Shard(np.concatenate(rows), tuple(hashes), tuple(unreadable))

    def _all_unreadable(self, results: Iterable[LoadedImage | UnreadableImage], task: ProgressTask) -> ImageBatchError:
        """Returns the error that lists every unreadable image, after the rest was read for nothing else."""
        failures = []
        for one in results:
            if isinstance(one, UnreadableImage):
                failures.append((one.path, one.reason))
            task.advance(status="looking for unreadable images")
        return ImageBatchError(failures, len(self.source.items), skippable=True)

    def _embed(self, loaded: Mapping[int, Pixels]) -> Embeddings:
        rows = self.embedder.embed(list(loaded.values()))
        assert rows.shape == (len(loaded), self.embedder.space.dimension)
        unsound = unsound_rows(rows)
        if len(unsound):
            first = self.source.ids[list(loaded)[unsound[0]]]
            raise TeacherIndexError(
                f"{self.embedder.name} gives {len(unsound)} embeddings that are not finite or not of unit length, the "
                f"first for {first}; an index takes none of those: check the teacher's weights, or leave the image out."
            )
        return rows

    def _summary(self, number: int, places: range, signature: str) -> ShardSummary | None:
        path = shard_path(self.folder, number)
        summary = summarise_shard(path, len(places), self.embedder.space.dimension, signature)
        if summary is not None and summary.unreadable and not self.options.skip_unreadable:
            return None
        return summary

    def _signature(self, places: range) -> str:
        part = slice(places.start, places.stop)
        return signature_of(self.source.ids[part], self.source.items[part])


def _is_taken(out: Path) -> bool:
    """Whether something is there that must not be written over; an empty folder is nothing."""
    return out.exists() and not (out.is_dir() and not any(out.iterdir()))


def _require_whitening(embedder: Embedder, whitening: Whitening | None) -> None:
    given = None if whitening is None else whitening.sha256
    if embedder.space.whitening_sha256 != given:
        raise UsageError(
            f"`whitening` is {_short(given)}, but the embedder's space has {_short(embedder.space.whitening_sha256)}; "
            "give the one that the embedder ends in."
        )


def _short(sha256: str | None) -> str:
    return "none" if sha256 is None else sha256[:8]
