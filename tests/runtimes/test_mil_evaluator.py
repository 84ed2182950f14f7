"""Rounding as the program types it, and programs that cannot be run."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from aml_edge.errors import ArtifactError, UnknownOperatorError
from aml_edge.formats.coreml_messages import dump_model
from aml_edge.formats.mil_program import load_program
from aml_edge.formats.mlpackage import load_model, model_file
from aml_edge.runtimes.mil_evaluator import MilEvaluator

MilPackage = Callable[..., Path]
Change = Callable[[dict[str, Any]], None]

VALUES = np.array([0.1, 1 / 3, 2.5, 1000.3, 60000.0, -7.7, 0.0], np.float32)


def run(package: Path, values: npt.NDArray[np.float32]) -> list[npt.NDArray[Any]]:
    """Returns the outputs of a program of one input `x`, in order."""
    program = load_program(package)
    outputs = MilEvaluator(program, str(package)).run({"x": torch.from_numpy(values)})
    return [outputs[name].numpy() for name in program.outputs]


def changed(package: Path, change: Change) -> Path:
    """Changes the operations of a package's main function, which are given by the name of their first result."""
    model = load_model(package)
    function = model.mlProgram.functions["main"]
    operations = function.block_specializations[function.opset].operations
    change({operation.outputs[0].name: operation for operation in operations})
    model_file(package).write_bytes(dump_model(model))
    return package


def refusal(package: Path) -> str:
    """Returns the message with which a program is refused."""
    with pytest.raises(ArtifactError) as caught:
        MilEvaluator(load_program(package), "the.mlpackage")
    return str(caught.value)


def test_each_step_typed_half_is_rounded_to_half(mil_package: MilPackage) -> None:
    def build(mb: Any, x: Any) -> Any:
        half = mb.cast(x=x, dtype="fp16")
        third = mb.mul(x=half, y=np.float16(1 / 3))
        return mb.cast(x=mb.add(x=third, y=half), dtype="fp32")

    (result,) = run(mil_package(build, {"x": (7,)}), VALUES)
    half = VALUES.astype(np.float16)
    with np.errstate(over="ignore"):
        expected = half * np.float16(1 / 3) + half  # NumPy rounds to half after each of the two
    assert expected.dtype == np.float16
    assert np.isinf(expected).any()
    assert np.array_equal(result, expected.astype(np.float32))


def test_steps_typed_single_are_not_rounded(mil_package: MilPackage) -> None:
    (result,) = run(mil_package(lambda mb, x: mb.mul(x=x, y=np.float32(1 / 3)), {"x": (7,)}), VALUES)
    assert np.array_equal(result, VALUES * np.float32(1 / 3))


def test_what_half_cannot_hold_becomes_infinite_or_zero(mil_package: MilPackage) -> None:
    def build(mb: Any, x: Any) -> Any:
        half = mb.cast(x=x, dtype="fp16")
        return mb.cast(x=mb.mul(x=half, y=half), dtype="fp32"), mb.cast(
            x=mb.mul(x=half, y=np.float16(3e-5)), dtype="fp32"
        )

    squares, small = run(mil_package(build, {"x": (3,)}), np.array([300.0, 0.007, 2.0], np.float32))
    assert squares.tolist() == [np.inf, 0.0, 4.0]
    assert small.tolist() == [0.0, 0.0, 0.0]  # the constant is below the normal numbers already


def test_a_sum_is_rounded_once(mil_package: MilPackage) -> None:
    build = lambda mb, x: mb.cast(x=mb.reduce_sum(x=mb.cast(x=x, dtype="fp16"), axes=[0]), dtype="fp32")  # noqa: E731
    (result,) = run(mil_package(build, {"x": (4096,)}), np.ones(4096, np.float32))
    assert result == 4096.0  # half added to half stops at 2048


def test_operators_that_are_not_known_are_named(mil_package: MilPackage) -> None:
    package = mil_package(lambda mb, x: mb.sin(x=mb.cumsum(x=mb.sin(x=x), axis=0)), {"x": (3,)})
    with pytest.raises(UnknownOperatorError) as caught:
        MilEvaluator(load_program(package), "the.mlpackage")
    assert str(caught.value) == (
        "the.mlpackage uses operators that the evaluator does not know: cumsum, sin; "
        "add them to aml_edge/runtimes/mil_operators.py, or run the file on a Mac."
    )


