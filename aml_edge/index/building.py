"""`build_index`: a teacher embeds a folder of images, in shards, and a build that was killed goes on to the same bytes.

Shards lie in `OUT.partial` (`aml_edge.index.shards`); the finished index appears as `OUT` by one rename. A shard has
the same bytes whoever embeds it and when (`aml_edge.index.shard_embedding`), so it makes no difference where a build
was interrupted. That needs an embedder that gives the same rows for the same groups of images: PyTorch does on one kind
of processor, for one number of threads. The plan therefore records what embeds and what decodes, and a build under
another plan is refused.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aml_edge.datasets.image_source import ImageSource
from aml_edge.embedder import Embedder
from aml_edge.errors import TeacherIndexError, UsageError
from aml_edge.index.record import RECORD_FILE, IndexRecord
from aml_edge.index.shard_embedding import DECODER, READING_THREADS, InThisProcess, ShardEngine, ShardImages, ShardJob
from aml_edge.index.shards import (
    BuildPlan,
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
from aml_edge.progress import Progress, SilentProgress
from aml_edge.scales import SINGLE_SCALE, Scales


@dataclass(frozen=True)
class IndexOptions:
    """How an index is built.

    Args:
        whitening: that of the embedder's space, kept with the index since queries need it.
        scales: at which the embedder sees each image, kept with the index since queries are best embedded alike.
        skip_unreadable: leave out images that cannot be read, and record them.
        restart: throw away an unfinished build instead of going on with it.
        workers: threads that read ahead where this process embeds.
        shard_images: images of a shard: what a killed build loses at most.
        finishing: given the whole index before it gets its name; what this adds beside the rows is there with them.
    """

    whitening: Whitening | None = None
    scales: Scales = SINGLE_SCALE
    skip_unreadable: bool = False
    restart: bool = False
    workers: int = READING_THREADS
    shard_images: int = 256
    finishing: Callable[[TeacherIndex], object] | None = None

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
    """Returns the index of a teacher over images, embedded in this process; else as `build_index_with`.

    Args:
        embedder: the teacher, its whitening included; its name says what computes, with version and threads.
        source, out, options, progress: as there.

    Raises:
        ImageBatchError, TeacherIndexError, DownloadError, UsageError: as there.
    """
    options = options or IndexOptions()
    return build_index_with(InThisProcess(embedder, options.workers), source, out, options, progress=progress)


def build_index_with(
    engine: ShardEngine,
    source: ImageSource,
    out: Path,
    options: IndexOptions,
    *,
    progress: Progress | None = None,
) -> TeacherIndex:
    """Returns the index of a teacher over images, after it was written; an unfinished one of the same plan goes on.

    Args:
        engine: what embeds with the teacher, its whitening included.
        source: the images.
        out: the index's folder, which must not hold anything yet.
        options: how to build it.
        progress: where the work is announced, one step an image.

    Raises:
        ImageBatchError: images cannot be read and are not to be skipped; all of them are listed.
        TeacherIndexError: `out` is taken, an unfinished build has another plan, or an embedding is not finite
            or not of unit length.
        DownloadError: what holds images cannot be reached; the same call goes on.
        EngineError: the engine cannot run, or broke off; the same call goes on.
        UsageError: the whitening is not that of the embedder's space.
    """
    partial = Path(f"{out}.partial")
    _require_whitening(engine, options.whitening)
    plan = BuildPlan(
        space=engine.space,
        preprocessing=engine.preprocessing,
        images=len(source.ids),
        ids_sha256=hashlib.sha256(encode_ids(source.ids)).hexdigest(),
        shard_images=options.shard_images,
        engine=engine.name,
        decoder=DECODER,
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
        build = _Build(engine, source, partial, options)
        summaries = build.embed_missing(progress or SilentProgress())
        build.assemble(summaries, partial / "index")
        if options.finishing is not None:
            options.finishing(open_index(partial / "index"))
        os.rename(partial / "index", out)
        remove_build(partial)
    return open_index(out)


@dataclass(frozen=True)
class _Build:
    engine: ShardEngine
    source: ImageSource
    folder: Path
    options: IndexOptions

    def embed_missing(self, progress: Progress) -> list[ShardSummary]:
        """Returns the summary of every shard, after those that were not there have been written."""
        shards, total = self._shards(), len(self.source.items)
        signatures = [signature_of(shard.ids, shard.items) for shard in shards]
        summaries = {
            shard.number: summary
            for shard, signature in zip(shards, signatures, strict=True)
            if (summary := self._summary(shard, signature)) is not None
        }
        missing = tuple(shard for shard in shards if shard.number not in summaries)
        job = ShardJob(missing, total, self.options.skip_unreadable)
        with progress.task("embedding", total) as task:
            task.advance(total - sum(len(shard.items) for shard in missing))
            for number, shard in self.engine.embed(job, task):
                write_shard(shard_path(self.folder, number), shard, signatures[number])
                summaries[number] = shard.summary
        return [summaries[shard.number] for shard in shards]

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
        written = write_rows(folder, kept, self.engine.space.dimension, shards)
        record = IndexRecord(
            space=self.engine.space,
            preprocessing=self.engine.preprocessing,
            count=len(kept),
            ids_sha256=hashlib.sha256(ids).hexdigest(),
            skipped=tuple(self.source.ids[place] for place in sorted(unreadable)),
            scales=self.options.scales,
            embeddings_sha256=written.embeddings_sha256,
            images_sha256=written.images_sha256,
        )
        (folder / RECORD_FILE).write_text(record.dumps(), encoding="utf-8")

    def _shards(self) -> list[ShardImages]:
        size = self.options.shard_images
        return [
            ShardImages(number, part.start, tuple(self.source.ids[part]), tuple(self.source.items[part]))
            for number, part in enumerate(slice(start, start + size) for start in range(0, len(self.source.ids), size))
        ]

    def _summary(self, shard: ShardImages, signature: str) -> ShardSummary | None:
        path = shard_path(self.folder, shard.number)
        summary = summarise_shard(path, len(shard.items), self.engine.space.dimension, signature)
        if summary is not None and summary.unreadable and not self.options.skip_unreadable:
            return None
        return summary


def _is_taken(out: Path) -> bool:
    """Whether something is there that must not be written over; an empty folder is nothing."""
    return out.exists() and not (out.is_dir() and not any(out.iterdir()))


def _require_whitening(engine: ShardEngine, whitening: Whitening | None) -> None:
    given = None if whitening is None else whitening.sha256
    if engine.space.whitening_sha256 != given:
        raise UsageError(
            f"`whitening` is {_short(given)}, but the embedder's space has {_short(engine.space.whitening_sha256)}; "
            "give the one that the embedder ends in."
        )


def _short(sha256: str | None) -> str:
    return "none" if sha256 is None else sha256[:8]
