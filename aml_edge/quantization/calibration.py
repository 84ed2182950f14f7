"""`calibration_images`: the real images that choose the integers of activations, the same ones for the same seed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from aml_edge.datasets.image_source import ImageSource, image_source
from aml_edge.embedder import Embedder
from aml_edge.errors import ImageBatchError, ImageError, ImageName, QuantizationError, UsageError
from aml_edge.image_loading import EMBEDDING_BATCH, ImageItem
from aml_edge.index.images import encode_image_hashes
from aml_edge.pixels import Pixels, decode_pixels, fit_image
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.progress import Progress, SilentProgress
from aml_edge.quantization.diverse import diverse_rows
from aml_edge.quantization.image_content import ImageContent, content_of
from aml_edge.quantization_record import CalibrationRecord, Draw
from aml_edge.read_ahead import read_ahead

FEWEST_IMAGES = 16
"""Fewer do not show how far activations go."""
DEFAULT_COUNT = 128
POOL_FACTOR = 4
"""Images that clusters are made of, for each that is used: so that a cluster holds several, and embedding all of them
takes seconds, not minutes."""
LARGEST_POOL = 1024
"""Of such images, where not more are used: they are all held in memory."""
WORKERS = 2

_WHOLE = Preprocessing(1 << 20, Fit.NATIVE)
"""Leaves an image as large as it is."""


@dataclass(frozen=True)
class CalibrationOptions:
    """Which images calibrate.

    Args:
        source: a folder of images or a data set, in any layout that `image_source` reads.
        count: how many are used, where there are so many.
        seed: of the draw.
        draw: at random, or one near the centre of each cluster of the student's embeddings. With 128 images they did
            alike on Lite0, with 32 the latter did a little better (benchmarks/README.md).
    """

    source: Path
    count: int = DEFAULT_COUNT
    seed: int = 0
    draw: Draw = Draw.RANDOM

    def __post_init__(self) -> None:
        if self.count < FEWEST_IMAGES:
            raise UsageError(
                f"`calibration_count` is {self.count}; fewer than {FEWEST_IMAGES} images do not show how far "
                f"activations go: give {FEWEST_IMAGES} or more."
            )
        if self.seed < 0:
            raise UsageError(f"`calibration_seed` is {self.seed}; a seed is 0 or more.")


@dataclass(frozen=True)
class LeftOut:
    """How many images were drawn but cannot calibrate.

    Args:
        repeated: have the pixels of another.
        one_colour, noise: show nothing.
    """

    repeated: int = 0
    one_colour: int = 0
    noise: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.repeated + self.one_colour + self.noise

    def describe(self) -> str:
        """Returns it in words; none where nothing was left out."""
        parts = (
            (self.repeated, "repeat another"),
            (self.one_colour, "are of one colour"),
            (self.noise, "are noise"),
        )
        return ", ".join(f"{count} {what}" for count, what in parts if count)


@dataclass(frozen=True, eq=False)
class CalibrationSet:
    """Images that calibrate.

    Args:
        images: (H, W, 3) uint8 each, fitted as the file will be given them; in the order of their ids.
        ids: of the same images.
        record: what a manifest says of them.
        left_out: what was drawn and not used.
    """

    images: tuple[Pixels, ...]
    ids: tuple[str, ...]
    record: CalibrationRecord
    left_out: LeftOut


def calibration_source(calibrate_on: Path | None, index_images: Path | None) -> Path:
    """Returns where calibration images come from: what was named for it, else the index's own pictures.

    Args:
        calibrate_on: a folder or a data set.
        index_images: the same, of the index; an index does not say where its images lie.

    Raises:
        UsageError: neither was named.
    """
    source = calibrate_on or index_images
    if source is None:
        raise UsageError(
            "`calibrate_on` is not given, and an index does not say where its images lie; real images choose the "
            "integers of activations: name a folder or a data set with --calibrate-on DIR."
        )
    return source


def calibration_images(
    options: CalibrationOptions, embedder: Embedder, progress: Progress | None = None
) -> CalibrationSet:
    """Returns the images that calibrate; the same files and options give the same, in whatever order a folder has them.

    Images that repeat another, are of one colour or are noise do not count; others are drawn in their place, as long as
    there are any among `POOL_FACTOR` times the count.

    Args:
        options: which.
        embedder: the student, at the preprocessing of the file.
        progress: where the work is announced, one step an image.

    Raises:
        QuantizationError: fewer than `FEWEST_IMAGES` distinct pictures.
        ImageBatchError: images cannot be read; all of them are listed.
        UsageError, DatasetError, UnsafePickleError: as of `image_source`.
    """
    progress = progress or SilentProgress()
    source = image_source(options.source, progress=progress)
    pictures, left_out = _drawn(source, options, embedder.preprocessing, progress)
    if len(pictures) < FEWEST_IMAGES:
        drawn = len(pictures) + left_out.total
        without = f" ({left_out.describe()})" if left_out.total else ""
        raise QuantizationError(
            f"`calibrate_on` is {options.source}, where {len(pictures)} of {drawn} images drawn are different pictures"
            f"{without}; fewer than {FEWEST_IMAGES} do not show how far activations go: name a folder with more."
        )
    if options.draw is Draw.DIVERSE and len(pictures) > options.count:
        pictures = _diverse(pictures, embedder, options, progress)
    pictures = sorted(pictures, key=lambda picture: picture.id)
    ids = tuple(picture.id for picture in pictures)
    listed = encode_image_hashes(ids, [picture.sha256 for picture in pictures])
    record = CalibrationRecord(
        str(options.source), len(ids), options.seed, options.draw, hashlib.sha256(listed).hexdigest()
    )
    return CalibrationSet(tuple(picture.pixels for picture in pictures), ids, record, left_out)


@dataclass(frozen=True, eq=False)
class _Picture:
    """An image that was read: its id, fitted pixels, SHA-256 of its file, and what it shows."""

    id: str
    pixels: Pixels
    sha256: str
    content: ImageContent


def _drawn(
    source: ImageSource, options: CalibrationOptions, preprocessing: Preprocessing, progress: Progress
) -> tuple[list[_Picture], LeftOut]:
    """Returns different pictures in a random order: as many as are asked for, or all that clusters are made of."""
    places = sorted(range(len(source.ids)), key=source.ids.__getitem__)
    pool = max(options.count, min(POOL_FACTOR * options.count, LARGEST_POOL))
    order = [places[number] for number in np.random.default_rng(options.seed).permutation(len(places))[:pool]]
    wanted = min(options.count if options.draw is Draw.RANDOM else pool, len(order))
    pictures: dict[bytes, _Picture] = {}
    failures: list[tuple[ImageName, str]] = []
    contents: list[ImageContent] = []
    read = partial(_read, preprocessing=preprocessing)
    results = read_ahead(read, ((source.ids[place], source.items[place]) for place in order), workers=WORKERS)
    with progress.task("reading calibration images", wanted) as task, closing(results):
        for result in results:
            if isinstance(result, ImageError):
                failures += result.failures
                continue
            contents.append(result.content)
            if result.content is ImageContent.PICTURE:
                before = len(pictures)
                pictures.setdefault(hashlib.sha256(result.pixels.tobytes()).digest(), result)
                task.advance(len(pictures) - before)
            if len(pictures) == wanted:
                break
    if failures:
        raise ImageBatchError(failures, len(contents) + len(failures))
    noise, one_colour = contents.count(ImageContent.NOISE), contents.count(ImageContent.ONE_COLOUR)
    return list(pictures.values()), LeftOut(len(contents) - noise - one_colour - len(pictures), one_colour, noise)


def _read(pair: tuple[str, ImageItem], *, preprocessing: Preprocessing) -> _Picture | ImageError:
    """Returns an image, or the error that it cannot be read."""
    one, item = pair
    try:
        content = item.read()
        whole = decode_pixels(content, _WHOLE, item.box, item.name)
    except ImageError as error:
        return error
    return _Picture(one, fit_image(whole, preprocessing), hashlib.sha256(content).hexdigest(), content_of(whole))


def _diverse(
    pictures: Sequence[_Picture], embedder: Embedder, options: CalibrationOptions, progress: Progress
) -> list[_Picture]:
    """Returns those pictures that are near the centres of clusters."""
    rows = []
    with progress.task("embedding images to draw from", len(pictures)) as task:
        for start in range(0, len(pictures), EMBEDDING_BATCH):
            batch = pictures[start : start + EMBEDDING_BATCH]
            rows.append(embedder.embed([picture.pixels for picture in batch]))
            task.advance(len(batch))
    places = diverse_rows(np.concatenate(rows), options.count, seed=options.seed)
    return [pictures[place] for place in places]
