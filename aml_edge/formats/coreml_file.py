"""Core ML packages: the manifest in the user-defined metadata, and what the ML program holds.

A package is a folder; its `Manifest.json` says where the model file lies. Read without coremltools, so that a package
can say what it is on any machine.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aml_edge.errors import ArtifactError
from aml_edge.files import written_atomically
from aml_edge.formats.census import OperatorCensus
from aml_edge.formats.coreml_messages import dump_model, parse_model

MANIFEST_KEY = "aml-edge.manifest"
CONSTANTS = {"const"}
TRANSPOSES = {"transpose"}
DATA_FOLDER = "Data"


def read_manifest(path: Path) -> str | None:
    """Returns the manifest's text, or None where the package carries none; `ArtifactError` where it is no package."""
    metadata = load_model(path).description.metadata.userDefined
    return str(metadata[MANIFEST_KEY]) if MANIFEST_KEY in metadata else None


def write_manifest(path: Path, text: str) -> None:
    """Puts the manifest's text into the package: its model file is replaced, atomically, the weights stay."""
    model = load_model(path)
    model.description.metadata.userDefined[MANIFEST_KEY] = text
    with written_atomically(model_file(path)) as partial:
        partial.write_bytes(dump_model(model))


def take_census(path: Path) -> OperatorCensus:
    """Returns the counts of the program's operators and of the values of its constants, options left out."""
    operators: Counter[str] = Counter()
    weights: Counter[str] = Counter()
    for operation in _operations(load_model(path)):
        if operation.type not in CONSTANTS:
            operators[operation.type] += 1
        for value in operation.attributes.values():
            dtype, count = _weights_of(value)
            if count:
                weights[dtype] += count
    return OperatorCensus(dict(operators), dict(weights), sum(operators[name] for name in TRANSPOSES))


def load_model(path: Path) -> Any:
    """Returns the message `Model` of a package that holds an ML program; raises `ArtifactError`."""
    from google.protobuf.message import DecodeError

    file = model_file(path)
    try:
        model = parse_model(file.read_bytes())
    except (DecodeError, OSError) as problem:
        raise damaged(path, problem) from None
    if not model.mlProgram.functions:
        raise damaged(path, "it holds no ML program")
    return model


def model_file(path: Path) -> Path:
    """Returns where a package's model file lies; raises `ArtifactError`."""
    try:
        record = json.loads((path / "Manifest.json").read_bytes())
        place = record["itemInfoEntries"][record["rootModelIdentifier"]]["path"]
        return path_inside(path, Path(DATA_FOLDER) / place)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as problem:
        raise damaged(path, f"its Manifest.json names no model file ({type(problem).__name__})") from None


def path_inside(path: Path, place: Path) -> Path:
    """Returns a file of a package; raises `ArtifactError` where it is missing or lies outside of the package."""
    try:
        file = (path / place).resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        raise damaged(path, f"it lacks {place}") from None
    if not file.is_relative_to(path.resolve()):
        raise damaged(path, f"{place} leads outside of the package")
    return file


def damaged(path: Path, problem: object) -> ArtifactError:
    """Returns the error that a package cannot be read."""
    return ArtifactError(f"{path} is not a Core ML package that can be read: {problem}; export it again.")


def _operations(model: Any) -> Iterator[Any]:
    waiting = [
        block for function in model.mlProgram.functions.values() for block in function.block_specializations.values()
    ]
    while waiting:
        for operation in waiting.pop().operations:
            yield operation
            waiting.extend(operation.blocks)


DTYPES = {
    1: "bool", 2: "string", 10: "float16", 11: "float32", 12: "float64", 13: "bfloat16", 21: "int8", 22: "int16",
    23: "int32", 24: "int64", 25: "int4", 31: "uint8", 32: "uint16", 33: "uint32", 34: "uint64", 35: "uint4",
    36: "uint2", 37: "uint1", 38: "uint6", 39: "uint3", 40: "float8e4m3fn", 41: "float8e5m2",
}  # fmt: skip
OPTIONS = {"bool", "string", "int32"}
"""Operators take their strides, axes and modes as constants of these dtypes."""


def _weights_of(value: Any) -> tuple[str, int]:
    """Returns dtype and number of a constant's values; no value where it is an option of an operator."""
    tensor = value.type.tensorType
    dtype = DTYPES.get(tensor.dataType, "unknown")
    if dtype in OPTIONS and not value.HasField("blobFileValue"):
        return dtype, 0
    return dtype, math.prod(dimension.constant.size for dimension in tensor.dimensions)
