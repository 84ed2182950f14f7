"""Core ML packages: the manifest in the user-defined metadata, and what the ML program holds.

Read without coremltools, so that a package can say what it is on any machine.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aml_edge.files import file_sha256, written_atomically
from aml_edge.formats.census import OperatorCensus
from aml_edge.formats.coreml_messages import dump_model
from aml_edge.formats.mil_census import mil_census
from aml_edge.formats.mil_values import DTYPES
from aml_edge.formats.mlpackage import damaged, load_model, model_file, weight_file
from aml_edge.formats.protobuf_wire import WireError, content_without_entry

MANIFEST_KEY = "aml-edge.manifest"
USER_DEFINED = (2, 100, 100)
"""Numbers of the fields `description`, `metadata` and `userDefined` of Core ML's `Model`."""
CONSTANTS = {"const"}
TRANSPOSES = {"transpose"}
OPTIONS = {"bool", "string", "int32"}
"""Operators take their axes, strides and modes as constants of these dtypes, too short for the weight file."""


def read_manifest(path: Path) -> str | None:
    """Returns the manifest's text, or None where the package carries none; `ArtifactError` where it is no package."""
    metadata = load_model(path).description.metadata.userDefined
    return str(metadata[MANIFEST_KEY]) if MANIFEST_KEY in metadata else None


def write_manifest(path: Path, text: str) -> None:
    """Puts the manifest's text into the package: its model file is replaced, atomically; the weights stay."""
    model = load_model(path)
    model.description.metadata.userDefined[MANIFEST_KEY] = text
    with written_atomically(model_file(path)) as partial:
        partial.write_bytes(dump_model(model))


def hash_content(path: Path) -> str:
    """Returns the SHA-256 of the model file's bytes without those of the manifest, and of the weights that it names.

    What else lies in the package, such as what a Mac's Finder leaves, does not count. Raises `ArtifactError`.
    """
    model, digest = load_model(path), hashlib.sha256()
    try:
        for part in content_without_entry(model_file(path).read_bytes(), USER_DEFINED, MANIFEST_KEY.encode()):
            digest.update(part)
        for name in _weight_names(model):
            digest.update(f"{name} {file_sha256(weight_file(path, name))}\n".encode())
    except (WireError, OSError) as problem:
        raise damaged(path, problem) from None
    return digest.hexdigest()


def take_census(path: Path) -> OperatorCensus:
    """Returns the counts of the operators of all functions and of the values of their constants, options left out."""
    operators: Counter[str] = Counter()
    weights: Counter[str] = Counter()
    operations = list(_operations(load_model(path)))
    for operation in operations:
        if operation.type not in CONSTANTS:
            operators[operation.type] += 1
        for value in operation.attributes.values():
            tensor = value.type.tensorType
            dtype = DTYPES.get(tensor.dataType, "unknown")
            if dtype not in OPTIONS or value.HasField("blobFileValue"):
                weights[dtype] += math.prod(dimension.constant.size for dimension in tensor.dimensions)
    computing = mil_census(operations)
    return OperatorCensus(
        dict(operators),
        dict(weights),
        sum(operators[name] for name in TRANSPOSES),
        integer_operators=dict(computing.integer_operators),
        integer_convolutions=computing.integer_convolutions,
        weight_only_convolutions=computing.weight_only_convolutions,
        float_convolutions=computing.float_convolutions,
        largest_float_convolution=computing.largest_float_convolution,
    )


def _weight_names(model: Any) -> list[str]:
    return sorted(
        {
            value.blobFileValue.fileName
            for operation in _operations(model)
            for value in operation.attributes.values()
            if value.HasField("blobFileValue")
        }
    )


def _operations(model: Any) -> Iterator[Any]:
    waiting = [
        block for function in model.mlProgram.functions.values() for block in function.block_specializations.values()
    ]
    while waiting:
        for operation in waiting.pop().operations:
            yield operation
            waiting.extend(operation.blocks)
