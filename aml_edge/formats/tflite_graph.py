"""What a TFLite file computes: its operators and the tensors between them, every reference within bounds.

Source: TensorFlow Lite's schema (tensorflow/lite/schema/schema.fbs); slots below are those of its tables.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from aml_edge.errors import MissingExtraError
from aml_edge.formats.flatbuffer import FlatbufferError, Table
from aml_edge.formats.tflite_metadata import MODEL_BUFFERS, MODEL_SUBGRAPHS, SUBGRAPH_OPERATORS, extent_of

MODEL_OPERATOR_CODES = 1
CODE_DEPRECATED, CODE_CUSTOM, CODE_BUILTIN = 0, 1, 3
SUBGRAPH_TENSORS = 0
TENSOR_SHAPE, TENSOR_TYPE, TENSOR_BUFFER, TENSOR_NAME = 0, 1, 2, 3
OPERATOR_CODE, OPERATOR_INPUTS, OPERATOR_OUTPUTS = 0, 1, 2
ABSENT = -1
"""In place of a tensor that an operator could be given and is not."""


@dataclass(frozen=True)
class TfliteTensor:
    """A tensor of a subgraph.

    Args:
        table: where it stands in the file.
        shape: as it stands in the file.
        type: of its values, ``"float32"``, ``"int8"``, …
        buffer: number of the buffer that holds its values.
        extent: positions of its values' bytes, or None where the file does not hold them.
    """

    table: Table
    shape: tuple[int, ...]
    type: str
    buffer: int
    extent: range | None

    @property
    def constant(self) -> bool:
        """Whether the file holds its values."""
        return self.extent is not None

    @property
    def content(self) -> bytes:
        """The bytes of its values; none where the file does not hold them."""
        return b"" if self.extent is None else bytes(self.table.source.data[self.extent.start : self.extent.stop])

    @property
    def name(self) -> str:
        """Its name, which need not be unique."""
        return self.table.content(TENSOR_NAME).decode(errors="replace")

    @property
    def values(self) -> int:
        """The number of its values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class TfliteOperator:
    """An operator of a subgraph.

    Args:
        name: as LiteRT names it, e.g. ``"CONV_2D"``.
        inputs: numbers of the tensors that it takes, `ABSENT` for one that it is not given.
        outputs: numbers of the tensors that it gives.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class TfliteSubgraph:
    """A subgraph: operators, in the order in which they run, and the tensors between them."""

    tensors: tuple[TfliteTensor, ...]
    operators: tuple[TfliteOperator, ...]

    def given(self, operator: TfliteOperator, place: int) -> TfliteTensor | None:
        """Returns the tensor that an operator takes at a place, or None where it is not given one."""
        if place >= len(operator.inputs) or operator.inputs[place] == ABSENT:
            return None
        return self.tensors[operator.inputs[place]]


def read_subgraphs(model: Table) -> tuple[TfliteSubgraph, ...]:
    """Returns the subgraphs of a model.

    Raises:
        FlatbufferError: the bytes refer to what is not there.
        MissingExtraError: LiteRT, whose names they are, is not installed.
    """
    try:
        from ai_edge_litert.schema_py_generated import BuiltinOperator, TensorType
    except ImportError:
        raise MissingExtraError("ai-edge-litert", "tflite", "counting the operators of a TFLite file") from None
    names, types = _operator_names(model, _names(BuiltinOperator)), _names(TensorType)
    extents = [extent_of(buffer) for buffer in model.tables(MODEL_BUFFERS)]
    return tuple(_subgraph(table, names, types, extents) for table in model.tables(MODEL_SUBGRAPHS))


def _subgraph(table: Table, names: list[str], types: dict[int, str], extents: list[range | None]) -> TfliteSubgraph:
    tensors = tuple(_tensor(one, types, extents) for one in table.tables(SUBGRAPH_TENSORS))
    operators = []
    for one in table.tables(SUBGRAPH_OPERATORS):
        code = one.unsigned(OPERATOR_CODE, 4)
        inputs, outputs = tuple(one.integers(OPERATOR_INPUTS)), tuple(one.integers(OPERATOR_OUTPUTS))
        if code >= len(names):
            raise FlatbufferError(f"it refers to operator code {code} of {len(names)}")
        for number in (*inputs, *outputs):
            if not ABSENT <= number < len(tensors):
                raise FlatbufferError(f"it refers to tensor {number} of {len(tensors)}")
        operators.append(TfliteOperator(names[code], inputs, outputs))
    return TfliteSubgraph(tensors, tuple(operators))


def _tensor(table: Table, types: dict[int, str], extents: list[range | None]) -> TfliteTensor:
    number, buffer = table.unsigned(TENSOR_TYPE, 1), table.unsigned(TENSOR_BUFFER, 4)
    if number not in types:
        raise FlatbufferError(f"it has a tensor of type {number}, which LiteRT does not know")
    if buffer >= len(extents):
        raise FlatbufferError(f"it refers to buffer {buffer} of {len(extents)}")
    return TfliteTensor(table, tuple(table.integers(TENSOR_SHAPE)), types[number].lower(), buffer, extents[buffer])


def _operator_names(model: Table, builtin: dict[int, str]) -> list[str]:
    names = []
    for code in model.tables(MODEL_OPERATOR_CODES):
        number = max(code.unsigned(CODE_DEPRECATED, 1), code.unsigned(CODE_BUILTIN, 4))
        if number not in builtin:
            raise FlatbufferError(f"it has an operator {number}, which LiteRT does not know")
        name = builtin[number]
        names.append(code.content(CODE_CUSTOM).decode(errors="replace") if name == "CUSTOM" else name)
    return names


def _names(enumeration: type) -> dict[int, str]:
    """Returns the names of an enumeration of LiteRT's schema by their numbers."""
    return {number: name for name, number in vars(enumeration).items() if not name.startswith("_")}
