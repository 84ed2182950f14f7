"""Each operator of the evaluator against NumPy in double precision, in programs that coremltools wrote."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import torch

from aml_edge.errors import ArtifactError
from aml_edge.formats.mil_program import load_program
from aml_edge.runtimes.mil_constant_operators import CONSTANT_OPERATORS
from aml_edge.runtimes.mil_evaluator import MilEvaluator
from aml_edge.runtimes.mil_operators import OPERATORS

Array = npt.NDArray[Any]
SINGLE_PRECISION = 2e-5
"""Values of about one, sums of up to a hundred of them."""

generator = np.random.default_rng(0)
SHAPE = (1, 4, 5, 6)
IMAGE = generator.normal(size=SHAPE).astype(np.float32)


def weights(*shape: int) -> npt.NDArray[np.float32]:
    return generator.normal(size=shape).astype(np.float32)


DENSE, BIAS = weights(3, 6), weights(3)
FILTERS, FILTER_BIAS = weights(8, 2, 3, 2), weights(8)
CHANNELS = weights(4)
DEPTHWISE = np.full((4, 1, 1), 2.0, np.float32)
ROWS = np.abs(weights(6)) + np.float32(0.1)


def windows(
    image: Array,
    kernel: Sequence[int],
    strides: Sequence[int] = (1, 1),
    pad: Sequence[int] = (0, 0, 0, 0),
    fill: float = 0.0,
    dilations: Sequence[int] = (1, 1),
) -> Iterator[tuple[int, int, Array]]:
    """Yields each output place (row, column) and the window that it sees, (B, C, kh, kw)."""
    padded = np.pad(image, ((0, 0), (0, 0), pad[:2], pad[2:]), constant_values=fill)
    reach = [(kernel[axis] - 1) * dilations[axis] + 1 for axis in (0, 1)]
    counts = [(padded.shape[2 + axis] - reach[axis]) // strides[axis] + 1 for axis in (0, 1)]
    for row, column in product(range(counts[0]), range(counts[1])):
        top, left = row * strides[0], column * strides[1]
        yield (
            row,
            column,
            padded[:, :, top : top + reach[0] : dilations[0], left : left + reach[1] : dilations[1]],
        )


def assembled(places: Iterator[tuple[int, int, Array]]) -> Array:
    """Returns (B, C, H, W) of values (B, C) at each place."""
    values = {(row, column): value for row, column, value in places}
    height, width = (1 + max(place[axis] for place in values) for axis in (0, 1))
    return np.stack([np.stack([values[row, column] for column in range(width)], -1) for row in range(height)], -2)


def convolved(image: Array, groups: int, **where: Any) -> Array:
    inputs, outputs = image.shape[1] // groups, FILTERS.shape[0] // groups

    def at(window: Array) -> Array:
        seen = [window[:, number // outputs * inputs :][:, :inputs] for number in range(FILTERS.shape[0])]
        sums = [(part * kernel.astype(np.float64)).sum((1, 2, 3)) for part, kernel in zip(seen, FILTERS, strict=True)]
        return np.stack(sums, 1) + FILTER_BIAS

    return assembled((row, column, at(window)) for row, column, window in windows(image, (3, 2), **where))


def max_pooled(image: Array, kernel: Sequence[int], **where: Any) -> Array:
    places = windows(image, kernel, fill=-math.inf, **where)
    return assembled((row, column, window.max((2, 3))) for row, column, window in places)


def averaged(image: Array, kernel: Sequence[int], *, exclude: bool = False, **where: Any) -> Array:
    counts = windows(np.ones_like(image), kernel, **where)
    places = zip(windows(image, kernel, **where), counts, strict=True)
    size = kernel[0] * kernel[1]
    return assembled(
        (row, column, window.sum((2, 3)) / (count.sum((2, 3)) if exclude else size))
        for (row, column, window), (_, _, count) in places
    )


def normalised(values: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    centred: Array = values - values.mean(axes, keepdims=True)
    deviation: Array = np.sqrt((centred**2).mean(axes, keepdims=True) + epsilon)
    return centred / deviation


def sigmoid(values: Array) -> Array:
    return 1 / (1 + np.exp(-values))


def softmax(values: Array, axis: int) -> Array:
    powers: Array = np.exp(values)
    sums: Array = powers.sum(axis, keepdims=True)
    return powers / sums


erf = np.vectorize(math.erf)


def stored(values: Array, scale: Any, zero_point: Any, low: int, high: int) -> Array:
    """Returns the integers that hold some values."""
    integers: Array = np.clip(np.round(values / scale) + zero_point, low, high)
    return integers


def quantized(**arguments: Any) -> Callable[[Any, Any], Any]:
    return lambda mb, x: mb.cast(x=mb.quantize(input=x, **arguments), dtype="fp32")


STEPS = np.array([0.01, 0.02, 0.5, 1.0], np.float32)
ZEROS = np.array([-3, 0, 5, 100], np.int8)


class Case(NamedTuple):
    """An operator at work on `IMAGE`."""

    operator: str
    build: Callable[[Any, Any], Any]
    expected: Callable[[Array], Any]


def unary(operator: str, expected: Callable[[Array], Any], **arguments: Any) -> Case:
    return Case(operator, lambda mb, x: getattr(mb, operator)(x=x, **arguments), expected)


def positive(operator: str, expected: Callable[[Array], Array], **arguments: Any) -> Case:
    return Case(
        operator,
        lambda mb, x: getattr(mb, operator)(x=mb.abs(x=x), **arguments),
        lambda image: expected(np.abs(image)),
    )


def binary(operator: str, expected: Callable[[Array, Array], Array]) -> Case:
    return Case(operator, lambda mb, x: getattr(mb, operator)(x=x, y=ROWS), lambda image: expected(image, ROWS))


def reduction(operator: str, expected: Callable[..., Array]) -> list[Case]:
    return [
        unary(operator, lambda image: expected(image, axis=(1, 3), keepdims=True), axes=[1, -1], keep_dims=True),
        unary(operator, lambda image: expected(image, axis=(2,)), axes=[2]),
    ]


def conv(**arguments: Any) -> Callable[[Any, Any], Any]:
    return lambda mb, x: mb.conv(x=x, weight=FILTERS, bias=FILTER_BIAS, groups=2, **arguments)


CASES = [
    unary("abs", np.abs),
    unary("ceil", np.ceil),
    unary("erf", erf),
    unary("exp", np.exp),
    unary("floor", np.floor),
    unary("gelu", lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2)))),
    unary(
        "gelu",
        lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        mode="TANH_APPROXIMATION",
    ),
    unary("gelu", lambda x: x * sigmoid(1.702 * x), mode="SIGMOID_APPROXIMATION"),
    unary("identity", lambda x: x),
    unary("leaky_relu", lambda x: np.where(x > 0, x, np.float32(0.2) * x), alpha=np.float32(0.2)),
    unary("prelu", lambda x: np.where(x > 0, x, CHANNELS[:, None, None] * x), alpha=CHANNELS),
    unary("relu", lambda x: np.maximum(x, 0)),
    Case("relu6", lambda mb, x: mb.relu6(x=mb.mul(x=x, y=np.float32(9))), lambda x: np.clip(9 * x, 0, 6)),
    unary("sigmoid", sigmoid),
    unary("silu", lambda x: x * sigmoid(x)),
    unary("softmax", lambda x: softmax(x, -1)),
    unary("softmax", lambda x: softmax(x, 1), axis=1),
    unary("softplus", lambda x: np.log1p(np.exp(x))),
    positive("sqrt", np.sqrt),
    unary("square", np.square),
    unary("tanh", np.tanh),
    unary("thresholded_relu", lambda x: x * (x >= np.float32(0.25)), alpha=np.float32(0.25)),
    unary("clip", lambda x: np.clip(x, -0.5, 0.25), alpha=np.float32(-0.5), beta=np.float32(0.25)),
    unary("linear_activation", lambda x: 0.5 * x + 2, alpha=np.float32(0.5), beta=np.float32(2)),
    unary("sigmoid_hard", lambda x: np.clip(0.25 * x + 0.5, 0, 1), alpha=np.float32(0.25), beta=np.float32(0.5)),
    positive("inverse", lambda x: 1 / (x + 0.5), epsilon=np.float32(0.5)),
    positive("log", lambda x: np.log(x + 0.25), epsilon=np.float32(0.25)),
    positive("log", np.log),
    positive("rsqrt", lambda x: 1 / np.sqrt(x + 0.125), epsilon=np.float32(0.125)),
    Case("cast", lambda mb, x: mb.cast(x=mb.cast(x=x, dtype="int32"), dtype="fp32"), np.trunc),
    Case("cast", lambda mb, x: mb.cast(x=mb.cast(x=x, dtype="bool"), dtype="fp32"), np.ones_like),
    binary("add", np.add),
    binary("maximum", np.maximum),
    binary("minimum", np.minimum),
    binary("mul", np.multiply),
    Case("pow", lambda mb, x: mb.pow(x=mb.abs(x=x), y=np.float32(2.5)), lambda x: np.abs(x) ** 2.5),
    binary("real_div", np.divide),
    binary("sub", np.subtract),
    Case(
        "linear",
        lambda mb, x: mb.linear(x=mb.squeeze(x=x, axes=[0]), weight=DENSE, bias=BIAS),
        lambda x: x[0] @ DENSE.astype(np.float64).T + BIAS,
    ),
    Case("matmul", lambda mb, x: mb.matmul(x=x, y=DENSE, transpose_y=True), lambda x: x @ DENSE.T),
    Case("matmul", lambda mb, x: mb.matmul(x=x, y=x, transpose_x=True), lambda x: np.swapaxes(x, -1, -2) @ x),
    *reduction("reduce_l1_norm", lambda x, **axes: np.abs(x).sum(**axes)),
    *reduction("reduce_l2_norm", lambda x, **axes: np.sqrt((x**2).sum(**axes))),
    *reduction("reduce_max", np.max),
    *reduction("reduce_mean", np.mean),
    *reduction("reduce_min", np.min),
    *reduction("reduce_sum", np.sum),
    *reduction("reduce_sum_square", lambda x, **axes: (x**2).sum(**axes)),
    unary("reduce_max", lambda x: np.max(x), keep_dims=False),
    unary("layer_norm", lambda x: normalised(x, (1, 3), 1e-5), axes=[1, 3]),
    unary(
        "layer_norm",
        lambda x: normalised(x, (-1,), 0.5) * ROWS + ROWS,
        axes=[-1],
        gamma=ROWS,
        beta=ROWS,
        epsilon=np.float32(0.5),
    ),
    Case(
        "concat", lambda mb, x: mb.concat(values=[x, mb.abs(x=x)], axis=1), lambda x: np.concatenate([x, np.abs(x)], 1)
    ),
    Case(
        "concat",
        lambda mb, x: mb.concat(values=[x, mb.abs(x=x)], axis=-1, interleave=True),
        lambda x: np.stack([x, np.abs(x)], -1).reshape(1, 4, 5, 12),
    ),
    Case(
        "expand_dims",
        lambda mb, x: mb.expand_dims(x=mb.squeeze(x=x, axes=[0]), axes=[0, -1]),
        lambda x: x[0][None, :, :, :, None],
    ),
    unary("reshape", lambda x: x.reshape(4, 30), shape=[4, -1]),
    unary("reshape", lambda x: x.reshape(1, 4, 15, 2), shape=[0, 0, 15, 2]),
    unary("slice_by_index", lambda x: x[:, 1:3, ::2, 2:-1], begin=[0, 1, 0, 2], end=[1, 3, 5, -1], stride=[1, 1, 2, 1]),
    unary(
        "slice_by_index",
        lambda x: x[:, :2, 1:, 3],
        begin=[0, 3, 1, 3],
        end=[1, 2, 0, 0],
        begin_mask=[True, True, False, False],
        end_mask=[False, False, True, False],
        squeeze_mask=[False, False, False, True],
    ),
    unary("split", lambda x: np.split(x, 2, 1), num_splits=2, axis=1),
    unary("split", lambda x: np.split(x, [1, 3], 3), split_sizes=[1, 2, 3], axis=3),
    unary("squeeze", lambda x: x[0], axes=[0]),
    unary("squeeze", lambda x: x[0]),
    unary("tile", lambda x: np.tile(x, (1, 2, 1, 3)), reps=[1, 2, 1, 3]),
    unary("transpose", lambda x: x.transpose(0, 2, 3, 1), perm=[0, 2, 3, 1]),
    Case("conv", conv(pad_type="valid"), lambda x: convolved(x, 2)),
    Case(
        "conv",
        conv(pad_type="custom", pad=[1, 1, 2, 2], strides=[2, 1]),
        lambda x: convolved(x, 2, pad=(1, 1, 2, 2), strides=(2, 1)),
    ),
    Case(
        "conv",
        conv(pad_type="custom", pad=[0, 1, 2, 0], dilations=[1, 2]),
        lambda x: convolved(x, 2, pad=(0, 1, 2, 0), dilations=(1, 2)),
    ),
    Case(
        "conv",
        lambda mb, x: mb.conv(
            x=mb.reshape(x=x, shape=[1, 4, 30]), weight=np.full((4, 1, 1), 2.0, np.float32), groups=4
        ),
        lambda x: 2 * x.reshape(1, 4, 30),
    ),
    unary("max_pool", lambda x: max_pooled(x, (2, 3)), kernel_sizes=[2, 3], pad_type="valid"),
    unary(
        "max_pool",
        lambda x: max_pooled(x, (3, 3), strides=(2, 2), pad=(0, 1, 1, 0)),
        kernel_sizes=[3, 3],
        strides=[2, 2],
        pad_type="custom",
        pad=[0, 1, 1, 0],
    ),
    unary(
        "max_pool",  # in ceil mode the last window hangs over the edge, here by one row
        lambda x: max_pooled(x, (2, 2), strides=(2, 2), pad=(0, 1, 0, 0)),
        kernel_sizes=[2, 2],
        strides=[2, 2],
        pad_type="valid",
        ceil_mode=True,
    ),
    unary("avg_pool", lambda x: averaged(x, (2, 3)), kernel_sizes=[2, 3], pad_type="valid"),
    unary(
        "avg_pool",
        lambda x: averaged(x, (3, 3), strides=(2, 2), pad=(0, 1, 1, 0)),
        kernel_sizes=[3, 3],
        strides=[2, 2],
        pad_type="custom",
        pad=[0, 1, 1, 0],
    ),
    unary(
        "avg_pool",
        lambda x: averaged(x, (3, 3), exclude=True, strides=(2, 2), pad=(0, 1, 1, 0)),
        kernel_sizes=[3, 3],
        strides=[2, 2],
        pad_type="custom",
        pad=[0, 1, 1, 0],
        exclude_padding_from_average=True,
    ),
    unary(
        "avg_pool",  # what hangs over the edge is not counted
        lambda x: averaged(x, (2, 2), exclude=True, strides=(2, 2), pad=(0, 1, 0, 0)),
        kernel_sizes=[2, 2],
        strides=[2, 2],
        pad_type="valid",
        ceil_mode=True,
    ),
    unary(
        "pad",
        lambda x: np.pad(x, ((0, 0), (0, 0), (1, 2), (3, 0)), constant_values=-1),
        pad=[0, 0, 0, 0, 1, 2, 3, 0],
        constant_val=np.float32(-1),
    ),
    unary("pad", lambda x: np.pad(x, ((0, 0), (0, 0), (0, 0), (1, 2))), pad=[1, 2]),
    unary("pad", lambda x: np.pad(x, ((0, 0), (0, 0), (1, 2), (3, 0)), "reflect"), pad=[1, 2, 3, 0], mode="reflect"),
    unary("pad", lambda x: np.pad(x, ((0, 0), (0, 0), (1, 2), (3, 0)), "edge"), pad=[1, 2, 3, 0], mode="replicate"),
    Case(
        "batch_norm",
        lambda mb, x: mb.batch_norm(
            x=x, mean=CHANNELS, variance=CHANNELS**2, gamma=CHANNELS + 2, beta=CHANNELS, epsilon=np.float32(0.5)
        ),
        lambda x: (
            ((x - CHANNELS[:, None, None]) / np.sqrt(CHANNELS[:, None, None].astype(np.float64) ** 2 + 0.5))
            * (CHANNELS[:, None, None] + 2)
            + CHANNELS[:, None, None]
        ),
    ),
    unary("instance_norm", lambda x: normalised(x, (2, 3), 0.5), epsilon=np.float32(0.5)),
    Case(
        "quantize",
        quantized(scale=np.float32(0.015), zero_point=np.int8(-20), output_dtype="int8"),
        lambda x: stored(x, np.float32(0.015), -20, -128, 127),
    ),
    Case(
        "quantize",
        quantized(scale=np.float32(0.015), output_dtype="uint8"),
        lambda x: stored(x, np.float32(0.015), 0, 0, 255),
    ),
    Case(
        "quantize",
        quantized(scale=STEPS, zero_point=ZEROS, axis=1, output_dtype="int8"),
        lambda x: stored(x, STEPS[:, None, None], ZEROS[:, None, None].astype(float), -128, 127),
    ),
    Case(
        "dequantize",
        lambda mb, x: mb.dequantize(
            input=mb.quantize(input=x, scale=np.float32(0.03), output_dtype="uint8"),
            scale=np.float32(0.5),
            zero_point=np.uint8(7),
        ),
        lambda x: 0.5 * (stored(x, np.float32(0.03), 0, 0, 255) - 7),
    ),
    Case(
        "dequantize",
        lambda mb, x: mb.dequantize(
            input=mb.quantize(input=x, scale=np.float32(0.03), output_dtype="int8"), scale=STEPS, axis=-3
        ),
        lambda x: STEPS[:, None, None] * stored(x, np.float32(0.03), 0, -128, 127),
    ),
]


@pytest.fixture(scope="module")
def computed(mil_package: Callable[..., Path]) -> Iterator[Callable[[int], list[Array]]]:
    """Returns a function of a case's number that gives its results; one program holds all cases."""
    lengths: list[int] = []

    def build(mb: Any, x: Any) -> list[Any]:
        results = [case.build(mb, x) for case in CASES]
        listed = [list(result) if isinstance(result, tuple | list) else [result] for result in results]
        lengths.extend(len(result) for result in listed)
        return [result for several in listed for result in several]

    program = load_program(mil_package(build, {"x": SHAPE}))
    outputs = MilEvaluator(program, "program").run({"x": torch.from_numpy(IMAGE)})
    starts = np.cumsum([0, *lengths])
    yield lambda number: [
        outputs[name].numpy().astype(np.float64) for name in program.outputs[starts[number] : starts[number + 1]]
    ]


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case.operator for case in CASES])
def test_computes_what_the_operator_means(computed: Callable[[int], list[Array]], number: int) -> None:
    expected = CASES[number].expected(IMAGE.astype(np.float64))
    listed = [expected] if isinstance(expected, np.ndarray | np.floating) else expected
    results = computed(number)
    assert [result.shape for result in results] == [np.shape(one) for one in listed]
    for result, one in zip(results, listed, strict=True):
        assert np.abs(result - one).max() < SINGLE_PRECISION


def test_every_operator_has_a_case() -> None:
    assert {case.operator for case in CASES} == OPERATORS.keys() - CONSTANT_OPERATORS.keys()


@pytest.mark.parametrize("kind", ["same", "same_lower"])
def test_padding_that_is_described_in_two_ways_is_refused(mil_package: Callable[..., Path], kind: str) -> None:
    package = mil_package(lambda mb, x: mb.conv(x=x, weight=FILTERS, groups=2, pad_type=kind, name="c"), {"x": SHAPE})
    with pytest.raises(ArtifactError, match=rf"its conv 'c': its padding '{kind}' is not known; export it again"):
        MilEvaluator(load_program(package), str(package))


def test_reflecting_channels_is_refused(mil_package: Callable[..., Path]) -> None:
    package = mil_package(
        lambda mb, x: mb.pad(x=x, pad=[1, 1, 0, 0, 0, 0], mode="reflect", name="p"), {"x": (1, 4, 5, 6)}
    )
    with pytest.raises(ArtifactError, match="its mode 'reflect' is known for spatial axes only"):
        MilEvaluator(load_program(package), str(package))
