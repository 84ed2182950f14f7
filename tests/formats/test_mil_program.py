"""Programs and their constants, beside coremltools' own reading of them, and broken."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aml_edge.errors import ArtifactError
from aml_edge.formats.coreml_messages import dump_model
from aml_edge.formats.mil_program import ImageInput, MilOperation, MilVariable, Reference, load_program
from aml_edge.formats.mlpackage import load_model, model_file, weight_file

WEIGHTS = "@model_path/weights/weight.bin"
DATA = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
QUANTISED = np.arange(-20, 20, dtype=np.int8).reshape(4, 10)


@pytest.fixture
def package(mil_package: Callable[..., Path]) -> Path:
    """Constants of each kind: in the weight file and in the model."""

    def build(mb: Any, image: Any) -> Any:
        convolved = mb.conv(x=image, weight=DATA, bias=np.array([0.5, -1], np.float32), name="c")
        mean = mb.cast(x=mb.reduce_mean(x=convolved, axes=[2, 3], keep_dims=False, name="m"), dtype="fp16", name="h")
        scaled = mb.mul(x=mean, y=np.float16(0.1), name="s")
        weight = mb.constexpr_affine_dequantize(
            quantized_data=QUANTISED, zero_point=np.int8(3), scale=np.float16(0.5), axis=0, name="q"
        )
        padded = mb.pad(x=scaled, pad=[0, 0, 1, 1], name="p")
        return mb.matmul(x=padded, y=weight, name="y"), mb.concat(values=[scaled, scaled], axis=1, name="z")

    return mil_package(build, {"image": (1, 3, 5, 6)}, colours="BGR")


def operations(package: Path) -> dict[str, MilOperation]:
    """Returns the operations of a package by the name of their first result."""
    return {operation.outputs[0].name: operation for operation in load_program(package).operations}


def edit(package: Path, change: Callable[[Any, dict[str, Any]], None]) -> None:
    """Changes a package's function, and its operations by the name of their first result."""
    model = load_model(package)
    function = model.mlProgram.functions["main"]
    block = function.block_specializations[function.opset]
    change(function, {operation.outputs[0].name: operation for operation in block.operations})
    model_file(package).write_bytes(dump_model(model))


def refusal(package: Path) -> str:
    with pytest.raises(ArtifactError, match="is not a Core ML package that can be read: ") as caught:
        load_program(package)
    return str(caught.value)


def test_reads_inputs_and_outputs(package: Path) -> None:
    program = load_program(package)
    assert program.images == (ImageInput("image", 5, 6, "BGR"),)
    assert program.inputs == (MilVariable("image", "float32", (1, 3, 5, 6)),)
    assert program.outputs == ("y", "z")


def test_reads_operations_in_order(package: Path) -> None:
    steps = [operation for operation in load_program(package).operations if operation.type != "const"]
    assert [step.type for step in steps] == [
        "conv", "reduce_mean", "cast", "mul", "constexpr_affine_dequantize", "pad", "matmul", "concat"
    ]  # fmt: skip
    assert steps[0].name == "c"
    assert steps[0].outputs == (MilVariable("c", "float32", (1, 2, 4, 5)),)
    assert steps[0].arguments["x"] == (Reference("image"),)
    assert steps[-1].arguments["values"] == (Reference("s"), Reference("s"))
    assert steps[3].outputs == (MilVariable("s", "float16", (1, 2)),)


def test_constants_are_coremltools_own(package: Path) -> None:
    read = operations(package)
    values: dict[str, Any] = {name: read[name].arguments["val"][0] for name in read if read[name].type == "const"}
    assert np.array_equal(values["c_weight_0"], DATA)
    assert values["c_weight_0"].dtype == np.float32
    assert values["c_bias_0"].tolist() == [0.5, -1]
    assert values["c_strides_0"].tolist() == [1, 1]
    assert values["c_pad_type_0"] == "valid"
    assert values["c_groups_0"] == 1
    assert values["m_keep_dims_0"].dtype == np.bool_
    assert values["m_keep_dims_0"] == np.False_
    assert values["s_y_0"].dtype == np.float16
    assert values["s_y_0"] == np.float16(0.1)
    (quantised,) = read["q"].arguments["quantized_data"]
    assert isinstance(quantised, np.ndarray)
    assert np.array_equal(quantised, QUANTISED)
    (zero_point,) = read["q"].arguments["zero_point"]
    assert isinstance(zero_point, np.ndarray)
    assert zero_point.dtype == np.int8
    assert zero_point.tolist() == 3


def test_an_unknown_function_or_block_is_refused(package: Path) -> None:
    def rename_opset(function: Any, _: dict[str, Any]) -> None:
        function.opset = "CoreML99"

    edit(package, rename_opset)
    assert "it has no block for its opset 'CoreML99'" in refusal(package)
    model = load_model(package)
    model.mlProgram.functions["other"].CopyFrom(model.mlProgram.functions["main"])
    del model.mlProgram.functions["main"]
    model_file(package).write_bytes(dump_model(model))
    assert "it has no function 'main'" in refusal(package)


