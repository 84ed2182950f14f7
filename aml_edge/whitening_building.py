"""`build_whitening`: a whitening learned from the embeddings of training images, with the record of what it follows.

The embeddings are a teacher's, which its index holds already, or a student's, made here: the teacher's whitening
follows both sides of asymmetric testing, the student's own both sides of symmetric testing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aml_edge.datasets.image_source import image_source
from aml_edge.datasets.image_split import ImageSplit
from aml_edge.datasets.layouts import find_layout
from aml_edge.datasets.sfm import load_sfm, sfm_files
from aml_edge.embedder import Embedder, Embeddings
from aml_edge.errors import DatasetError, UsageError
from aml_edge.image_loading import ImageItem, embed_items
from aml_edge.index import TeacherIndex
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.networks.whitening_file import WhiteningCheckpoint
from aml_edge.networks.whitening_learning import LearnedWhitening, whitening_of_pairs, whitening_of_rows
from aml_edge.networks.whitening_record import WhiteningKind, WhiteningRecord
from aml_edge.progress import Progress
from aml_edge.space import EmbeddingSpace, require_same_space


@dataclass(frozen=True)
class WhiteningOptions:
    """How a whitening is learned.

    Args:
        kind: from matching pairs, or by PCA.
        dimension: D_out; all of the embeddings' where None.
        regularisation: as `aml_edge.networks.whitening_learning.whitening_of_pairs` takes it.

    Raises:
        UsageError: the kind does not take the regularisation.
    """

    kind: WhiteningKind = WhiteningKind.LEARNED
    dimension: int | None = None
    regularisation: float = 0.0

    def __post_init__(self) -> None:
        if self.kind is WhiteningKind.PCA and self.regularisation:
            raise UsageError(
                f"`regularisation` is {self.regularisation} and `kind` 'pca'; it is for the covariance of pairs: "
                "leave it out, and ask for a smaller `dimension` instead."
            )


@dataclass(frozen=True)
class WhiteningImages:
    """Images to learn a whitening from.

    Args:
        dataset: name of the data set.
        ids: N paths relative to its folder.
        items: the same images.
        query_rows, positive_rows: which of them match, pair by pair; none where the data set does not say.
    """

    dataset: str
    ids: tuple[str, ...]
    items: Sequence[ImageItem]
    query_rows: tuple[int, ...] = ()
    positive_rows: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class NetworkRows:
    """What a network gave of images.

    Args:
        network, weights_sha256: the network.
        space: the space of the rows, without whitening.
        rows: (N, D) float32, rows L2-normalised.
    """

    network: str
    weights_sha256: str
    space: EmbeddingSpace
    rows: Embeddings


def whitening_images(root: Path, kind: WhiteningKind) -> WhiteningImages:
    """Returns the images of a folder: the training split of the SfM layout, or, for PCA, of any other folder.

    Of a data set with images to train on and to test on those to train on are taken.

    Raises:
        DatasetError: a learned whitening is asked for and the folder does not say which images match, or its data set
            is broken.
        UnsafePickleError: the metadata of its data set wants a type that it does not need.
    """
    if sfm_files(root):
        split = load_sfm(root)
        return WhiteningImages(split.name, split.ids, split.items, split.query_rows, split.positive_rows)
    layout = find_layout(root)
    trains = layout is not None and ImageSplit.TRAIN in layout.splits(root)
    source = image_source(root, ImageSplit.TRAIN if trains else None)
    if kind is WhiteningKind.LEARNED:
        raise DatasetError(
            f"{root} does not say which of its images match; a learned whitening takes a data set in the SfM layout "
            "(ims/ beside NAME.pkl): give one, or learn one of kind 'pca', which needs no labels."
        )
    return WhiteningImages(root.resolve().name or "images", source.ids, source.items)


def rows_of_index(index: TeacherIndex, ids: Sequence[str]) -> NetworkRows:
    """Returns what the teacher gave of images, found by id; rows of others are left alone.

    Raises:
        TeacherIndexError: an image is not in the index, or its embedding there cannot be one.
        UsageError: the index is whitened.
    """
    if index.space.whitening_sha256 is not None:
        raise UsageError(
            f"the index {index.path} is whitened already ({index.space.whitening_sha256[:8]}); "
            "a whitening is learned on an index that was built without one: `aml-edge index build`."
        )
    rows = index.checked_embeddings[index.rows_of(ids)]
    return NetworkRows(index.space.teacher, index.space.weights_sha256, index.space, rows)


def rows_of_student(
    student: StudentCheckpoint, embedder: Embedder, items: Sequence[ImageItem], *, progress: Progress | None = None
) -> NetworkRows:
    """Returns what a student gives of images.

    Args:
        student: whose whitening it will be.
        embedder: the student, at the size and the scales at which it will be tested, without whitening.
        items: the images.
        progress: where the work is announced, one step an image.

    Raises:
        ImageBatchError: images cannot be read; all of them are listed.
        SpaceMismatchError: the embedder is another network, or whitened.
    """
    require_same_space(embedder.space, student.space, left_name=embedder.name, right_name=f"student '{student.name}'")
    rows = embed_items(embedder, items, progress=progress, description="embedding")
    return NetworkRows(student.name, student.weights_sha256, student.space, rows)


def build_whitening(
    images: WhiteningImages,
    embedded: NetworkRows,
    options: WhiteningOptions | None = None,
    *,
    progress: Progress | None = None,
) -> WhiteningCheckpoint:
    """Returns a whitening of a network's rows, with the record of both.

    Args:
        images: what was embedded.
        embedded: the rows, in the order of the images.
        options: how to learn it.
        progress: where the work is announced.

    Raises:
        UsageError: pairs, rows or dimension cannot be used; `aml_edge.networks.whitening_learning` says when.
    """
    options = options or WhiteningOptions()
    pairs = len(images.query_rows) if options.kind is WhiteningKind.LEARNED else None
    learned = _learn(images, embedded.rows, options, progress)
    whitening = learned.layer
    record = WhiteningRecord(
        whitening_sha256=whitening.sha256,
        kind=options.kind,
        network=embedded.network,
        weights_sha256=embedded.weights_sha256,
        space=embedded.space,
        dataset=images.dataset,
        rows=len(embedded.rows),
        pairs=pairs,
        regularisation=learned.regularisation,
    )
    return WhiteningCheckpoint(whitening, record)


def _learn(
    images: WhiteningImages, rows: Embeddings, options: WhiteningOptions, progress: Progress | None
) -> LearnedWhitening:
    if options.kind is WhiteningKind.PCA:
        return whitening_of_rows(rows, options.dimension, progress=progress)
    return whitening_of_pairs(
        rows,
        images.query_rows,
        images.positive_rows,
        dimension=options.dimension,
        regularisation=options.regularisation,
        progress=progress,
    )
