"""A plain folder of classes: `CLASS/IMAGE`, one folder a class, as photographs of products or parts are often kept.

Each image asks all others: recall@1, 2, 4 and 8, and MAP@R. To train on, an image's positive is another of its class.
"""

from __future__ import annotations

from pathlib import Path

from aml_edge.datasets.class_list import ClassList
from aml_edge.datasets.folder import list_images
from aml_edge.errors import DatasetError


def class_names(root: Path) -> tuple[str, ...]:
    """Returns the classes of a folder, sorted; none where its images are not each in the folder of a class.

    Raises:
        DatasetError, UsageError: as `aml_edge.datasets.folder.list_images`.
    """
    places = [one.split("/") for one in list_images(root)]
    names = sorted({place[0] for place in places})
    return tuple(names) if len(names) > 1 and all(len(place) == 2 for place in places) else ()


def read_class_folder(root: Path) -> ClassList:
    """Returns the images of a folder with their classes, which are numbered in the order of their names.

    Raises:
        DatasetError: there are not two classes at least, or an image lies elsewhere than in the folder of a class.
        UsageError: there is no such folder.
    """
    names = class_names(root)
    if not names:
        raise DatasetError(
            f"{root} is no folder of classes: each image lies in the folder of its class, CLASS/IMAGE, and there are "
            "two classes at least."
        )
    ids = list_images(root)
    number = {name: place for place, name in enumerate(names)}
    return ClassList(root, ids, tuple(number[one.partition("/")[0]] for one in ids))
