"""`MilProgram`: the ML program of a Core ML package, read without coremltools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aml_edge.formats.mil_values import Constant, MilProgramError, WeightFiles, constant_of, dtype_of, shape_of
from aml_edge.formats.mlpackage import damaged, load_model

MAIN = "main"
NAME = "name"
COLOURS = {20: "RGB", 30: "BGR"}
"""`ImageFeatureType.ColorSpace` of FeatureTypes.proto."""


@dataclass(frozen=True)
class MilVariable:
    """A result of an operation, or an input of the program."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Reference:
    """An argument that is an earlier result, by its name."""

    name: str


@dataclass(frozen=True)
class MilOperation:
    """One step of a program.

    Args:
        type: as the format names it, e.g. ``"conv"``.
        name: of this one.
        arguments: by name; several values where the argument is a list.
        outputs: what it results in.
    """

    type: str
    name: str
    arguments: Mapping[str, tuple[Reference | Constant, ...]]
    outputs: tuple[MilVariable, ...]


@dataclass(frozen=True)
class ImageInput:
    """An input that a caller gives as an image; the program sees it as (1, 3, H, W) float32 of 0 to 255.

    Args:
        name: of the program's input.
        height, width: px.
        colours: ``"RGB"``, ``"BGR"``, or else the format's number of its kind.
    """

    name: str
    height: int
    width: int
    colours: str


@dataclass(frozen=True)
class MilProgram:
    """The main function of an ML program: operations in the order in which they run.

    Args:
        images: those of the inputs that are images.
        inputs, operations: as the program has them.
        outputs: names of results.
    """

    images: tuple[ImageInput, ...]
    inputs: tuple[MilVariable, ...]
    operations: tuple[MilOperation, ...]
    outputs: tuple[str, ...]


def load_program(package: Path) -> MilProgram:
    """Returns the program of a package; raises `ArtifactError` where there is none that can be read."""
    model = load_model(package)
    functions = model.mlProgram.functions
    if MAIN not in functions:
        raise damaged(package, f"it has no function '{MAIN}'")
    function = functions[MAIN]
    blocks = function.block_specializations
    if function.opset not in blocks:
        raise damaged(package, f"it has no block for its opset {function.opset!r}")
    block = blocks[function.opset]
    weights = WeightFiles(package)
    try:
        inputs = tuple(_variable(entry) for entry in function.inputs)
    except MilProgramError as problem:
        raise damaged(package, f"an input is not as it should be: {problem}") from None
    operations: list[MilOperation] = []
    for message in block.operations:
        try:
            operations.append(_operation(message, weights))
        except MilProgramError as problem:
            names = ", ".join(output.name for output in message.outputs)
            raise damaged(package, f"{names!r} ({message.type!r}) is not as it should be: {problem}") from None
    return MilProgram(_images(model), inputs, tuple(operations), tuple(block.outputs))


def _images(model: Any) -> tuple[ImageInput, ...]:
    images = {entry.name: entry.type.imageType for entry in model.description.input if entry.type.HasField("imageType")}
    return tuple(
        ImageInput(name, image.height, image.width, COLOURS.get(image.colorSpace, str(image.colorSpace)))
        for name, image in images.items()
    )


def _operation(message: Any, weights: WeightFiles) -> MilOperation:
    if not message.type.isidentifier():
        raise MilProgramError("its type is no name")
    attributes = {name: (constant_of(value, weights),) for name, value in message.attributes.items()}
    (name,) = attributes.pop(NAME, ("",))
    inputs = {
        argument: tuple(_binding(binding, weights) for binding in bindings.arguments)
        for argument, bindings in message.inputs.items()
    }
    outputs = tuple(_variable(output) for output in message.outputs)
    return MilOperation(message.type, str(name), attributes | inputs, outputs)


def _binding(binding: Any, weights: WeightFiles) -> Reference | Constant:
    return constant_of(binding.value, weights) if binding.HasField("value") else Reference(binding.name)


def _variable(entry: Any) -> MilVariable:
    return MilVariable(entry.name, dtype_of(entry.type), shape_of(entry.type))
