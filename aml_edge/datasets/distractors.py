"""R1M, the million distractors of revisited Oxford and Paris: `revisitop1m.txt` beside `jpg/`.

The list names an image a line, relative to `jpg/`. It has no queries: an index of it is joined with one of ROxford5k
or RParis6k. A name without a suffix of an image is one of a JPEG file.

Source: Radenović, Iscen, Tolias, Avrithis, Chum, "Revisiting Oxford and Paris", CVPR 2018, section 3.4, and its
published files.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from aml_edge.datasets.file_items import FileItems
from aml_edge.datasets.folder import IMAGE_SUFFIXES
from aml_edge.datasets.labelled_images import LabelledImages, NamedSplit
from aml_edge.datasets.metadata import require_distinct, stays_inside
from aml_edge.datasets.text_records import lines_of
from aml_edge.errors import DatasetError

LIST = "revisitop1m.txt"


def distractor_files(root: Path) -> tuple[Path, ...]:
    """Returns the list of a folder; none where it is no such data set."""
    path = root / LIST
    return (path,) if path.is_file() else ()


def read_distractors(root: Path) -> tuple[NamedSplit, ...]:
    """Returns the images of a folder as one split without labels; whether they are there is not looked at.

    Raises:
        DatasetError: the list cannot be read, is empty, names an image twice, or one that cannot be in the folder.
    """
    path = root / LIST
    ids = []
    for number, name in lines_of(path):
        if not stays_inside(name):
            raise DatasetError(
                f"{path}: line {number} names an image {name[:100]!a}, which cannot be the name of a file in the data "
                "set."
            )
        is_image = PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES
        ids.append(f"jpg/{name}" if is_image else f"jpg/{name}.jpg")
    if not ids:
        raise DatasetError(f"{path} names no images; get it again.")
    found = tuple(ids)
    require_distinct(found, str(path))
    return (NamedSplit("distractors", LabelledImages(found, FileItems(root, found), None)),)
