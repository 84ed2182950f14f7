"""A TFLite file without what it holds many times: equal vectors are stored once, names without all their classes.

LiteRT wants a zero point beside every scale, eight bytes each, of which a file in integers has tens of thousands that
are all zero; and the converter names a tensor by the classes of all modules around it, a fused one several times over.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np

from aml_edge.formats.flatbuffer import Flatbuffer
from aml_edge.formats.tflite_metadata import IDENTIFIER, MODEL_BUFFERS, extent_of

_ALIGNMENT = 16
"""Of a buffer's bytes, as the schema asks."""
_CLASS = re.compile(r"(?:\w+\.)+(?:_?[A-Z][A-Za-z0-9]*_?)")
"""Of a module, before its name: the converter writes ``torch.nn.modules.conv.Conv2d_conv_pw``."""


def without_repetition(model: bytes) -> bytes:
    """Returns a TFLite file that computes the same; the same input gives the same bytes.

    Equal vectors share their bytes, as FlatBuffers allows, and all of them are inside of the FlatBuffer. Tensors other
    than inputs and outputs are named by their modules.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    class SharingBuilder(flatbuffers.Builder):  # type: ignore[misc]
        """Writes each vector of numbers once."""

        def __init__(self) -> None:
            super().__init__(len(model))
            self._places: dict[tuple[str, bytes], int] = {}

        def StartVector(self, elemSize: int, numElems: int, alignment: int) -> Any:
            return super().StartVector(elemSize, numElems, _ALIGNMENT if elemSize == 1 else alignment)

        def CreateNumpyVector(self, x: np.ndarray[Any, Any]) -> int:
            key = (x.dtype.str, x.tobytes())
            if key not in self._places:
                self._places[key] = super().CreateNumpyVector(x)
            return self._places[key]

    parsed = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    tables = Flatbuffer(model).root(IDENTIFIER).tables(MODEL_BUFFERS)
    for buffer, table in zip(parsed.buffers, tables, strict=True):
        extent = extent_of(table)
        buffer.offset, buffer.size = 0, 0
        buffer.data = None if extent is None else np.frombuffer(model, np.uint8, len(extent), extent.start)
    for subgraph in parsed.subgraphs:
        _rename(subgraph)
    builder = SharingBuilder()
    builder.Finish(parsed.Pack(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def _rename(subgraph: Any) -> None:
    """Gives each tensor that is no input or output a short name of its own."""
    outside = {*subgraph.inputs, *subgraph.outputs}
    taken: Counter[str] = Counter()
    for number, tensor in enumerate(subgraph.tensors):
        if number not in outside:
            name = short_name(tensor.name.decode())
            taken[name] += 1
            tensor.name = (name if taken[name] == 1 else f"{name}#{taken[name]}").encode()


def short_name(name: str) -> str:
    """Returns a tensor's name with the modules' names only, of what is fused the first, e.g. ``"blocks/1/conv_pw"``."""
    modules = (_CLASS.sub("", part) for part in re.split(";+", name)[0].split("/"))
    return "/".join(module for module in modules if module)
