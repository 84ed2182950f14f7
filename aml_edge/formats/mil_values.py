"""Constants of an ML program: written in the model itself, or in its weight file.

Source: coremltools, MIL.proto (`Value`) and MILBlob/Blob/StorageFormat.hpp, BlobDataType.hpp (weight file).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aml_edge.formats.mlpackage import weight_file

Constant = npt.NDArray[Any] | str
"""Numbers and booleans as an array, of no dimension where it is one of them; or a text."""

DTYPES = {
    1: "bool", 2: "string",
    10: "float16", 11: "float32", 12: "float64", 13: "bfloat16", 40: "float8e4m3fn", 41: "float8e5m2",
    21: "int8", 22: "int16", 23: "int32", 24: "int64", 25: "int4",
    31: "uint8", 32: "uint16", 33: "uint32", 34: "uint64",
    35: "uint4", 36: "uint2", 37: "uint1", 38: "uint6", 39: "uint3",
}  # fmt: skip
"""`DataType` of MIL.proto."""

NUMPY_DTYPES = {
    "bool": np.dtype("?"), "float16": np.dtype("<f2"), "float32": np.dtype("<f4"), "float64": np.dtype("<f8"),
    "int8": np.dtype("i1"), "int16": np.dtype("<i2"), "int32": np.dtype("<i4"), "int64": np.dtype("<i8"),
    "uint8": np.dtype("u1"), "uint16": np.dtype("<u2"), "uint32": np.dtype("<u4"), "uint64": np.dtype("<u8"),
}  # fmt: skip

BLOB_DTYPES = {
    1: "float16", 2: "float32", 3: "uint8", 4: "int8", 6: "int16", 7: "uint16", 14: "int32", 15: "uint32",
}  # fmt: skip
BLOB_HEADER = struct.Struct("<IIQQ")
BLOB_SENTINEL = 0xDEADBEEF

NUMBER_FIELDS = ("floats", "ints", "bools", "longInts", "doubles")


class MilProgramError(ValueError):
    """Something in a program that is not what it says it is."""


@dataclass
class WeightFiles:
    """The weight files of a package, each read once."""

    package: Path
    _contents: dict[str, bytearray] = field(default_factory=dict)

    def content(self, name: str) -> bytearray:
        """Returns the bytes of the file that a model names so; raises `ArtifactError` where it may not be read."""
        if name not in self._contents:
            self._contents[name] = bytearray(weight_file(self.package, name).read_bytes())
        return self._contents[name]


def constant_of(value: Any, weights: WeightFiles) -> Constant:
    """Returns what a message `Value` says.

    Raises:
        MilProgramError: its dtype is not known, or its values are too few or too many.
        ArtifactError: its weight file may not be read.
    """
    dtype, shape = dtype_of(value.type), shape_of(value.type)
    tensor = value.immediateValue.tensor
    if value.HasField("blobFileValue"):
        blob = value.blobFileValue
        return _blob(weights.content(blob.fileName), blob.offset, dtype, shape)
    if dtype == "string":
        texts = tensor.strings.values
        if shape or len(texts) != 1:
            raise MilProgramError(f"{len(texts)} texts of shape {shape}, where one is expected")
        return str(texts[0])
    if tensor.HasField("bytes"):
        return _array(tensor.bytes.values, dtype, shape)
    for name in NUMBER_FIELDS:
        if tensor.HasField(name):
            return _array(_bytes(getattr(tensor, name).values, _numpy_dtype(dtype)), dtype, shape)
    return _array(b"", dtype, shape)


def dtype_of(value_type: Any) -> str:
    """Returns the name of the dtype of a message `ValueType`; raises `MilProgramError` where it is no tensor."""
    if not value_type.HasField("tensorType"):
        raise MilProgramError("it is no tensor")
    number = value_type.tensorType.dataType
    return DTYPES.get(number, f"number {number}")


def shape_of(value_type: Any) -> tuple[int, ...]:
    """Returns the shape of a message `ValueType`; raises `MilProgramError` where a size is not fixed."""
    dimensions = value_type.tensorType.dimensions
    if not all(dimension.HasField("constant") for dimension in dimensions):
        raise MilProgramError("a size of its shape is not fixed")
    return tuple(dimension.constant.size for dimension in dimensions)


def _blob(content: bytearray, offset: int, dtype: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    if offset + BLOB_HEADER.size > len(content):
        raise MilProgramError(f"it refers to byte {offset} of a weight file of {len(content)}")
    sentinel, code, size, start = BLOB_HEADER.unpack_from(content, offset)
    if sentinel != BLOB_SENTINEL:
        raise MilProgramError(f"no values start at byte {offset} of the weight file")
    if BLOB_DTYPES.get(code) != dtype:
        raise MilProgramError(f"the weight file holds dtype number {code} for it, not {dtype}")
    if start + size > len(content):
        raise MilProgramError(f"it refers to byte {start + size} of a weight file of {len(content)}")
    return _array(memoryview(content)[start : start + size], dtype, shape)


def _bytes(numbers: Any, numpy_dtype: np.dtype[Any]) -> bytes:
    try:
        with np.errstate(over="ignore"):
            return np.array(list(numbers), numpy_dtype).tobytes()
    except (OverflowError, ValueError) as problem:
        raise MilProgramError(str(problem)) from None


def _array(content: bytes | memoryview, dtype: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    numpy_dtype = _numpy_dtype(dtype)
    if len(content) != math.prod(shape) * numpy_dtype.itemsize:
        raise MilProgramError(f"{len(content)} bytes for {dtype} of shape {shape}")
    return np.frombuffer(content, numpy_dtype).reshape(shape)


def _numpy_dtype(dtype: str) -> np.dtype[Any]:
    if dtype not in NUMPY_DTYPES:
        raise MilProgramError(f"its dtype, {dtype}, is not known")
    return NUMPY_DTYPES[dtype]
