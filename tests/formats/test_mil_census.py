"""How the operators of a program compute, in programs that coremltools wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aml_edge.formats.census import OperatorCensus
from aml_edge.formats.coreml_file import take_census

MilPackage = Callable[..., Path]
STEP, ZERO = np.float32(0.5), np.int8(3)
FLOAT_WEIGHT = np.ones((2, 2, 3, 3), np.float32)


def integers(mb: Any, values: Any) -> Any:
    return mb.quantize(input=values, scale=STEP, zero_point=ZERO, output_dtype="int8")


def held(mb: Any, values: Any) -> Any:
    return mb.dequantize(input=integers(mb, values), scale=STEP, zero_point=ZERO)


def integer_weight(mb: Any) -> Any:
    data = np.ones((2, 2, 3, 3), np.int8)
    return mb.constexpr_affine_dequantize(quantized_data=data, zero_point=np.int8(0), scale=STEP, axis=0)


def palette_weight(mb: Any) -> Any:
    places, table = np.arange(36, dtype=np.uint8), np.arange(256, dtype=np.float32)
    return mb.constexpr_lut_to_dense(indices=places, lut=table, shape=np.array([2, 2, 3, 3], np.uint32))


@pytest.fixture
def census(mil_package: MilPackage) -> Callable[[Callable[[Any, Any], Any]], OperatorCensus]:
    return lambda build: take_census(mil_package(build, {"x": (1, 2, 5, 5)}))


def kinds(census: OperatorCensus) -> tuple[int, int, int]:
    return census.integer_convolutions, census.weight_only_convolutions, census.float_convolutions


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda mb, x: held(mb, mb.conv(x=held(mb, x), weight=integer_weight(mb))), (1, 0, 0)),
        (lambda mb, x: held(mb, mb.relu(x=mb.conv(x=held(mb, x), weight=integer_weight(mb)))), (1, 0, 0)),
        (lambda mb, x: held(mb, mb.sigmoid(x=mb.conv(x=held(mb, x), weight=integer_weight(mb)))), (0, 1, 0)),
        (lambda mb, x: mb.relu(x=mb.conv(x=held(mb, x), weight=integer_weight(mb))), (0, 1, 0)),
        (lambda mb, x: mb.conv(x=held(mb, x), weight=integer_weight(mb)), (0, 1, 0)),
        (lambda mb, x: held(mb, mb.conv(x=x, weight=integer_weight(mb))), (0, 1, 0)),
        (lambda mb, x: held(mb, mb.conv(x=held(mb, x), weight=palette_weight(mb))), (0, 1, 0)),
        (lambda mb, x: mb.conv(x=x, weight=palette_weight(mb)), (0, 1, 0)),
        (lambda mb, x: held(mb, mb.conv(x=held(mb, x), weight=FLOAT_WEIGHT)), (0, 0, 1)),
        (lambda mb, x: mb.conv(x=x, weight=FLOAT_WEIGHT), (0, 0, 1)),
    ],
)
def test_a_convolution_is_what_it_takes_and_gives(
    census: Callable[..., OperatorCensus], build: Callable[[Any, Any], Any], expected: tuple[int, int, int]
) -> None:
    assert kinds(census(build)) == expected


def test_a_result_that_is_used_in_floating_point_too_is_no_integer(census: Callable[..., OperatorCensus]) -> None:
    def build(mb: Any, x: Any) -> Any:
        convolved = mb.conv(x=held(mb, x), weight=integer_weight(mb))
        return mb.add(x=held(mb, convolved), y=convolved)

    assert kinds(census(build)) == (0, 1, 0)


def test_the_largest_weight_in_floating_point_is_measured(census: Callable[..., OperatorCensus]) -> None:
    def build(mb: Any, x: Any) -> Any:
        convolved = mb.conv(x=mb.conv(x=x, weight=FLOAT_WEIGHT), weight=np.ones((7, 2, 1, 1), np.float32))
        return mb.conv(x=convolved, weight=np.ones((1, 7, 1, 1), np.float32))

    assert census(build).largest_float_convolution == 2 * 2 * 3 * 3


def test_operators_in_integers_are_counted(census: Callable[..., OperatorCensus]) -> None:
    def build(mb: Any, x: Any) -> Any:
        one = held(mb, mb.sigmoid(x=held(mb, x)))
        two = held(mb, mb.mul(x=held(mb, x), y=one))
        return mb.add(x=two, y=mb.add(x=x, y=np.float32(1)))

    assert census(build).integer_operators == {"sigmoid": 1, "mul": 1}
