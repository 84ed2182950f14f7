"""INSTRE in the layout that the retrieval literature tests on: `gnd_instre.mat` beside `INSTRE-S1/`, `-S2/` and `-M/`.

The file holds `{imlist, qimlist, gnd}`: paths of database and query images below the folder, and for each query `{ok,
bbx}`, the places of matching images in `imlist`, counted from 1, and the box of the object, x0, y0, x1, y1. Published
are 27293 database images and 1250 queries, none of them in the database. Results are mAP, by trapezoids.

Source: Wang and Jiang, "INSTRE: a new benchmark for instance-level object retrieval and recognition", TOMM 2015; Iscen,
Tolias, Avrithis, Furon, Chum, "Efficient diffusion on region manifolds", CVPR 2017, section 5.1, for the queries.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from aml_edge.datasets.mat_file import read_mat
from aml_edge.datasets.metadata import (
    box_of,
    names_of,
    require_distinct,
    stays_inside,
    values_of,
    whole_numbers_of,
)
from aml_edge.datasets.retrieval_dataset import RetrievalDataset
from aml_edge.errors import DatasetError
from aml_edge.ground_truth import QueryGroundTruth
from aml_edge.image_loading import ImageItem
from aml_edge.protocol import Protocol

GROUND_TRUTH = "gnd_instre.mat"


def instre_files(root: Path) -> tuple[Path, ...]:
    """Returns the ground truth of a folder; none where it is no such data set."""
    path = root / GROUND_TRUTH
    return (path,) if path.is_file() else ()


def read_instre(root: Path) -> RetrievalDataset:
    """Returns the data set in a folder; whether its images are there is not looked at.

    Raises:
        DatasetError: the ground truth cannot be read, or contradicts itself.
    """
    path = root / GROUND_TRUTH
    content = read_mat(path)
    if not {"imlist", "qimlist", "gnd"} <= set(content):
        raise DatasetError(f"{path} does not hold imlist, qimlist and gnd; it is no ground truth of INSTRE.")
    ids = names_of(content["imlist"], f"{path}: imlist", stays_inside)
    queries = names_of(content["qimlist"], f"{path}: qimlist", stays_inside)
    records = values_of(content["gnd"], f"{path}: gnd")
    require_distinct(ids, f"{path}: imlist")
    if len(records) != len(queries):
        raise DatasetError(f"{path}: gnd has {len(records)} entries for {len(queries)} queries; each query has one.")
    query_items, ground_truth = [], []
    for place, (name, record) in enumerate(zip(queries, records, strict=True)):
        where = f"{path}: query {place} ({name})"
        if not isinstance(record, Mapping) or not {"ok", "bbx"} <= set(record):
            raise DatasetError(f"{where} does not have ok and bbx; get the ground truth again.")
        query_items.append(ImageItem(root / name, box_of(record["bbx"], f"{where}: bbx")))
        ground_truth.append(_ground_truth(record["ok"], len(ids), where))
    return RetrievalDataset(
        name="instre",
        root=root,
        query_items=tuple(query_items),
        database_items=tuple(ImageItem(root / one) for one in ids),
        database_ids=ids,
        ground_truth=tuple(ground_truth),
        protocol=Protocol.INSTANCES,
    )


def _ground_truth(places: object, database_size: int, where: str) -> QueryGroundTruth:
    numbers = whole_numbers_of(places, f"{where}: ok")
    outside = [number for number in numbers if not 1 <= number <= database_size]
    if outside:
        raise DatasetError(f"{where}: ok names place {outside[0]}, but there are {database_size}, counted from 1.")
    try:
        return QueryGroundTruth(tuple(number - 1 for number in numbers), (), ())
    except DatasetError as problem:
        raise DatasetError(f"{where}: {problem}") from None
