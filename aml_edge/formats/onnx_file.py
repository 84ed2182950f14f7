"""ONNX files: the manifest in `metadata_props`, and what the graph holds."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from aml_edge.errors import ArtifactError
from aml_edge.files import written_atomically
from aml_edge.formats.census import OperatorCensus
from aml_edge.formats.onnx_integers import count_integers
from aml_edge.formats.protobuf_wire import WireError, content_without_entry

if TYPE_CHECKING:
    from onnx import FunctionProto, GraphProto, ModelProto

MANIFEST_KEY = "aml-edge.manifest"
METADATA_PROPS = 14
"""Number of the field `metadata_props` of ONNX's `ModelProto`."""
CONSTANTS = {"Constant"}
TRANSPOSES = {"Transpose"}


def read_manifest(path: Path) -> str | None:
    """Returns the manifest's text, or None where the file carries none; `ArtifactError` where it is no ONNX file."""
    return {entry.key: entry.value for entry in _load(path).metadata_props}.get(MANIFEST_KEY)


def write_manifest(path: Path, text: str) -> None:
    """Puts the manifest's text into the file, atomically."""
    model = _load(path)
    others = [entry for entry in model.metadata_props if entry.key != MANIFEST_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(others)
    model.metadata_props.add(key=MANIFEST_KEY, value=text)
    with written_atomically(path) as partial:
        partial.write_bytes(model.SerializeToString())


def hash_content(path: Path) -> str:
    """Returns the SHA-256 of the file's bytes without those of the manifest; raises `ArtifactError`."""
    digest = hashlib.sha256()
    try:
        for part in content_without_entry(path.read_bytes(), (METADATA_PROPS,), MANIFEST_KEY.encode()):
            digest.update(part)
    except (WireError, OSError) as problem:
        raise _unreadable(path, problem) from None
    return digest.hexdigest()


def take_census(path: Path) -> OperatorCensus:
    """Returns the counts of the graph's nodes (functions and subgraphs too), of its initialisers, of what is integer.

    Raises:
        ArtifactError: it is no ONNX file, or an initialiser's dtype is none of ONNX's.
    """
    import onnx

    model = _load(path)
    operators: Counter[str] = Counter()
    weights: Counter[str] = Counter()
    for body in _bodies(model):
        operators.update(node.op_type for node in body.node if node.op_type not in CONSTANTS)
        for weight in body.initializer if isinstance(body, onnx.GraphProto) else ():
            try:
                dtype = str(onnx.helper.tensor_dtype_to_np_dtype(weight.data_type))
            except KeyError:
                raise ArtifactError(
                    f"{path} has an initialiser {weight.name!r} of dtype {weight.data_type}, which ONNX does not have; "
                    "export it again."
                ) from None
            weights[dtype] += math.prod(weight.dims)
    integers = count_integers(_bodies(model))
    return OperatorCensus(
        dict(operators),
        dict(weights),
        sum(operators[name] for name in TRANSPOSES),
        integer_operators=integers.operators,
        integer_convolutions=integers.integer,
        dynamic_convolutions=integers.dynamic,
        weight_only_convolutions=integers.weight_only,
        float_convolutions=len(integers.float_weights),
        largest_float_convolution=max(integers.float_weights, default=0),
    )


def _bodies(model: ModelProto) -> Iterator[GraphProto | FunctionProto]:
    waiting: list[GraphProto | FunctionProto] = [model.graph, *model.functions]
    while waiting:
        body = waiting.pop()
        yield body
        for node in body.node:
            for attribute in node.attribute:
                waiting.extend(attribute.graphs)
                if attribute.HasField("g"):
                    waiting.append(attribute.g)


def _load(path: Path) -> ModelProto:
    import onnx
    from google.protobuf.message import DecodeError

    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except (DecodeError, OSError) as problem:
        raise _unreadable(path, problem) from None
    if not model.graph.node:
        raise ArtifactError(f"{path} is not an ONNX file: it holds no graph; export it again.")
    return model


def _unreadable(path: Path, problem: Exception) -> ArtifactError:
    return ArtifactError(f"{path} is not an ONNX file that can be read: {problem}; export it again.")
