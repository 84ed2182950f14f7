"""TFLite files: the manifest in a metadata buffer, and what the graph holds.

Read without LiteRT, so that a file can say what it is on any machine; only the names of operators are LiteRT's.

Source: TensorFlow Lite's schema (tensorflow/lite/schema/schema.fbs); slots below are those of its tables.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from enum import Enum, auto
from pathlib import Path

from aml_edge.errors import ArtifactError
from aml_edge.files import written_atomically
from aml_edge.formats.census import OperatorCensus
from aml_edge.formats.flatbuffer import Flatbuffer, FlatbufferError, Table
from aml_edge.formats.tflite_graph import ABSENT, TfliteOperator, TfliteSubgraph, read_subgraphs
from aml_edge.formats.tflite_metadata import IDENTIFIER, find_metadata, with_metadata

MANIFEST_NAME = b"aml-edge.manifest"
TRANSPOSES = {"TRANSPOSE"}
CONVOLUTIONS = {"CONV_2D", "DEPTHWISE_CONV_2D"}
INTEGERS = {"int8", "uint8", "int16"}
"""That stand for the real values of activations."""
WEIGHT_INTEGERS = {"int8", "uint8", "int4", "int2"}


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
    """Returns the counts of the operators of all subgraphs, of those in integers, and of the values of constants."""
    operators: Counter[str] = Counter()
    integer: Counter[str] = Counter()
    convolutions: Counter[_Computing] = Counter()
    weights: Counter[str] = Counter()
    counted: set[int] = set()
    largest = 0
    try:
        for subgraph in read_subgraphs(_load(path)):
            operators.update(operator.name for operator in subgraph.operators)
            integer.update(operator.name for operator in subgraph.operators if _is_integer(subgraph, operator))
            for how, values in _convolutions(subgraph):
                convolutions[how] += 1
                largest = max(largest, values) if how is _Computing.FLOAT else largest
            for tensor in subgraph.tensors:
                if tensor.constant and tensor.buffer not in counted:
                    counted.add(tensor.buffer)
                    weights[tensor.type] += tensor.values
    except FlatbufferError as problem:
        raise _damaged(path, problem) from None
    return OperatorCensus(
        dict(operators),
        dict(weights),
        transposes=sum(operators[name] for name in TRANSPOSES),
        integer_operators=dict(integer),
        integer_convolutions=convolutions[_Computing.INTEGER],
        dynamic_convolutions=convolutions[_Computing.DYNAMIC],
        weight_only_convolutions=convolutions[_Computing.WEIGHT_ONLY],
        float_convolutions=convolutions[_Computing.FLOAT],
        largest_float_convolution=largest,
    )


class _Computing(Enum):
    """How a convolution computes."""

    INTEGER = auto()
    DYNAMIC = auto()
    WEIGHT_ONLY = auto()
    FLOAT = auto()


def _convolutions(subgraph: TfliteSubgraph) -> Iterator[tuple[_Computing, int]]:
    """Yields how each convolution computes and how many weights it has."""
    widened = {
        output: subgraph.given(operator, 0)
        for operator in subgraph.operators
        if operator.name == "DEQUANTIZE"
        for output in operator.outputs
    }
    for operator in subgraph.operators:
        if operator.name not in CONVOLUTIONS:
            continue
        activation, weight = subgraph.given(operator, 0), subgraph.given(operator, 1)
        if activation is None or weight is None:
            raise FlatbufferError(f"it has a {operator.name} without weights")
        stored = widened.get(operator.inputs[1])
        if activation.type in INTEGERS:
            how = _Computing.INTEGER
        elif weight.type in WEIGHT_INTEGERS:
            how = _Computing.DYNAMIC
        elif stored is not None and stored.type in WEIGHT_INTEGERS:
            how = _Computing.WEIGHT_ONLY
        else:
            how = _Computing.FLOAT
        yield how, weight.values


def _is_integer(subgraph: TfliteSubgraph, operator: TfliteOperator) -> bool:
    """Returns whether an operator takes and gives integers that stand for real values."""
    taken = subgraph.given(operator, 0)
    given = [subgraph.tensors[number].type for number in operator.outputs if number != ABSENT]
    return taken is not None and taken.type in INTEGERS and bool(given) and INTEGERS.issuperset(given)


def _load(path: Path) -> Table:
    try:
        return Flatbuffer(path.read_bytes()).root(IDENTIFIER)
    except OSError as problem:
        raise ArtifactError(f"{path} cannot be read: {problem.strerror}.") from None


def _damaged(path: Path, problem: Exception) -> ArtifactError:
    return ArtifactError(f"{path} is not a TFLite file that can be read: {problem}; export it again.")
