"""The header of NumPy's `.npy` format, of a file or of a part of a `.npz` file; nothing is unpickled.

Source: NumPy's `numpy.lib.format`, versions 1.0 and 2.0.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from tokenize import TokenError
from typing import IO, Any

import numpy as np

from aml_edge.vectors.source import VECTOR_DTYPES, VectorDtype

NPY_MAGIC = b"\x93NUMPY"


@dataclass(frozen=True)
class NpyHeader:
    """What a header says.

    Args:
        shape, dtype: of the array.
        columns_first: whether it lies column by column.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    columns_first: bool

    @property
    def size_bytes(self) -> int:
        """Of the values after the header."""
        size = self.dtype.itemsize
        for side in self.shape:
            size *= side
        return size

    @property
    def describes_vectors(self) -> bool:
        """Whether these can be (N, D) vectors of numbers."""
        return len(self.shape) == 2 and min(self.shape) > 0 and self.dtype.name in VECTOR_DTYPES

    @property
    def remedy(self) -> str:
        """What to do where these are no vectors."""
        if 0 in self.shape:
            return "there is none in it"
        if len(self.shape) == 2 and self.dtype.kind in "iub":
            return "save them as they were before they became whole numbers"
        return "save that one with numpy.save"

    @property
    def vector_dtype(self) -> VectorDtype:
        """The name of the dtype, where these are vectors."""
        (name,) = (one for one in VECTOR_DTYPES if one == self.dtype.name)
        return name

    def describe(self) -> str:
        """Returns shape and dtype in words."""
        return f"{self.shape} {self.dtype}"


def read_npy_header(stream: IO[bytes]) -> NpyHeader:
    """Returns the header at the start of a stream; raises `ValueError` or `OSError` that says what is wrong."""
    try:
        version = np.lib.format.read_magic(stream)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in readers:
            raise ValueError(f"it is of version {version[0]}.{version[1]}, and 1.0 and 2.0 are read")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files that Python 2 wrote
            shape, columns_first, dtype = readers[version](stream)
    except (TypeError, SyntaxError, TokenError, MemoryError, RecursionError, UnicodeDecodeError) as problem:
        raise ValueError(f"its header cannot be read: {problem}") from None
    if any(side < 0 for side in shape):
        raise ValueError(f"its header says a shape of {shape}")
    return NpyHeader(shape, dtype, columns_first)
