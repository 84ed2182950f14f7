"""TFLite files: the manifest in a metadata buffer, and what the graph holds.

Read without LiteRT, so that a file can say what it is on any machine; only the names of operators are LiteRT's.

Source: TensorFlow Lite's schema (tensorflow/lite/schema/schema.fbs); slots below are those of its tables.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from pathlib import Path

from aml_edge.errors import ArtifactError, MissingExtraError
from aml_edge.files import written_atomically
from aml_edge.formats.census import OperatorCensus
from aml_edge.formats.flatbuffer import Flatbuffer, FlatbufferError, Table
from aml_edge.formats.tflite_metadata import (
    IDENTIFIER,
    MODEL_BUFFERS,
    MODEL_SUBGRAPHS,
    SUBGRAPH_OPERATORS,
    extent_of,
    find_metadata,
    with_metadata,
)

MANIFEST_NAME = b"aml-edge.manifest"
TRANSPOSES = {"TRANSPOSE"}

MODEL_OPERATOR_CODES = 1
CODE_DEPRECATED, CODE_CUSTOM, CODE_BUILTIN = 0, 1, 3
SUBGRAPH_TENSORS = 0
TENSOR_SHAPE, TENSOR_TYPE, TENSOR_BUFFER = 0, 1, 2
OPERATOR_CODE = 0


def read_manifest(path: Path) -> str | None:
    """Returns the manifest's text, or None where the file carries none; `ArtifactError` where it is no TFLite file."""
    try:
        model = _load(path)
        extent = find_metadata(model, MANIFEST_NAME)
        return None if extent is None else bytes(model.source.data[extent.start : extent.stop]).decode().rstrip()
    except (FlatbufferError, UnicodeDecodeError) as problem:
        raise _damaged(path, problem) from None


def write_manifest(path: Path, text: str) -> None:
    """Puts the manifest's text into the file, atomically."""
    try:
        content = with_metadata(_load(path), MANIFEST_NAME, text.encode())
    except FlatbufferError as problem:
        raise _damaged(path, problem) from None
    with written_atomically(path) as partial:
        partial.write_bytes(content)


def hash_content(path: Path) -> str:
    """Returns the SHA-256 of the file's bytes without those of the manifest; raises `ArtifactError`."""
    try:
        model = _load(path)
        extent = find_metadata(model, MANIFEST_NAME)
    except FlatbufferError as problem:
        raise _damaged(path, problem) from None
    content = memoryview(model.source.data)
    if extent is None:
        return hashlib.sha256(content).hexdigest()
    digest = hashlib.sha256(content[: extent.start])
    digest.update(content[extent.stop :])
    return digest.hexdigest()


def take_census(path: Path) -> OperatorCensus:
    """Returns the counts of the operators of all subgraphs and of the values of their constant tensors."""
    try:
        from ai_edge_litert.schema_py_generated import BuiltinOperator, TensorType
    except ImportError:
        raise MissingExtraError("ai-edge-litert", "tflite", "counting the operators of a TFLite file") from None
    try:
        model = _load(path)
        codes = [_operator_name(code, _names(BuiltinOperator)) for code in model.tables(MODEL_OPERATOR_CODES)]
        constant = [extent_of(buffer) is not None for buffer in model.tables(MODEL_BUFFERS)]
        types = _names(TensorType)
        operators: Counter[str] = Counter()
        weights: Counter[str] = Counter()
        counted: set[int] = set()
        for subgraph in model.tables(MODEL_SUBGRAPHS):
            operators.update(codes[entry.unsigned(OPERATOR_CODE, 4)] for entry in subgraph.tables(SUBGRAPH_OPERATORS))
            for tensor in subgraph.tables(SUBGRAPH_TENSORS):
                buffer = tensor.unsigned(TENSOR_BUFFER, 4)
                if constant[buffer] and buffer not in counted:
                    counted.add(buffer)
                    weights[types[tensor.unsigned(TENSOR_TYPE, 1)].lower()] += math.prod(tensor.integers(TENSOR_SHAPE))
    except (FlatbufferError, IndexError, KeyError) as problem:
        raise _damaged(path, problem) from None
    return OperatorCensus(dict(operators), dict(weights), sum(operators[name] for name in TRANSPOSES))


def _load(path: Path) -> Table:
    try:
        return Flatbuffer(path.read_bytes()).root(IDENTIFIER)
    except OSError as problem:
        raise ArtifactError(f"{path} cannot be read: {problem.strerror}.") from None


def _damaged(path: Path, problem: Exception) -> ArtifactError:
    return ArtifactError(f"{path} is not a TFLite file that can be read: {problem}; export it again.")


def _operator_name(code: Table, builtin: dict[int, str]) -> str:
    name = builtin[max(code.unsigned(CODE_DEPRECATED, 1), code.unsigned(CODE_BUILTIN, 4))]
    return code.content(CODE_CUSTOM).decode(errors="replace") if name == "CUSTOM" else name


def _names(enumeration: type) -> dict[int, str]:
    """Returns the names of an enumeration of LiteRT's schema by their numbers."""
    return {number: name for name, number in vars(enumeration).items() if not name.startswith("_")}
