"""Training sets in the layout of retrieval-SfM: `NAME.pkl` beside `ims/`.

The pickle holds for each split `{cids, cluster, qidxs, pidxs}`: image names, the cluster (one 3D model) of each image,
and rows of queries with the row of a matching image each. An image lies in `ims/cid[-2:]/cid[-4:-2]/cid[-6:-4]/cid`.

Source: Radenović, Tolias, Chum, "Fine-tuning CNN image retrieval with no human annotation", TPAMI 2019, and its
published files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aml_edge.datasets.image_files import require_files
from aml_edge.datasets.labelled_images import ImageLabels, LabelledImages, NamedSplit
from aml_edge.datasets.metadata import names_of, require_distinct, rows_of, whole_numbers_of
from aml_edge.errors import DatasetError, unusable_path
from aml_edge.image_loading import ImageItem
from aml_edge.safe_pickle import read_pickle

TRAIN, VALIDATION = "train", "val"
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

    @property
    def named_split(self) -> NamedSplit:
        """The same images with their labels."""
        labels = ImageLabels(self.clusters, self.query_rows, self.positive_rows)
        return NamedSplit(self.split, LabelledImages(self.ids, self.items, labels))


def sfm_files(root: Path) -> tuple[Path, ...]:
    """Returns the pickle of a folder in this layout; several where it is unclear which, none where it is no such.

    It is named as the folder; else it is the only one, those of whitening (``NAME-whiten.pkl``) left out.
    """
    if not (root / "ims").is_dir():
        return ()
    named = root / f"{root.resolve().name}.pkl"
    if named.is_file():
        return (named,)
    pickles = (path for path in root.glob("*.pkl") if not path.stem.endswith("-whiten"))
    return tuple(sorted(path for path in pickles if path.is_file()))


def load_sfm(root: Path, split: str = TRAIN) -> SfmDataset:
    """Returns one split of the training set in a folder.

    Raises:
        DatasetError: the folder is laid out otherwise, there is no such split, it contradicts itself, or images are
            missing.
        UsageError: there is no such folder.
        UnsafePickleError: its file wants a type that it does not need.
    """
    dataset = read_sfm(_sole_file(root), split)
    require_files(root, dataset.items)
    return dataset


def read_sfm_folder(root: Path) -> tuple[NamedSplit, ...]:
    """Returns the training split in a folder, and that of validation where it has one, as `load_sfm`.

    Whether their images are there is not looked at.
    """
    path = _sole_file(root)
    splits = (TRAIN, VALIDATION) if has_split(root, VALIDATION) else (TRAIN,)
    return tuple(read_sfm(path, split).named_split for split in splits)


def has_split(root: Path, split: str) -> bool:
    """Returns whether the training set in a folder has a split; raises as `load_sfm` where it cannot be read."""
    content = read_pickle(_sole_file(root))
    return isinstance(content, Mapping) and split in content


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
    where = f"{path}: {split}"
    if not isinstance(record, Mapping) or not set(_FIELDS) <= set(record):
        raise DatasetError(f"{where} does not have {', '.join(_FIELDS)}; it is no training set of this layout.")
    cids = names_of(record["cids"], f"{where}: cids", _is_cid)
    clusters = whole_numbers_of(record["cluster"], f"{where}: cluster")
    queries = rows_of(record["qidxs"], len(cids), f"{where}: qidxs")
    positives = rows_of(record["pidxs"], len(cids), f"{where}: pidxs")
    require_distinct(cids, f"{where}: cids")
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


def _sole_file(root: Path) -> Path:
    files = sfm_files(root)
    if len(files) != 1:
        message = (
            f"{root} does not hold ims/ and one NAME.pkl, named as the folder where there are several; "
            "a training set in the SfM layout does."
        )
        raise unusable_path(root, message, DatasetError)
    return files[0]


def _is_cid(name: str) -> bool:
    return _CID.fullmatch(name) is not None
