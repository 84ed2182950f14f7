"""Data sets in the layout of revisited Oxford and Paris: `gnd_NAME.pkl` beside `jpg/`.

The pickle holds `{imlist, qimlist, gnd}`: names of database and query images without folder and suffix, and for each
query `{bbx, easy, hard, junk}`, a box and rows of `imlist`.

Source: Radenović, Iscen, Tolias, Avrithis, Chum, "Revisiting Oxford and Paris", CVPR 2018, and its published files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aml_edge.datasets.image_files import require_files, require_relative_name
from aml_edge.errors import DatasetError
from aml_edge.image_loading import ImageItem
from aml_edge.preprocessing import Box
from aml_edge.ranking import QueryGroundTruth
from aml_edge.safe_pickle import read_pickle, values_of

_LABELS = ("easy", "hard", "junk")


@dataclass(frozen=True)
class RevisitedDataset:
    """Queries, a database, and which database images show what a query shows.

    Args:
        name: e.g. ``"roxford5k"``.
        root: the folder.
        query_items: N query images, each with its box.
        database_items: M database images.
        database_ids: ``"jpg/NAME.jpg"``, relative to the root, in the same order.
        ground_truth: one a query, in rows of the database.
    """

    name: str
    root: Path
    query_items: tuple[ImageItem, ...]
    database_items: tuple[ImageItem, ...]
    database_ids: tuple[str, ...]
    ground_truth: tuple[QueryGroundTruth, ...]


def ground_truth_files(root: Path) -> tuple[Path, ...]:
    """Returns the files `gnd_NAME.pkl` of a folder, sorted; empty where it is no such data set."""
    return tuple(sorted(path for path in root.glob("gnd_*.pkl") if path.is_file()))


def load_revisited(root: Path) -> RevisitedDataset:
    """Returns the data set in a folder.

    Raises:
        DatasetError: the folder is laid out otherwise, the ground truth contradicts itself, or images are missing.
        UnsafePickleError: the ground truth wants a type that it does not need.
    """
    files = ground_truth_files(root)
    if len(files) != 1:
        raise DatasetError(
            f"{root} holds {len(files)} files gnd_*.pkl; a data set in the revisited layout has one, beside jpg/."
        )
    dataset = read_revisited(files[0])
    items = (*dataset.query_items, *dataset.database_items)
    require_files(root, [item.path for item in items])
    return dataset


def read_revisited(path: Path) -> RevisitedDataset:
    """Returns the data set that a ground truth file describes; whether its images are there is not looked at.

    Raises:
        DatasetError, UnsafePickleError: as `load_revisited`.
    """
    content = read_pickle(path)
    if not isinstance(content, Mapping) or not {"imlist", "qimlist", "gnd"} <= set(content):
        raise DatasetError(f"{path} does not hold imlist, qimlist and gnd; it is no ground truth of this layout.")
    names = _names(content["imlist"], "imlist", path)
    queries = _names(content["qimlist"], "qimlist", path)
    records = values_of(content["gnd"])
    if records is None or len(records) != len(queries):
        length = "no list" if records is None else f"{len(records)} entries"
        raise DatasetError(f"{path}: gnd has {length}, qimlist {len(queries)}; there must be one for each query.")
    if len(set(names)) < len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise DatasetError(f"{path}: imlist names {twice!r} twice; each database image is listed once.")
    root = path.parent
    ids = tuple(_image_id(name) for name in names)
    boxes, truths = [], []
    for place, record in enumerate(records):
        where = f"{path}, query {place} ({queries[place]})"
        if not isinstance(record, Mapping) or not {"bbx", *_LABELS} <= set(record):
            raise DatasetError(f"{where}: it does not have bbx, easy, hard and junk; get the revisited ground truth.")
        boxes.append(_box(record["bbx"], where))
        truths.append(_ground_truth(record, len(names), where))
    return RevisitedDataset(
        name=path.stem.removeprefix("gnd_"),
        root=root,
        query_items=tuple(ImageItem(root / _image_id(name), box) for name, box in zip(queries, boxes, strict=True)),
        database_items=tuple(ImageItem(root / one) for one in ids),
        database_ids=ids,
        ground_truth=tuple(truths),
    )


def _image_id(name: str) -> str:
    return f"jpg/{name}.jpg"


def _names(value: object, field: str, path: Path) -> tuple[str, ...]:
    names = values_of(value)
    if not names:
        raise DatasetError(f"{path}: {field} is empty or no list; it must name the images.")
    return tuple(require_relative_name(name, f"{path}: {field}") for name in names)


def _box(value: object, where: str) -> Box:
    edges = values_of(value)
    if (
        edges is None
        or len(edges) != 4
        or not all(isinstance(edge, int | float) and math.isfinite(edge) for edge in edges)
    ):
        raise DatasetError(f"{where}: bbx is not of four finite numbers x0, y0, x1, y1.")
    left, top, right, bottom = (float(edge) for edge in edges if isinstance(edge, int | float))
    if left >= right or top >= bottom:
        raise DatasetError(f"{where}: bbx ({left:g}, {top:g}, {right:g}, {bottom:g}) holds nothing.")
    return (left, top, right, bottom)


def _ground_truth(record: Mapping[object, object], database_size: int, where: str) -> QueryGroundTruth:
    easy, hard, junk = (_rows(record[label], label, database_size, where) for label in _LABELS)
    try:
        return QueryGroundTruth(easy, hard, junk)
    except DatasetError as problem:
        raise DatasetError(f"{where}: {problem}") from None


def _rows(value: object, label: str, database_size: int, where: str) -> tuple[int, ...]:
    rows = values_of(value)
    if rows is None:
        raise DatasetError(f"{where}: {label} is no list of rows.")
    whole = tuple(row for row in rows if isinstance(row, int) and not isinstance(row, bool))
    if len(whole) < len(rows):
        raise DatasetError(f"{where}: {label} holds something else than whole numbers.")
    outside = [row for row in whole if not 0 <= row < database_size]
    if outside:
        raise DatasetError(f"{where}: {label} names row {outside[0]}; imlist has {database_size}.")
    return whole
