"""Why imported rows are not what the teacher gives of their images, as far as that can be found out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from aml_edge.embedder import Embeddings
from aml_edge.errors import ForeignIndexError
from aml_edge.index.images import listed
from aml_edge.index.import_check import CheckedSample, CheckingImages, lowest_cosine_as
from aml_edge.index.teacher_index import TeacherIndex
from aml_edge.progress import Progress
from aml_edge.search import Rows

BLOCK_ROWS = 8192
TRIED_IMAGES = 4
"""With which it is tried what else the rows could be."""


def require_agreement(index: TeacherIndex, images: CheckingImages, sample: CheckedSample, progress: Progress) -> None:
    """Raises `ForeignIndexError` that says the likely cause, unless each image of the sample agrees with its row."""
    check = sample.summary(images.least_cosine)
    if check.lowest_cosine >= images.least_cosine:
        return
    low = np.flatnonzero(sample.cosines < images.least_cosine)
    names = listed([index.ids[row] for row in sample.rows[low]])
    what = (
        f"{len(low)} of {check.images} images have rows that are not what the teacher gives of them ({names}): lowest "
        f"cosine {check.lowest_cosine:.4f}, median {check.median_cosine:.4f}, and {images.least_cosine:g} is asked for"
    )
    raise ForeignIndexError(f"{what}; {_cause(index, images, sample, low, progress)}")


def _cause(
    index: TeacherIndex,
    images: CheckingImages,
    sample: CheckedSample,
    low: npt.NDArray[np.intp],
    progress: Progress,
) -> str:
    nearest, cosines = nearest_rows(sample.embeddings[low], index.checked_embeddings, progress)
    elsewhere = np.flatnonzero((cosines >= images.least_cosine) & (nearest != sample.rows[low]))
    if 2 * len(elsewhere) > len(low):
        first = elsewhere[0]
        return (
            f"{len(elsewhere)} of them are there under other ids, as that of {index.ids[sample.rows[low[first]]]} is "
            f"under {index.ids[nearest[first]]}: the ids are in another order than the rows; give them in the rows' "
            "order."
        )
    if 2 * len(low) <= len(sample.rows):
        return (
            "the others agree, so the teacher is right and these images are other ones than were embedded: give the "
            "images that the index was made from."
        )
    return _other_space(index, images, sample, progress)


def _other_space(index: TeacherIndex, images: CheckingImages, sample: CheckedSample, progress: Progress) -> str:
    few = replace(
        sample,
        rows=sample.rows[:TRIED_IMAGES],
        items=sample.items[:TRIED_IMAGES],
        embeddings=sample.embeddings[:TRIED_IMAGES],
        cosines=sample.cosines[:TRIED_IMAGES],
    )
    best, difference = float(few.cosines.min()), None
    with progress.task("trying others", len(images.others)) as task:
        for other in images.others:
            lowest = lowest_cosine_as(other.declared, index, images, few)
            if lowest >= images.least_cosine:
                return f"with `{other.difference}` their lowest cosine is {lowest:.4f}: import them so."
            if lowest > best:
                best, difference = lowest, other.difference
            task.advance(status=f"{other.difference}: {lowest:.4f}")
    nearest = "" if difference is None else f", the nearest being `{difference}` with {best:.4f}"
    return (
        f"no other size, fit, scales or whitening of this teacher gives them{nearest}: other weights made them, "
        "another preprocessing, or a whitening of your own; name the teacher that did, or the whitening with "
        "--whitening, or lower --least-cosine where you know why."
    )


def nearest_rows(
    embeddings: Embeddings, rows: Rows, progress: Progress
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Returns for each of (n, D) embeddings which of all rows is nearest, (n,), and its cosine, (n,)."""
    nearest = np.zeros(len(embeddings), np.intp)
    cosines = np.full(len(embeddings), -np.inf, np.float32)
    with progress.task("looking for them in other rows", len(rows)) as task:
        for start in range(0, len(rows), BLOCK_ROWS):
            block = rows[start : start + BLOCK_ROWS]
            similarities = embeddings @ block.T  # (n, block)
            found = similarities.argmax(axis=1)
            highest = similarities[np.arange(len(found)), found]
            nearer = highest > cosines
            nearest[nearer], cosines[nearer] = start + found[nearer], highest[nearer]
            task.advance(len(block))
    return nearest, cosines
