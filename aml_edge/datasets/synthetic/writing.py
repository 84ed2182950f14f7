"""A retrieval data set that needs no download: procedural landmarks, written in the two published layouts.

`OUT/train/NAME` is laid out as retrieval-SfM, `OUT/test/NAME` as revisited Oxford (`aml_edge.datasets.sfm`,
`aml_edge.datasets.revisited`). The same spec gives the same bytes on any number of workers, and after an interruption,
under the same versions of NumPy and Pillow. Each image is written whole; the metadata comes last, so what is unfinished
cannot be mistaken for a data set.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image

from aml_edge.datasets.synthetic.claim import claim, require_same_tools
from aml_edge.datasets.synthetic.landmark import draw_landmark
from aml_edge.datasets.synthetic.plan import (
    Box,
    Role,
    Stream,
    Subject,
    lots,
    revisited_metadata,
    revisited_root,
    sfm_metadata,
    sfm_root,
    subjects,
)
from aml_edge.datasets.synthetic.render import landmark_box, picture_size, render
from aml_edge.datasets.synthetic.scenery import Scenery, make_scenery
from aml_edge.datasets.synthetic.sheet import contact_sheet
from aml_edge.datasets.synthetic.spec import SyntheticSpec
from aml_edge.datasets.synthetic.views import Difficulty, decide_view
from aml_edge.errors import DatasetError, UsageError
from aml_edge.files import written_atomically
from aml_edge.progress import Progress, SilentProgress

SHEET_FILE = "contact_sheet.png"

PICKLE_PROTOCOL = 2
"""That of the published files, so that the published code reads ours."""

TEXTURE_SCALE = 1.5
"""Longer side of a landmark's texture, in longest sides of an image."""


@dataclass(frozen=True)
class SyntheticReport:
    """What was written.

    Args:
        root: the folder of both data sets.
        train_root, test_root: the folder of each.
        contact_sheet: a picture of some of the images.
        spec: what they were made of.
        train_images, val_images, queries, database_images: how many there are.
        new_images: how many of them were not there before.
        seconds: how long it took.
    """

    root: Path
    train_root: Path
    test_root: Path
    contact_sheet: Path
    spec: SyntheticSpec
    train_images: int
    val_images: int
    queries: int
    database_images: int
    new_images: int
    seconds: float


def write_synthetic(
    out: Path, spec: SyntheticSpec, *, progress: Progress | None = None, workers: int = 1
) -> SyntheticReport:
    """Writes both data sets below `out`; what is there already of the same spec is kept.

    Args:
        out: an absent or empty folder, or one that an earlier call with the same spec has left.
        spec: what to write.
        progress: where to tell that it goes on.
        workers: processes; where there are several, they import the caller's script, which must bear it.

    Raises:
        UsageError: the folder holds something else, or there is no worker.
        DatasetError: a worker was ended from outside.
    """
    if workers < 1:
        raise UsageError(f"`workers` is {workers}; drawing takes at least one.")
    started = time.monotonic()
    planned = subjects(spec)
    sheet = out / SHEET_FILE
    train_pickle = out / sfm_root(spec) / f"{spec.name}.pkl"
    test_pickle = out / revisited_root(spec) / f"gnd_{spec.name}.pkl"
    claim(out, spec)
    missing = sum(not (out / shot.path).is_file() for subject in planned for shot in subject.shots)
    if missing or not (sheet.is_file() and train_pickle.is_file() and test_pickle.is_file()):
        require_same_tools(out)
        boxes = _draw(out, spec, planned, workers, progress or SilentProgress())
        with written_atomically(sheet) as partial:
            contact_sheet(out, planned).save(partial, compress_level=1)
        _write_pickle(train_pickle, sfm_metadata(spec, planned))
        _write_pickle(test_pickle, revisited_metadata(planned, boxes))
    return SyntheticReport(
        root=out,
        train_root=train_pickle.parent,
        test_root=test_pickle.parent,
        contact_sheet=sheet,
        spec=spec,
        train_images=spec.landmarks_train * spec.views_train,
        val_images=spec.landmarks_val * spec.views_train,
        queries=spec.landmarks_test * spec.queries,
        database_images=spec.landmarks_test * (spec.easy + spec.hard + spec.junk) + spec.distractors,
        new_images=missing,
        seconds=time.monotonic() - started,
    )


