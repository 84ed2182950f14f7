"""What a data set's pickle holds, checked value by value: names of images, whole numbers, rows.

`where` begins each message: the file and the field that the value comes from.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import PurePosixPath

from aml_edge.errors import DatasetError
from aml_edge.numpy_stand_ins import NumpyArray
from aml_edge.pixels import Box

_NOT_IN_A_LIST = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_LARGEST = 2**63
_FAR = 1e6
"""px; no image reaches so far, and NaN is not below it."""


def values_of(value: object, where: str) -> tuple[object, ...]:
    """Returns the items of a list, a tuple or an array of one dimension."""
    if isinstance(value, NumpyArray) and value.values.ndim == 1:
        return tuple(value.values.tolist())
    if not isinstance(value, list | tuple):
        raise DatasetError(f"{where} is no list.")
    return tuple(value)


def names_of(value: object, where: str, is_name: Callable[[str], bool]) -> tuple[str, ...]:
    """Returns the names in a list that is not empty; `is_name` says what may be one."""
    names: list[str] = []
    for name in values_of(value, where):
        if not isinstance(name, str) or not is_name(name):
            shown = f"{name[:100]!a}" if isinstance(name, str) else type(name).__name__
            raise DatasetError(f"{where} names an image {shown}, which cannot be the name of a file in the data set.")
        names.append(name)
    if not names:
        raise DatasetError(f"{where} is empty; it must name images.")
    return tuple(names)


def require_distinct(names: tuple[str, ...], where: str) -> None:
    """Raises `DatasetError` where a name occurs twice."""
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise DatasetError(f"{where} names {name!r} {times} times; each image is listed once.")


def whole_numbers_of(value: object, where: str) -> tuple[int, ...]:
    """Returns the whole numbers in a list."""
    values = values_of(value, where)
    numbers = tuple(number for number in values if type(number) is int and -_LARGEST <= number < _LARGEST)
    if len(numbers) < len(values):
        raise DatasetError(f"{where} holds something else than whole numbers.")
    return numbers


def rows_of(value: object, rows: int, where: str) -> tuple[int, ...]:
    """Returns the numbers in a list, each of which counts one of `rows` rows from 0."""
    numbers = whole_numbers_of(value, where)
    outside = [number for number in numbers if not 0 <= number < rows]
    if outside:
        raise DatasetError(f"{where} names row {outside[0]}, but there are {rows}, counted from 0.")
    return numbers


def box_of(value: object, where: str) -> Box:
    """Returns the box in a list of four edges, px."""
    values = values_of(value, where)
    edges = [float(edge) for edge in values if isinstance(edge, int | float) and abs(edge) < _FAR]
    if (len(values), len(edges)) != (4, 4):
        raise DatasetError(f"{where} is not of four finite numbers x0, y0, x1, y1.")
    left, top, right, bottom = edges
    if left >= right or top >= bottom:
        raise DatasetError(f"{where} ({left:g}, {top:g}, {right:g}, {bottom:g}) holds nothing.")
    return (left, top, right, bottom)


def is_listable(name: str) -> bool:
    """Returns whether a name can stand in a text file with one id a line, and be printed."""
    return not _NOT_IN_A_LIST.search(name)


def stays_inside(name: str) -> bool:
    """Returns whether a listable name leads to a place inside the folder it is relative to, on any system."""
    parts = PurePosixPath(name).parts
    leaves = not parts or ".." in parts or name.startswith("/") or "\\" in name or ":" in name
    return not leaves and is_listable(name)
