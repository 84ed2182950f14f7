"""Google Landmarks v2 in its published layout: clean training images, and the retrieval task.

Images lie in `train/`, `index/` and `test/`, that of id `0123456789abcdef` in `0/1/2/0123456789abcdef.jpg` of its
folder. The lists lie in the folder, in `metadata/` or `ground_truth/`, as they are published, or in that of the images:
`train_clean.csv` (landmark_id, images), `retrieval_solution_v2.1.csv` (id, images, Usage) and `index.csv` (id); without
the last, the database is what lies in `index/`. Published are 1.58 million clean training images of 81313 landmarks,
761757 index images, and test images of which those with Usage Public or Private have answers. Results are mAP@100.

Source: Weyand, Araujo, Cao, Sim, "Google Landmarks Dataset v2", CVPR 2020, and its published files; Yokoo, Ozaki,
Simo-Serra, Iizuka, "Two-stage discriminative re-ranking for large-scale landmark retrieval", CVPRW 2020, for the clean
training images.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from enum import StrEnum
from pathlib import Path

from aml_edge.datasets.file_items import FileItems
from aml_edge.datasets.image_classes import labels_of_classes
from aml_edge.datasets.image_split import ImageSplit
from aml_edge.datasets.labelled_images import LabelledImages, NamedSplit
from aml_edge.datasets.metadata import require_distinct
from aml_edge.datasets.retrieval_dataset import RetrievalDataset
from aml_edge.datasets.text_records import number_of, records_of
from aml_edge.errors import DatasetError
from aml_edge.ground_truth import QueryGroundTruth
from aml_edge.image_loading import ImageItem
from aml_edge.protocol import Protocol

NAME = "google-landmarks-v2"
CLEAN, SOLUTION, INDEX = "train_clean.csv", "retrieval_solution_v2.1.csv", "index.csv"
_ID = re.compile("[0-9A-Za-z]{16}")
_IGNORED = "Ignored"


class Usage(StrEnum):
    """The two parts of the retrieval task's queries, which are published apart."""

    PUBLIC = "Public"
    PRIVATE = "Private"


def landmark_files(root: Path, split: ImageSplit) -> tuple[Path, ...]:
    """Returns the list of a split in a folder that has a folder of its images; none where it has none."""
    if split is ImageSplit.TEST:
        found = _list(root, SOLUTION, "test")
    else:
        found = _list(root, CLEAN, "train")
    return () if found is None or not (root / split).is_dir() else (found,)


def read_landmark_training(root: Path) -> tuple[NamedSplit, ...]:
    """Returns the clean training images as one split, clustered by landmark; whether they are there is not looked at.

    Raises:
        DatasetError: the list is missing, cannot be read, or names an image twice.
    """
    path = _required(root, CLEAN, "train")
    ids: list[str] = []
    landmarks: list[int] = []
    for number, (landmark, images) in records_of(path, ("landmark_id", "images")):
        names = images.split()
        ids += [_image_id("train", name, f"{path}: line {number}") for name in names]
        landmarks += [number_of(landmark, f"{path}: line {number}: landmark_id")] * len(names)
    if not ids:
        raise DatasetError(f"{path} names no images; get it again.")
    found = tuple(ids)
    require_distinct(found, str(path))
    return (NamedSplit("train", LabelledImages(found, FileItems(root, found), labels_of_classes(landmarks))),)


def read_landmark_test(root: Path, usages: Collection[Usage] = tuple(Usage)) -> RetrievalDataset:
    """Returns the retrieval task; whether its images are there is not looked at.

    Args:
        root: the folder.
        usages: of the queries to take; ignored ones are never taken.

    Raises:
        DatasetError: a list is missing, cannot be read, or contradicts another.
    """
    path = _required(root, SOLUTION, "test")
    ids = _index_ids(root)
    rows = {one: row for row, one in enumerate(ids)}
    queries: dict[str, QueryGroundTruth] = {}
    for number, (query, images, usage) in records_of(path, ("id", "images", "Usage")):
        where = f"{path}: line {number}"
        if usage not in (*Usage, _IGNORED):
            raise DatasetError(f"{where} has the Usage {usage[:100]!a}; it is Public, Private or Ignored.")
        name = _image_id("test", query, where)
        if name in queries:
            raise DatasetError(f"{where} has an image {query!a} that was there before; each query is listed once.")
        if usage in usages:
            queries[name] = _ground_truth(images, rows, where)
    if not queries:
        raise DatasetError(f"{path} has no query with the Usage {' or '.join(usages)}; get it again.")
    return RetrievalDataset(
        name=NAME,
        root=root,
        query_items=tuple(ImageItem(root / one) for one in queries),
        database_items=FileItems(root, ids),
        database_ids=ids,
        ground_truth=tuple(queries.values()),
        protocol=Protocol.LANDMARKS,
    )


def _index_ids(root: Path) -> tuple[str, ...]:
    path = _list(root, INDEX, "index")
    if path is None:
        ids = sorted(_image_id("index", name, str(root / "index")) for name in _names_below(root / "index"))
        if not ids:
            raise DatasetError(f"{root} holds neither {INDEX} nor images in index/; get the index images.")
        return tuple(ids)
    listed = tuple(_image_id("index", one, f"{path}: line {number}") for number, (one,) in records_of(path, ("id",)))
    require_distinct(listed, str(path))
    return listed


def _names_below(folder: Path) -> Iterator[str]:
    """Yields the ids of the JPEG files below a folder, linked folders not entered."""
    for _, _, files in os.walk(folder):
        yield from (name.removesuffix(".jpg") for name in files if name.endswith(".jpg") and not name.startswith("."))


def _ground_truth(images: str, rows: dict[str, int], where: str) -> QueryGroundTruth:
    found = []
    for name in images.split():
        row = rows.get(_image_id("index", name, where))
        if row is None:
            raise DatasetError(f"{where} names {name!a}, which is no index image; get the lists of one version.")
        found.append(row)
    try:
        return QueryGroundTruth(tuple(found), (), ())
    except DatasetError as problem:
        raise DatasetError(f"{where}: {problem}") from None


def _image_id(folder: str, name: str, where: str) -> str:
    """Returns where an image lies, relative to the root."""
    if not _ID.fullmatch(name):
        raise DatasetError(f"{where} names an image {name[:100]!a}; an id has 16 letters and digits.")
    return f"{folder}/{name[0]}/{name[1]}/{name[2]}/{name}.jpg"


def _list(root: Path, name: str, images: str) -> Path | None:
    """Returns the first place where a list lies, or None."""
    places = (root / folder / name for folder in ("", "metadata", "ground_truth", images))
    return next((path for path in places if path.is_file()), None)


def _required(root: Path, name: str, images: str) -> Path:
    path = _list(root, name, images)
    if path is None:
        raise DatasetError(f"{root} does not hold {name}; get it from where Google Landmarks v2 is published.")
    return path
