"""What stands in for NumPy where a foreign file wants to make its arrays: arrays of numbers, and nothing else.

NumPy pickles an array as: make an empty `ndarray`, make a `dtype`, give the array a state of shape, dtype and bytes.
The same steps are taken here with every value checked, and end in a view of the bytes. What is broken or holds
anything but numbers raises `ValueError`, with words that go on from the file's name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

_NUMBERS = re.compile(r"[<>=|]?([fiu][1248]|b1)")
_BYTE_ORDERS = "<>=|"
_MOST_DIMENSIONS, _LONGEST_SIDE = 32, 2**63 - 1
"""NumPy's own bounds; numbers beyond them take long to multiply."""


class NumpyDtype:
    """Stands in for `numpy.dtype`: a kind of number and its byte order.

    Raises:
        ValueError: the dtype is not one of numbers.
    """

    def __init__(self, name: object, align: object = False, copy: object = True) -> None:
        if not isinstance(name, str) or not _NUMBERS.fullmatch(name) or name.endswith("f1"):
            shown = f"{name[:20]!r}" if isinstance(name, str) else type(name).__name__
            raise ValueError(f"it holds a NumPy array of {shown}; only arrays of numbers are read.")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: object) -> None:
        """Takes the byte order of NumPy's state and no more of it."""
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in tuple(_BYTE_ORDERS):
            raise ValueError("it holds a NumPy dtype with a broken state.")
        self.dtype = self.dtype.newbyteorder(state[1])


class NumpyArray:
    """Stands in for `numpy.ndarray`; `values` is the array that the file holds."""

    values: npt.NDArray[np.generic] = np.zeros(0)

    def __setstate__(self, state: object) -> None:
        """Takes NumPy's state: version, shape, dtype, whether columns come first, bytes."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise ValueError("it holds a NumPy array with a broken state.")
        _, shape, dtype, columns_first, stored = state
        content = _bytes_of(stored)
        if not (
            isinstance(dtype, NumpyDtype)
            and content is not None
            and isinstance(shape, tuple)
            and len(shape) <= _MOST_DIMENSIONS
            and all(type(side) is int and 0 <= side <= _LONGEST_SIDE for side in shape)
        ):
            raise ValueError("it holds a NumPy array of something else than numbers.")
        if len(content) != dtype.dtype.itemsize * int(np.prod(shape, dtype=object)):
            raise ValueError(f"it holds a NumPy array of shape {shape} with {len(content)} bytes.")
        self.values = np.ndarray(shape, dtype.dtype, content, order="F" if columns_first else "C")


def empty_array(array_type: object, shape: object, kind: object) -> NumpyArray:
    """Stands in for NumPy's `_reconstruct`, which makes an empty array to be given a state."""
    if array_type is not NumpyArray:
        raise ValueError("it holds a NumPy array of an unknown subclass.")
    return NumpyArray()


def scalar(dtype: object, content: object) -> float | int | bool:
    """Stands in for NumPy's `scalar`: one number."""
    stored = _bytes_of(content)
    if not isinstance(dtype, NumpyDtype) or stored is None or len(stored) != dtype.dtype.itemsize:
        raise ValueError("it holds a NumPy scalar that is no number.")
    number: float | int | bool = np.ndarray((), dtype.dtype, stored).item()
    return number


def from_buffer(content: object, dtype: object, shape: object, order: object, axes: object = None) -> NumpyArray:
    """Stands in for NumPy's `_frombuffer`, which makes an array at once: how protocol 5 does it."""
    if not isinstance(content, bytes | bytearray) or order not in ("C", "F") or axes is not None:
        raise ValueError("it holds a NumPy array with a broken state.")
    array = NumpyArray()
    array.__setstate__((1, shape, dtype, order == "F", bytes(content)))
    return array


STAND_INS: Mapping[str, Callable[..., object]] = {
    "numpy.dtype": NumpyDtype,
    "numpy.ndarray": NumpyArray,
    "numpy.core.multiarray._reconstruct": empty_array,
    "numpy._core.multiarray._reconstruct": empty_array,
    "numpy.core.multiarray.scalar": scalar,
    "numpy._core.multiarray.scalar": scalar,
    "numpy.core.numeric._frombuffer": from_buffer,
    "numpy._core.numeric._frombuffer": from_buffer,
}
"""By the name that a pickle has for it; NumPy 2 renamed its module."""


def _bytes_of(content: object) -> bytes | None:
    """Returns bytes; those of Python 2 arrive as text where its text is read as latin1."""
    if isinstance(content, str):
        return content.encode("latin1")
    return content if isinstance(content, bytes) else None
