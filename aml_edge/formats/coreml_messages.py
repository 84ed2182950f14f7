"""The part of Core ML's protobuf messages that aml-edge reads, so that a file can be read without coremltools.

What is not named here stays as it is when a message is read and written again: protobuf keeps unknown fields.

Source: Core ML's model format (Model.proto, FeatureTypes.proto, MIL.proto), https://apple.github.io/coremltools/mlmodel/.
"""

from __future__ import annotations

from functools import cache
from typing import Any

PACKAGE = "aml_edge.coreml"

# Message → "number type name" of each field; "*" marks repeated ones, "map" those keyed by a string.
MESSAGES: dict[str, tuple[str, ...]] = {
    "Model": ("1 int32 specificationVersion", "2 ModelDescription description", "502 Program mlProgram"),
    "ModelDescription": ("1 FeatureDescription* input", "10 FeatureDescription* output", "100 Metadata metadata"),
    "Metadata": ("100 map:string userDefined",),
    "FeatureDescription": ("1 string name", "3 FeatureType type"),
    "FeatureType": ("4 ImageFeatureType imageType", "5 ArrayFeatureType multiArrayType"),
    "ImageFeatureType": ("1 int64 width", "2 int64 height", "3 int32 colorSpace"),
    "ArrayFeatureType": ("1 int64* shape", "2 int32 dataType"),
    "Program": ("1 int64 version", "2 map:Function functions", "4 map:Value attributes"),
    "Function": (
        "1 NamedValueType* inputs",
        "2 string opset",
        "3 map:Block block_specializations",
        "4 map:Value attributes",
    ),
    "Block": (
        "1 NamedValueType* inputs",
        "2 string* outputs",
        "3 Operation* operations",
        "4 map:Value attributes",
    ),
    "Operation": (
        "1 string type",
        "2 map:Argument inputs",
        "3 NamedValueType* outputs",
        "4 Block* blocks",
        "5 map:Value attributes",
    ),
    "Argument": ("1 Binding* arguments",),
    "Binding": ("1 string name", "2 Value value"),
    "NamedValueType": ("1 string name", "2 ValueType type"),
    "ValueType": ("1 TensorType tensorType",),
    "TensorType": ("1 int32 dataType", "2 int64 rank", "3 Dimension* dimensions"),
    "Dimension": ("1 ConstantDimension constant",),
    "ConstantDimension": ("1 uint64 size",),
    "Value": ("2 ValueType type", "3 ImmediateValue immediateValue", "5 BlobFileValue blobFileValue"),
    "ImmediateValue": ("1 TensorValue tensor",),
    "BlobFileValue": ("1 string fileName", "2 uint64 offset"),
    "TensorValue": (
        "1 RepeatedFloats floats",
        "2 RepeatedInts ints",
        "3 RepeatedBools bools",
        "4 RepeatedStrings strings",
        "5 RepeatedLongInts longInts",
        "6 RepeatedDoubles doubles",
        "7 RepeatedBytes bytes",
    ),
    "RepeatedFloats": ("1 float* values",),
    "RepeatedInts": ("1 int32* values",),
    "RepeatedBools": ("1 bool* values",),
    "RepeatedStrings": ("1 string* values",),
    "RepeatedLongInts": ("1 int64* values",),
    "RepeatedDoubles": ("1 double* values",),
    "RepeatedBytes": ("1 bytes values",),
}


def parse_model(content: bytes) -> Any:
    """Returns the message `Model` of a ``.mlmodel`` file's bytes; protobuf's `DecodeError` where they are none."""
    model = _model_class()()
    model.ParseFromString(content)
    return model


def dump_model(model: Any) -> bytes:
    """Returns the bytes of a message `Model`; equal messages give equal bytes."""
    content: bytes = model.SerializeToString(deterministic=True)
    return content


@cache
def _model_class() -> Any:
    from google.protobuf.descriptor_pb2 import FileDescriptorProto
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message_factory import GetMessageClass

    file = FileDescriptorProto(name="aml_edge_coreml.proto", package=PACKAGE, syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in fields:
            _add_field(message, *field.split())
    pool = DescriptorPool()  # coremltools registers its own messages in the default one
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.Model"))


def _add_field(message: Any, number: str, kind: str, name: str) -> None:
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto

    single, repeated = FieldDescriptorProto.LABEL_OPTIONAL, FieldDescriptorProto.LABEL_REPEATED
    if kind.startswith("map:"):
        entry = message.nested_type.add(name=name[0].upper() + name[1:].replace("_s", "S") + "Entry")
        entry.options.map_entry = True
        _add_field(entry, "1", "string", "key")
        _add_field(entry, "2", kind.removeprefix("map:"), "value")
        message.field.add(
            name=name, number=int(number), label=repeated, type=FieldDescriptorProto.TYPE_MESSAGE, type_name=entry.name
        )
        return
    label = repeated if kind.endswith("*") else single
    kind = kind.removesuffix("*")
    if kind in MESSAGES:
        kinds = {"type": FieldDescriptorProto.TYPE_MESSAGE, "type_name": f".{PACKAGE}.{kind}"}
    else:
        kinds = {"type": FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")}
    message.field.add(name=name, number=int(number), label=label, **kinds)