def set_offset(name: str, offset: int) -> Callable[[Any, dict[str, Any]], None]:
    def change(function: Any, named: dict[str, Any]) -> None:
        named[name].attributes["val"].blobFileValue.offset = offset

    return change


def set_dtype(name: str, number: int) -> Callable[[Any, dict[str, Any]], None]:
    def change(function: Any, named: dict[str, Any]) -> None:
        named[name].attributes["val"].type.tensorType.dataType = number

    return change


def set_size(name: str, size: int) -> Callable[[Any, dict[str, Any]], None]:
    def change(function: Any, named: dict[str, Any]) -> None:
        named[name].attributes["val"].type.tensorType.dimensions[0].constant.size = size

    return change


def clear_type(name: str) -> Callable[[Any, dict[str, Any]], None]:
    def change(function: Any, named: dict[str, Any]) -> None:
        named[name].attributes["val"].type.Clear()

    return change


def open_size(name: str) -> Callable[[Any, dict[str, Any]], None]:
    def change(function: Any, named: dict[str, Any]) -> None:
        named[name].outputs[0].type.tensorType.dimensions[0].Clear()

    return change


def open_input(function: Any, named: dict[str, Any]) -> None:
    function.inputs[0].type.tensorType.dimensions[2].Clear()


def negative_as_unsigned(function: Any, named: dict[str, Any]) -> None:
    value = named["c_strides_0"].attributes["val"]
    value.type.tensorType.dataType = 32
    value.immediateValue.tensor.ints.values[:] = [-1, 1]


def not_a_number(function: Any, named: dict[str, Any]) -> None:
    tensor = named["c_strides_0"].attributes["val"].immediateValue.tensor
    tensor.ClearField("ints")
    tensor.floats.values[:] = [float("nan"), 1.0]


def two_texts(function: Any, named: dict[str, Any]) -> None:
    named["c_pad_type_0"].attributes["val"].immediateValue.tensor.strings.values.append("same")


def set_type(words: str) -> Callable[[Any, dict[str, Any]], None]:
    def change(function: Any, named: dict[str, Any]) -> None:
        named["c"].type = words

    return change


def no_value(function: Any, named: dict[str, Any]) -> None:
    named["c_strides_0"].attributes["val"].ClearField("immediateValue")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            set_offset("c_weight_0", 2**63),
            "'c_weight_0' ('const') is not as it should be: it refers to byte 9223372036",
        ),
        (set_offset("c_weight_0", 65), "no values start at byte 65 of the weight file"),
        (set_dtype("c_weight_0", 10), "the weight file holds dtype number 2 for it, not float16"),
        (set_dtype("c_strides_0", 99), "its dtype, number 99, is not known"),
        (set_dtype("c_strides_0", 25), "its dtype, int4, is not known"),
        (set_size("c_weight_0", 3), "96 bytes for float32 of shape (3, 3, 2, 2)"),
        (set_size("c_weight_0", 2**63), "96 bytes for float32 of shape (9223372036854775808, 3, 2, 2)"),
        (set_size("c_strides_0", 1), "8 bytes for int32 of shape (1,)"),
        (
            set_type("conv\nnothing happened"),
            r"'c' ('conv\nnothing happened') is not as it should be: its type is no name",
        ),
        (set_type(""), "'c' ('') is not as it should be: its type is no name"),
        (no_value, "0 bytes for int32 of shape (2,)"),
        (clear_type("c_strides_0"), "it is no tensor"),
        (open_size("m"), "'m' ('reduce_mean') is not as it should be: a size of its shape is not fixed"),
        (open_input, "an input is not as it should be: a size of its shape is not fixed"),
        (negative_as_unsigned, "out of bounds for uint16"),
        (not_a_number, "cannot convert float NaN to integer"),
        (two_texts, "2 texts of shape (), where one is expected"),
    ],
)
def test_what_is_not_as_it_should_be_is_named(
    package: Path, change: Callable[[Any, dict[str, Any]], None], message: str
) -> None:
    edit(package, change)
    assert message in refusal(package)


def test_weights_that_go_beyond_their_file_are_refused(package: Path) -> None:
    file = weight_file(package, WEIGHTS)
    whole = file.read_bytes()
    for length in range(0, len(whole), 32):
        file.write_bytes(whole[:length])
        if length < len(whole) - 64:  # the last values end before the file does
            assert " is not as it should be: " in refusal(package)
    file.write_bytes(whole[:80] + struct.pack("<Q", 2**63) + whole[88:])
    assert "it refers to byte 92233720368" in refusal(package)


def test_a_weight_file_that_is_missing_or_a_link_outside_is_refused(package: Path, tmp_path: Path) -> None:
    file = weight_file(package, WEIGHTS)
    (tmp_path / "elsewhere.bin").write_bytes(file.read_bytes())
    file.unlink()
    assert f"it lacks '{WEIGHTS}'" in refusal(package)
    file.symlink_to(tmp_path / "elsewhere.bin")
    assert f"its '{WEIGHTS}' leads outside of it" in refusal(package)
