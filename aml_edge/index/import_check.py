"""Whether imported rows are what they are said to be: the teacher embeds a few images, which are compared with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from aml_edge.embedder import Embedder, Embeddings
from aml_edge.errors import UsageError
from aml_edge.image_loading import ImageItem, embed_items
from aml_edge.index.declared_space import DeclaredSpace, OtherSpace
from aml_edge.index.import_record import ImageCheck
from aml_edge.index.teacher_index import TeacherIndex
from aml_edge.progress import Progress, SilentProgress

CHECKED_IMAGES = 16
LEAST_COSINE = 0.99
"""Another decoder or another way to resize costs some thousandths; another size, whitening or network costs tenths."""
LOOKED_AT = 4096
"""Ids of which it is looked whether their images are there."""


@dataclass(frozen=True, eq=False)
class CheckingImages:
    """Images to check rows with.

    Args:
        root: folder that ids are relative to.
        embedder_of: returns the teacher as it would have made such rows.
        others: what else the rows could be, tried where they are not what was declared.
        at_most: how many images.
        least_cosine: of each image's embedding and its row.

    Raises:
        UsageError: the root is no folder, or a number cannot be one.
    """

    root: Path
    embedder_of: Callable[[DeclaredSpace], Embedder]
    others: Sequence[OtherSpace] = ()
    at_most: int = CHECKED_IMAGES
    least_cosine: float = LEAST_COSINE

    def __post_init__(self) -> None:
        if not self.root.is_dir():
            raise UsageError(f"`images` is {self.root}, which is no folder; give the one that ids are relative to.")
        if self.at_most < 1:
            raise UsageError(f"`check_images` is {self.at_most}; checking takes at least one image.")
        if not 0 < self.least_cosine <= 1:
            raise UsageError(f"`least_cosine` is {self.least_cosine}; it must be above 0 and at most 1.")


@dataclass(frozen=True, eq=False)
class CheckedSample:
    """What was looked at.

    Args:
        rows: n row numbers, ascending.
        items: their images.
        embeddings: (n, D) that the teacher gives of them now.
        cosines: (n,) of each with its row.
    """

    rows: npt.NDArray[np.intp]
    items: tuple[ImageItem, ...]
    embeddings: Embeddings
    cosines: npt.NDArray[np.float64]

    def summary(self, least_cosine: float) -> ImageCheck:
        """Returns the numbers of it."""
        return ImageCheck(len(self.rows), least_cosine, float(self.cosines.min()), float(np.median(self.cosines)))


def rows_with_images(ids: tuple[str, ...], root: Path, at_most: int) -> npt.NDArray[np.intp]:
    """Returns at most so many rows, evenly spaced, whose images are files below a folder.

    Raises:
        UsageError: none of those that were looked at is.
    """
    candidates = _evenly_spaced(np.arange(len(ids)), LOOKED_AT)
    there = [row for row in candidates if _stays_inside(ids[row]) and (root / ids[row]).is_file()]
    if not there:
        raise UsageError(
            f"`images` is {root}, where no image of {len(candidates)} ids is (the first is {ids[0]!r}); ids are paths "
            "below that folder: give the folder that they are relative to, or other ids."
        )
    return _evenly_spaced(np.array(there, np.intp), at_most)


def check_sample(
    index: TeacherIndex, declared: DeclaredSpace, images: CheckingImages, progress: Progress
) -> CheckedSample:
    """Returns what the teacher gives of a few images beside the rows of an index.

    Raises:
        UsageError: none of the images is there.
        ImageBatchError: images cannot be read; all of them are listed.
    """
    rows = rows_with_images(index.ids, images.root, images.at_most)
    items = tuple(ImageItem(images.root / index.ids[row]) for row in rows)
    embeddings = _embedded(images, declared, items, progress)
    return CheckedSample(rows, items, embeddings, _cosines(embeddings, index.checked_embeddings[rows]))


def lowest_cosine_as(other: DeclaredSpace, index: TeacherIndex, images: CheckingImages, sample: CheckedSample) -> float:
    """Returns the lowest cosine of the sample's rows with what the teacher gives if the rows are something else."""
    embeddings = _embedded(images, other, sample.items, SilentProgress())
    return float(_cosines(embeddings, index.checked_embeddings[sample.rows]).min())


def _embedded(
    images: CheckingImages, declared: DeclaredSpace, items: tuple[ImageItem, ...], progress: Progress
) -> Embeddings:
    with closing(images.embedder_of(declared)) as embedder:
        return embed_items(embedder, items, progress=progress, description="checking images")


def _cosines(left: Embeddings, right: Embeddings) -> npt.NDArray[np.float64]:
    """Returns (n,) cosines of unit rows."""
    products: npt.NDArray[np.float64] = np.einsum("nd,nd->n", left.astype(np.float64), right.astype(np.float64))
    return products  # n rows, d values


def _evenly_spaced(rows: npt.NDArray[np.intp], at_most: int) -> npt.NDArray[np.intp]:
    count = min(len(rows), at_most)
    return rows[np.arange(count) * len(rows) // count] if count else rows


def _stays_inside(one: str) -> bool:
    path = PurePosixPath(one)
    return not path.is_absolute() and ".." not in path.parts
