"""Training sets in the layout of retrieval-SfM: `NAME.pkl` beside `ims/`.

The pickle holds for each split `{cids, cluster, qidxs, pidxs}`: image names, the cluster (one 3D model) of each image,
and rows of queries with the row of a matching image each. An image lies in `ims/cid[-2:]/cid[-4:-2]/cid[-6:-4]/cid`.

Source: Radenović, Tolias, Chum, "Fine-tuning CNN image retrieval with no human annotation", TPAMI 2019, and its
published files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aml_edge.datasets.image_files import require_files
from aml_edge.errors import DatasetError
from aml_edge.image_loading import ImageItem
from aml_edge.safe_pickle import read_pickle, values_of

TRAIN = "train"
_FIELDS = ("cids", "cluster", "qidxs", "pidxs")
_CID = re.compile(r"[0-9A-Za-z_-]{6,255}")


@dataclass(frozen=True)
class SfmDataset:
    """The images of one split, and which of them match.

    Args:
        name: e.g. ``"retrieval-SfM-120k"``.
        root: the folder.
        split: ``"train"`` or ``"val"``.
        ids: N paths relative to the root, in the order of the file.
        items: the same images.
        clusters: the cluster of each image; images of different clusters do not match.
        query_rows, positive_rows: rows of `ids`, pair by pair.
    """

    name: str
    root: Path
    split: str
    ids: tuple[str, ...]
    items: tuple[ImageItem, ...]
    clusters: tuple[int, ...]
    query_rows: tuple[int, ...]
    positive_rows: tuple[int, ...]


def sfm_file(root: Path) -> Path | None:
    """Returns the pickle of a folder in this layout, named as the folder or the only one; None where it is no such."""
    if not (root / "ims").is_dir():
        return None
    named = root / f"{root.resolve().name}.pkl"
    if named.is_file():
        return named
    pickles = [path for path in root.glob("*.pkl") if not path.stem.endswith("-whiten") and path.is_file()]
    return pickles[0] if len(pickles) == 1 else None


def load_sfm(root: Path, split: str = TRAIN) -> SfmDataset:
    """Returns one split of the training set in a folder.

    Raises:
        DatasetError: the folder is laid out otherwise, there is no such split, it contradicts itself, or images are
            missing.
        UnsafePickleError: its file wants a type that it does not need.
    """
    path = sfm_file(root)
    if path is None:
        raise DatasetError(f"{root} does not hold ims/ and one NAME.pkl; a training set in the SfM layout has both.")
    dataset = read_sfm(path, split)
    require_files(root, [item.path for item in dataset.items])
    return dataset


def read_sfm(path: Path, split: str = TRAIN) -> SfmDataset:
    """Returns the split that a file describes; whether its images are there is not looked at.

    Raises:
        DatasetError, UnsafePickleError: as `load_sfm`.
    """
    content = read_pickle(path)
    if not isinstance(content, Mapping):
        raise DatasetError(f"{path} does not hold splits; it is no training set of this layout.")
    if split not in content:
        there = ", ".join(sorted(key for key in content if isinstance(key, str))[:10])
        raise DatasetError(f"{path} has no split {split!r}; it has: {there or 'none'}.")
    record = content[split]
    where = f"{path}, split {split!r}"
    if not isinstance(record, Mapping) or not set(_FIELDS) <= set(record):
        raise DatasetError(f"{where}: it does not have {', '.join(_FIELDS)}; it is no training set of this layout.")
    cids = _cids(record["cids"], where)
    clusters = _whole_numbers(record["cluster"], "cluster", where)
    queries = _rows(record["qidxs"], "qidxs", len(cids), where)
    positives = _rows(record["pidxs"], "pidxs", len(cids), where)
    if len(clusters) != len(cids):
        raise DatasetError(f"{where}: there are {len(clusters)} clusters for {len(cids)} images; each has one.")
    if len(queries) != len(positives):
        raise DatasetError(f"{where}: there are {len(queries)} qidxs and {len(positives)} pidxs; they are pairs.")
    ids = tuple(image_id(cid) for cid in cids)
    return SfmDataset(
        name=path.stem,
        root=path.parent,
        split=split,
        ids=ids,
        items=tuple(ImageItem(path.parent / one) for one in ids),
        clusters=clusters,
        query_rows=queries,
        positive_rows=positives,
    )


def image_id(cid: str) -> str:
    """Returns where an image lies, relative to the root."""
    return f"ims/{cid[-2:]}/{cid[-4:-2]}/{cid[-6:-4]}/{cid}"


def _cids(value: object, where: str) -> tuple[str, ...]:
    values = values_of(value)
    if not values:
        raise DatasetError(f"{where}: cids is empty or no list; it must name the images.")
    cids = tuple(cid for cid in values if isinstance(cid, str) and _CID.fullmatch(cid))
    if len(cids) < len(values):
        odd = next(cid for cid in values if not (isinstance(cid, str) and _CID.fullmatch(cid)))
        shown = ascii(odd)[:100] if isinstance(odd, str) else type(odd).__name__
        raise DatasetError(f"{where}: cids names an image {shown}; a name is of 6 or more letters and digits.")
    if len(set(cids)) < len(cids):
        raise DatasetError(f"{where}: cids names {len(cids) - len(set(cids))} images twice; each is listed once.")
    return cids


def _rows(value: object, field: str, images: int, where: str) -> tuple[int, ...]:
    rows = _whole_numbers(value, field, where)
    outside: Sequence[int] = [row for row in rows if not 0 <= row < images]
    if outside:
        raise DatasetError(f"{where}: {field} names row {outside[0]}; cids has {images}.")
    return rows


def _whole_numbers(value: object, field: str, where: str) -> tuple[int, ...]:
    values = values_of(value)
    if values is None:
        raise DatasetError(f"{where}: {field} is no list.")
    numbers = tuple(number for number in values if isinstance(number, int) and not isinstance(number, bool))
    if len(numbers) < len(values):
        raise DatasetError(f"{where}: {field} holds something else than whole numbers.")
    return numbers
