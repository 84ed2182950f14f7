"""`write_rounded_tflite`: a copy of a TFLite file in which every step is rounded to half precision.

The steps themselves run in single precision: after each a few operators round what it gave, as a GPU delegate that
computes in half does it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from aml_edge.errors import MissingExtraError
from aml_edge.exporters.rounded_onnx import rounded_array
from aml_edge.formats.tflite_metadata import IDENTIFIER
from aml_edge.runtimes.half_rounding import SMALLEST_NORMAL_HALF


def write_rounded_tflite(source: Path, target: Path) -> None:
    """Writes the copy; weights and results too small for a normal half become zero, too large ones infinite."""
    try:
        import flatbuffers
        from ai_edge_litert import schema_py_generated as schema
    except ImportError:
        raise MissingExtraError("ai-edge-litert", "tflite", "half precision of a TFLite file") from None
    content = source.read_bytes()
    model = schema.ModelT.InitFromPackedBuf(bytearray(content), 0)
    for buffer in model.buffers:
        if buffer.offset > 1:  # weights that lie behind the flatbuffer; 0 and 1 mean that there are none
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    rounder = _Rounder(model, schema)
    for subgraph in model.subgraphs:
        rounder.round(subgraph)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), IDENTIFIER)
    target.write_bytes(bytes(builder.Output()))


class _Rounder:
    """Rounds the weights of a model's subgraphs, and adds to their operators those that round results.

    Args:
        model: a `ModelT`, changed in place.
        schema: the module that it comes from.
    """

    def __init__(self, model: Any, schema: Any) -> None:
        self._model, self._schema = model, schema
        self._codes = {name: self._add_code(name) for name in ("CAST", "ABS", "LESS", "SELECT_V2")}
        self._constants = [self._add_buffer(value) for value in (SMALLEST_NORMAL_HALF, 0.0)]

    def round(self, subgraph: Any) -> None:
        kinds = self._schema.TensorType
        for tensor in subgraph.tensors:
            buffer = self._model.buffers[tensor.buffer]
            if buffer.data is not None and len(buffer.data) and tensor.type in (kinds.FLOAT32, kinds.FLOAT16):
                stored = np.float32 if tensor.type == kinds.FLOAT32 else np.float16
                values = rounded_array(np.frombuffer(bytes(buffer.data), stored)).astype(stored)
                buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        weights = {place for place, tensor in enumerate(subgraph.tensors) if self._is_constant(tensor)}
        tiny, zero = (self._add_scalar(subgraph, buffer) for buffer in self._constants)
        operators, subgraph.operators = subgraph.operators, []
        for operator in operators:
            subgraph.operators.append(operator)
            widens_weights = set(operator.inputs) <= weights  # those were rounded where they are stored
            for number, place in enumerate(operator.outputs):
                result = subgraph.tensors[place]
                if result.type == kinds.FLOAT32 and not widens_weights:
                    operator.outputs[number] = exact = self._add_tensor(subgraph, result, kinds.FLOAT32, "exact")
                    subgraph.operators += self._steps(subgraph, exact, place, tiny, zero)

    def _steps(self, subgraph: Any, exact: int, place: int, tiny: int, zero: int) -> list[Any]:
        """Returns the operators that round the tensor `exact` into the tensor `place`."""
        kinds, result = self._schema.TensorType, subgraph.tensors[place]
        half = self._add_tensor(subgraph, result, kinds.FLOAT16, "half")
        single = self._add_tensor(subgraph, result, kinds.FLOAT32, "single")
        size = self._add_tensor(subgraph, result, kinds.FLOAT32, "size")
        flushed = self._add_tensor(subgraph, result, kinds.BOOL, "flushed")
        return [
            self._cast(exact, half, kinds.FLOAT32, kinds.FLOAT16),
            self._cast(half, single, kinds.FLOAT16, kinds.FLOAT32),
            self._operator("ABS", [single], size),
            self._operator("LESS", [size, tiny], flushed),
            self._operator("SELECT_V2", [flushed, zero, single], place),
        ]

    def _is_constant(self, tensor: Any) -> bool:
        data = self._model.buffers[tensor.buffer].data
        return data is not None and len(data) > 0

    def _cast(self, source: int, target: int, source_type: int, target_type: int) -> Any:
        operator = self._operator("CAST", [source], target)
        options = self._schema.CastOptionsT()
        options.inDataType, options.outDataType = source_type, target_type
        operator.builtinOptionsType, operator.builtinOptions = self._schema.BuiltinOptions.CastOptions, options
        return operator

    def _operator(self, name: str, inputs: list[int], output: int) -> Any:
        operator = self._schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = self._codes[name], inputs, [output]
        return operator

    def _add_code(self, name: str) -> int:
        code = self._schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(self._schema.BuiltinOperator, name)
        code.version = 1
        self._model.operatorCodes.append(code)
        return len(self._model.operatorCodes) - 1

    def _add_buffer(self, value: float) -> int:
        buffer = self._schema.BufferT()
        buffer.data = np.frombuffer(np.float32(value).tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        return len(self._model.buffers) - 1

    def _add_scalar(self, subgraph: Any, buffer: int) -> int:
        tensor = self._schema.TensorT()
        tensor.shape, tensor.type, tensor.buffer, tensor.name = [], self._schema.TensorType.FLOAT32, buffer, b"constant"
        tensor.hasRank = True
        subgraph.tensors.append(tensor)
        return len(subgraph.tensors) - 1

    def _add_tensor(self, subgraph: Any, like: Any, kind: int, suffix: str) -> int:
        tensor = self._schema.TensorT()
        tensor.shape, tensor.shapeSignature, tensor.hasRank = like.shape, like.shapeSignature, like.hasRank
        tensor.type, tensor.buffer, tensor.name = kind, 0, (like.name or b"") + f"/{suffix}".encode()
        subgraph.tensors.append(tensor)
        return len(subgraph.tensors) - 1