@pytest.mark.parametrize("axis", [0, 1])
def test_unpacks_linearly_quantised_weights(mil_package: MilPackage, axis: int) -> None:
    data = np.array([[-128, 0, 5], [127, -3, 64]], np.int8)
    scale = np.array([0.5, 0.25, 2.0][: data.shape[axis]], np.float32)
    zero_point = np.array([1, -2, 3][: data.shape[axis]], np.int8)

    def build(mb: Any, x: Any) -> Any:
        weight = mb.constexpr_affine_dequantize(quantized_data=data, zero_point=zero_point, scale=scale, axis=axis)
        return mb.add(x=x, y=weight)

    (result,) = run(mil_package(build, {"x": (2, 3)}), np.zeros((2, 3), np.float32))
    along = (-1, 1) if axis == 0 else (1, -1)
    assert np.array_equal(result, scale.reshape(along) * (data - zero_point.astype(np.float32).reshape(along)))


@pytest.mark.parametrize("width", [1, 2, 4, 6, 8])
def test_unpacks_palettes(mil_package: MilPackage, width: int) -> None:
    generator = np.random.default_rng(width)
    table = generator.normal(size=2**width).astype(np.float32)
    places = generator.integers(0, 2**width, size=(3, 5))
    bits = "".join(f"{place:0{width}b}"[::-1] for place in places.ravel())  # least significant first
    padded = bits.ljust(-(-len(bits) // 8) * 8, "0")
    packed = np.array([int(padded[start : start + 8][::-1], 2) for start in range(0, len(padded), 8)], np.uint8)

    def build(mb: Any, x: Any) -> Any:
        return mb.add(x=x, y=mb.constexpr_lut_to_dense(indices=packed, lut=table, shape=np.array([3, 5], np.uint32)))

    (result,) = run(mil_package(build, {"x": (3, 5)}), np.zeros((3, 5), np.float32))
    assert np.array_equal(result, table[places])


def test_unpacks_sparse_and_narrow_weights(mil_package: MilPackage) -> None:
    kept = np.array([1.5, -2.0, 0.25], np.float32)
    mask = np.array([0b01000101, 0b0], np.uint8)  # places 0, 2 and 6 of nine

    def build(mb: Any, x: Any) -> Any:
        sparse = mb.constexpr_sparse_to_dense(nonzero_data=kept, mask=mask, shape=np.array([3, 3], np.uint32))
        narrow = mb.constexpr_cast(source_val=np.full((3, 3), 0.1, np.float16), output_dtype="fp32")
        return mb.add(x=x, y=sparse), mb.add(x=x, y=narrow)

    sparse, narrow = run(mil_package(build, {"x": (3, 3)}), np.zeros((3, 3), np.float32))
    assert sparse.tolist() == [[1.5, 0, -2], [0, 0, 0], [0.25, 0, 0]]
    assert (narrow == np.float32(np.float16(0.1))).all()


@pytest.fixture
def small(mil_package: MilPackage) -> Path:
    """A convolution, a padding, a tile and a mean, each with a name."""

    def build(mb: Any, x: Any) -> Any:
        convolved = mb.conv(
            x=x, weight=np.ones((4, 3, 3, 3), np.float32), pad_type="custom", pad=[1, 1, 1, 1], name="c"
        )
        padded = mb.pad(x=convolved, pad=[0, 0, 0, 0, 1, 0, 1, 0], name="p")
        return mb.reduce_mean(x=mb.tile(x=padded, reps=[1, 2, 1, 1], name="t"), axes=[2, 3], name="m")

    return mil_package(build, {"x": (1, 3, 8, 8)})


def set_integers(name: str, *values: int) -> Change:
    def change(operations: dict[str, Any]) -> None:
        operations[name].attributes["val"].immediateValue.tensor.ints.values[:] = values

    return change


def set_shape(name: str, *sizes: int) -> Change:
    def change(operations: dict[str, Any]) -> None:
        for dimension, size in zip(operations[name].outputs[0].type.tensorType.dimensions, sizes, strict=True):
            dimension.constant.size = size

    return change


def rename_argument(name: str, argument: str, other: str) -> Change:
    def change(operations: dict[str, Any]) -> None:
        operations[name].inputs[argument].arguments[0].name = other

    return change


def remove_argument(name: str, argument: str) -> Change:
    def change(operations: dict[str, Any]) -> None:
        del operations[name].inputs[argument]

    return change


def repeat_output(name: str) -> Change:
    def change(operations: dict[str, Any]) -> None:
        operations[name].outputs.append(operations[name].outputs[0])

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_shape("c", 1, 4, 7, 8), r"its conv 'c': it makes \(1, 4, 8, 8\), where the program says \(1, 4, 7, 8\)"),
        (rename_argument("p", "x", "nothing"), "its pad 'p': it uses 'nothing', which nothing before it makes"),
        (rename_argument("p", "x", "m"), "its pad 'p': it uses 'm', which nothing before it makes"),
        (rename_argument("p", "x", "p_mode_0"), "its argument 'x' is the text 'constant', not a tensor"),
        (rename_argument("p", "mode", "c_pad_0"), "its argument 'mode' is no text"),
        (rename_argument("t", "reps", "p"), "its argument 'reps' is no constant"),
        (remove_argument("t", "reps"), "its argument 'reps' has 0 values, where one is needed"),
        (remove_argument("c", "weight"), "its argument 'weight' has 0 values, where one is needed"),
        (set_integers("c_strides_0", 0, 1), "its conv 'c': "),
        (set_integers("p_pad_0", 0, 0, 0, 0, -1, 0, 1, 0), "is not two counts an axis"),
        (set_integers("p_pad_0", 0, 0, 0, 0, 2**20, 0, 2**20, 0), "makes more values than this machine should hold"),
        (set_integers("t_reps_0", 1, 2**16, 2**16, 1), "its tile 't': "),
        (repeat_output("t"), "it makes 1 results, where the program says 2"),
    ],
)
def test_what_cannot_be_run_is_refused_at_loading(small: Path, change: Change, message: str) -> None:
    words = refusal(changed(small, change))
    assert re.search(message, words)
    assert words.startswith("the.mlpackage cannot be run: its ")
    assert words.endswith("; export it again.")


