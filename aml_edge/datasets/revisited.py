"""Data sets in the layout of revisited Oxford and Paris: `gnd_NAME.pkl` beside `jpg/`.

The pickle holds `{imlist, qimlist, gnd}`: names of database and query images without folder and suffix, and for each
query `{bbx, easy, hard, junk}`, a box and rows of `imlist`.

Source: Radenović, Iscen, Tolias, Avrithis, Chum, "Revisiting Oxford and Paris", CVPR 2018, and its published files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from aml_edge.datasets.image_files import require_files
from aml_edge.datasets.metadata import box_of, names_of, require_distinct, rows_of, stays_inside, values_of
from aml_edge.datasets.retrieval_dataset import RetrievalDataset
from aml_edge.errors import DatasetError, unusable_path
from aml_edge.ground_truth import QueryGroundTruth
from aml_edge.image_loading import ImageItem
from aml_edge.protocol import Protocol
from aml_edge.safe_pickle import read_pickle

_LABELS = ("easy", "hard", "junk")


def ground_truth_files(root: Path) -> tuple[Path, ...]:
    """Returns the files `gnd_NAME.pkl` of a folder, sorted; empty where it is no such data set."""
    return tuple(sorted(path for path in root.glob("gnd_*.pkl") if path.is_file()))


def load_revisited(root: Path) -> RetrievalDataset:
    """Returns the data set in a folder.

    Raises:
        DatasetError: the folder is laid out otherwise, the ground truth contradicts itself, or images are missing.
        UsageError: there is no such folder.
        UnsafePickleError: the ground truth wants a type that it does not need.
    """
    dataset = read_revisited_folder(root)
    require_files(root, (*dataset.query_items, *dataset.database_items))
    return dataset


def read_revisited_folder(root: Path) -> RetrievalDataset:
    """Returns the data set in a folder as `load_revisited`; whether its images are there is not looked at."""
    files = ground_truth_files(root)
    if len(files) != 1:
        message = f"{root} holds {len(files)} files gnd_*.pkl; a data set in the revisited layout has one, beside jpg/."
        raise unusable_path(root, message, DatasetError)
    return read_revisited(files[0])


def read_revisited(path: Path) -> RetrievalDataset:
    """Returns the data set that a ground truth file describes; whether its images are there is not looked at.

    Raises:
        DatasetError, UnsafePickleError: as `load_revisited`.
    """
    content = read_pickle(path)
    if not isinstance(content, Mapping) or not {"imlist", "qimlist", "gnd"} <= set(content):
        raise DatasetError(f"{path} does not hold imlist, qimlist and gnd; it is no ground truth of this layout.")
    names = names_of(content["imlist"], f"{path}: imlist", stays_inside)
    queries = names_of(content["qimlist"], f"{path}: qimlist", stays_inside)
    records = values_of(content["gnd"], f"{path}: gnd")
    require_distinct(names, f"{path}: imlist")
    if len(records) != len(queries):
        raise DatasetError(f"{path}: gnd has {len(records)} entries for {len(queries)} queries; each query has one.")
    root = path.parent
    ids = tuple(_image_id(name) for name in names)
    query_items, ground_truth = [], []
    for place, (name, record) in enumerate(zip(queries, records, strict=True)):
        where = f"{path}: query {place} ({name})"
        if not isinstance(record, Mapping) or not {"bbx", *_LABELS} <= set(record):
            raise DatasetError(f"{where} does not have bbx, easy, hard and junk; get the revisited ground truth.")
        query_items.append(ImageItem(root / _image_id(name), box_of(record["bbx"], f"{where}: bbx")))
        ground_truth.append(_ground_truth(record, len(names), where))
    return RetrievalDataset(
        name=path.stem.removeprefix("gnd_"),
        root=root,
        query_items=tuple(query_items),
        database_items=tuple(ImageItem(root / one) for one in ids),
        database_ids=ids,
        ground_truth=tuple(ground_truth),
        protocol=Protocol.REVISITED,
    )


def _image_id(name: str) -> str:
    return f"jpg/{name}.jpg"


def _ground_truth(record: Mapping[object, object], database_size: int, where: str) -> QueryGroundTruth:
    easy, hard, junk = (rows_of(record[label], database_size, f"{where}: {label}") for label in _LABELS)
    try:
        return QueryGroundTruth(easy, hard, junk)
    except DatasetError as problem:
        raise DatasetError(f"{where}: {problem}") from None