def draw_subject(out: Path, spec: SyntheticSpec, subject: Subject, scenery: Scenery) -> list[Box]:
    """Writes the images of a landmark that are missing, and returns the box of each of its queries."""
    boxes: list[Box] = []
    landmark = None
    for shot in subject.shots:
        path = out / shot.path
        asked = subject.role is Role.TEST and shot.difficulty is Difficulty.QUERY
        missing = not path.is_file()
        if not asked and not missing:
            continue
        if landmark is None:
            looks = lots(spec, subject.role, subject.number, Stream.LOOKS)
            landmark = draw_landmark(looks, scenery.patterns, round(TEXTURE_SCALE * spec.image_side_px))
            for folder in {shot.path.parent for shot in subject.shots}:
                (out / folder).mkdir(parents=True, exist_ok=True)
        rng = lots(spec, subject.role, subject.number, Stream.VIEWS + shot.view)
        view = decide_view(rng, shot.difficulty, upright=landmark.height > landmark.width)
        size = picture_size(spec.image_side_px, portrait=view.portrait)
        if asked:
            boxes.append(landmark_box(view, landmark, size))
        if missing:
            _write_jpeg(render(rng, view, landmark, scenery, size), path, view.quality)
    return boxes


def scenery_of(spec: SyntheticSpec) -> Scenery:
    """Returns the scenery that all images of a data set share; kept for the next call with the same seed and side."""
    return _scenery(spec.seed, spec.image_side_px)


@lru_cache(maxsize=1)
def _scenery(seed: int, image_side_px: int) -> Scenery:
    return make_scenery(lots(SyntheticSpec(seed=seed), Role.SCENERY, 0, Stream.LOOKS), image_side_px)


def _draw(
    out: Path, spec: SyntheticSpec, planned: Sequence[Subject], workers: int, progress: Progress
) -> list[list[Box]]:
    boxes: list[list[Box]] = []
    with progress.task("drawing", sum(len(subject.shots) for subject in planned)) as task:
        for subject, found in zip(planned, _boxes(out, spec, planned, workers), strict=True):
            boxes.append(found)
            task.advance(len(subject.shots))
    return boxes


def _boxes(out: Path, spec: SyntheticSpec, planned: Sequence[Subject], workers: int) -> Iterator[list[Box]]:
    """Draws every landmark, in this process or in several, and yields their boxes in order."""
    if workers == 1:
        scenery = scenery_of(spec)
        yield from (draw_subject(out, spec, subject, scenery) for subject in planned)
        return
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_end_with_parent)
    try:
        for future in [pool.submit(_draw_in_worker, out, spec, subject) for subject in planned]:
            yield future.result()
    except BrokenProcessPool:
        raise DatasetError(
            f"a process that drew images for {out} was ended from outside, perhaps for want of memory; "
            "run the same again: what is written is kept."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _draw_in_worker(out: Path, spec: SyntheticSpec, subject: Subject) -> list[Box]:
    return draw_subject(out, spec, subject, scenery_of(spec))


def _end_with_parent() -> None:
    """Sees to it that a worker does not outlive a parent that is killed."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _write_jpeg(image: Image.Image, path: Path, quality: int) -> None:
    """Does what `written_atomically` does, in the few calls of the system that an image should take."""
    content = io.BytesIO()
    image.save(content, "JPEG", quality=quality)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        partial.write_bytes(content.getbuffer())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def _write_pickle(path: Path, metadata: object) -> None:
    with written_atomically(path) as partial:
        partial.write_bytes(pickle.dumps(metadata, protocol=PICKLE_PROTOCOL))