def test_more_values_than_a_machine_should_hold_are_refused_before_they_are_made(small: Path) -> None:
    def change(operations: dict[str, Any]) -> None:
        set_integers("t_reps_0", 1, 2**10, 2**10, 2**10)(operations)
        set_shape("t", 1, 4 * 2**10, 9 * 2**10, 9 * 2**10)(operations)

    assert "its tile 't': it takes the results beyond 536870912 values" in refusal(changed(small, change))


def test_a_program_that_makes_no_output_is_refused(small: Path) -> None:
    def change(operations: dict[str, Any]) -> None:
        operations["m"].outputs[0].name = "other"

    assert "cannot be run: nothing makes its 'm'" in refusal(changed(small, change))


@pytest.fixture
def integers(mil_package: MilPackage) -> Path:
    """A convolution in integers."""

    def build(mb: Any, x: Any) -> Any:
        stored = mb.quantize(input=x, scale=np.float32(0.5), zero_point=np.int8(3), output_dtype="int8")
        weight = mb.constexpr_affine_dequantize(
            quantized_data=np.ones((4, 3, 3, 3), np.int8), zero_point=np.int8(0), scale=np.ones(4, np.float32), axis=0
        )
        values = mb.dequantize(input=stored, scale=np.float32(0.5), zero_point=np.int8(3))
        result = mb.quantize(
            input=mb.conv(x=values, weight=weight), scale=np.ones(4, np.float32), axis=1, output_dtype="uint8"
        )
        return mb.dequantize(input=result, scale=np.ones(4, np.float32), axis=1)

    return mil_package(build, {"x": (1, 3, 8, 8)})


@pytest.mark.parametrize("name", ["small", "integers"])
def test_damaged_bytes_give_an_error_of_ours_or_a_program_that_runs(name: str, request: pytest.FixtureRequest) -> None:
    package: Path = request.getfixturevalue(name)
    whole = model_file(package).read_bytes()
    generator = random.Random(0)
    image = {"x": torch.zeros(1, 3, 8, 8)}
    ran = 0
    for _ in range(400):
        content = bytearray(whole)
        for _ in range(generator.choice([1, 1, 2, 5])):
            content[generator.randrange(len(content))] = generator.randrange(256)
        model_file(package).write_bytes(content)
        try:
            program = load_program(package)
            evaluator = MilEvaluator(program, str(package))
        except (ArtifactError, UnknownOperatorError):
            continue
        if [(entry.name, entry.shape) for entry in program.inputs] == [("x", (1, 3, 8, 8))]:
            evaluator.run(image)
            ran += 1
    assert 0 < ran < 400
