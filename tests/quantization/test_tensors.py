"""How one tensor is stored in integers, against slow loops, ONNX Runtime and TFLite's rules."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from aml_edge.errors import QuantizationError
from aml_edge.quantization.tensors import (
    TensorQuantization,
    fake_quantized_bias,
    fake_quantized_weight,
    weight_scales,
)

RANGES = [(-1.0, 2.0), (0.0, 6.0), (0.5, 6.0), (-3.0, -1.0), (-1e-3, 7e4), (-2.6, 2.6), (-1e37, 1e37), (0.0, 0.0)]


def stored_by_hand(value: float, how: TensorQuantization) -> float:
    """Returns a value as it is after being stored, by exact arithmetic; ties go to the even integer."""
    lowest = -127 if how.bits == 8 else -32767
    lowest = how.lowest if how.bits == 8 else lowest
    steps = round(Fraction(value) / Fraction(how.scale))
    integer = min(max(steps + how.zero_point, lowest), how.highest)
    return float((integer - how.zero_point) * Fraction(how.scale))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("low", "high"), RANGES)
def test_range_is_held_to_half_a_step_with_zero_exact(low: float, high: float, bits: int) -> None:
    how = TensorQuantization.of_range(low, high, bits)
    values = torch.linspace(min(low, 0.0), max(high, 0.0), 1001)

    held = how.fake_quantized(values)

    # The zero point is rounded, so the ends of a range are held to a whole step.
    assert (held - values).abs().max() <= how.scale * (1.0 if bits == 8 else 0.5) * (1 + 1e-2)
    assert how.fake_quantized(torch.zeros(1)).item() == 0.0
    assert how.low <= 0.0 <= how.high
    assert how.high - how.low == pytest.approx(max(high, 0.0) - min(low, 0.0), rel=1e-6, abs=2e-9) or bits == 16


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("low", "high"), RANGES[:-1])
def test_fake_quantized_is_rounding_by_exact_arithmetic(low: float, high: float, bits: int) -> None:
    how = TensorQuantization.of_range(low, high, bits)
    values = (torch.rand(500, generator=torch.Generator().manual_seed(0)) * 3 - 1) * float(np.float32(high))

    held = how.fake_quantized(values)

    for value, got in zip(values.tolist(), held.tolist(), strict=True):
        assert got == pytest.approx(stored_by_hand(value, how), rel=1e-6)


def test_scale_is_of_single_precision_and_as_onnx_runtime_computes_it() -> None:
    how = TensorQuantization.of_range(-1.3, 2.9)

    assert how.scale == float(np.float32(4.2 / 255))
    assert how.zero_point == round(-128 + 1.3 / (4.2 / 255))
    assert TensorQuantization.of_range(-2.0, 1.0, 16) == TensorQuantization(float(np.float32(2 / 32767)), 0, 16)


def test_stores_as_onnx_runtime_does_ties_included() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper

    how = TensorQuantization(0.5, -3)
    scale = helper.make_tensor("scale", TensorProto.FLOAT, [], [how.scale])
    zero_point = helper.make_tensor("zero_point", TensorProto.INT8, [], [how.zero_point])
    nodes = [
        helper.make_node("QuantizeLinear", ["values", "scale", "zero_point"], ["integers"]),
        helper.make_node("DequantizeLinear", ["integers", "scale", "zero_point"], ["held"]),
    ]
    inputs = [helper.make_tensor_value_info("values", TensorProto.FLOAT, ["n"])]
    outputs = [helper.make_tensor_value_info("held", TensorProto.FLOAT, ["n"])]
    graph = helper.make_graph(nodes, "rounding", inputs, outputs, [scale, zero_point])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    values = np.concatenate([np.arange(-80, 80, 0.25), [1e9, -1e9]]).astype(np.float32)  # every second one is a tie

    (expected,) = session.run(None, {"values": values})

    np.testing.assert_array_equal(how.fake_quantized(torch.from_numpy(values)).numpy(), expected)


@pytest.mark.parametrize("how", [TensorQuantization(0.037, 5), TensorQuantization(0.01, -128)])
def test_steps_equal_pytorchs_fake_quantization_and_so_does_its_gradient(how: TensorQuantization) -> None:
    values = torch.randn(4000, generator=torch.Generator().manual_seed(1)) * 3
    followed = values.clone().requires_grad_()

    slow = how.fake_quantized(followed)
    slow.sum().backward()  # type: ignore[no-untyped-call]

    torch.testing.assert_close(how.fake_quantized(values), slow.detach(), rtol=1e-6, atol=1e-7)
    assert followed.grad is not None
    inside = (values > how.low - how.scale / 2) & (values < how.high + how.scale / 2)
    torch.testing.assert_close(followed.grad, inside.float())


def test_sigmoid_is_stored_as_tflites_kernels_ask() -> None:
    assert TensorQuantization.of_sigmoid() == TensorQuantization(1 / 256, -128)
    assert TensorQuantization.of_sigmoid(16) == TensorQuantization(1 / 32768, 0, 16)


def test_weight_is_stored_symmetrically_one_scale_a_channel() -> None:
    weight = torch.randn(5, 3, 2, 2, generator=torch.Generator().manual_seed(2))
    weight[4] = 0.0

    held = fake_quantized_weight(weight)

    for channel in range(4):
        scale = float(np.float32(weight[channel].abs().max().item()) / np.float32(127))
        assert weight_scales(weight)[channel].item() == pytest.approx(scale, rel=1e-7)
        for value, got in zip(weight[channel].flatten().tolist(), held[channel].flatten().tolist(), strict=True):
            steps = round(value / scale)
            assert -127 <= steps <= 127
            assert got == pytest.approx(steps * scale, rel=1e-6, abs=1e-9)
    assert (held[4] == 0).all()


def test_bias_is_stored_in_32_bits_of_the_steps_of_input_and_weight() -> None:
    bias, steps = torch.tensor([0.1234567, -7.0, 5.0]), torch.tensor([1e-3, 1e-3, 1e-12])

    held = fake_quantized_bias(bias, steps)

    assert held.tolist() == pytest.approx([0.123, -7.0, (2**31 - 1) * 1e-12], rel=1e-5)


def test_gradient_of_a_bias_and_of_a_weight_passes() -> None:
    weight = torch.randn(2, 3, 1, 1, requires_grad=True)
    bias = torch.randn(2, requires_grad=True)

    (fake_quantized_weight(weight).sum() + fake_quantized_bias(bias, weight_scales(weight)).sum()).backward()  # type: ignore[no-untyped-call]

    assert weight.grad is not None and bias.grad is not None
    assert (weight.grad == 1).all() and (bias.grad == 1).all()


@pytest.mark.parametrize(("low", "high"), [(-math.inf, 1.0), (0.0, math.nan), (1.0, 0.0)])
def test_refuses_a_range_that_is_not_finite_or_upside_down(low: float, high: float) -> None:
    with pytest.raises(QuantizationError, match=r"an activation ranges from .* no integers can hold; look at the"):
        TensorQuantization.of_range(low, high)


def test_refuses_a_range_beyond_single_precision() -> None:
    with pytest.raises(QuantizationError, match=r"a scale is between 1\.18e-38 and 3\.4e\+38; calibrate"):
        TensorQuantization.of_range(-1e300, 1e300)


@pytest.mark.parametrize(
    "record",
    [
        {"scale": math.nan, "zero_point": 0, "bits": 8},
        {"scale": math.inf, "zero_point": 0, "bits": 8},
        {"scale": 0.0, "zero_point": 0, "bits": 8},
        {"scale": -0.1, "zero_point": 0, "bits": 8},
        {"scale": 1e-300, "zero_point": 0, "bits": 8},
        {"scale": 0.1, "zero_point": 128, "bits": 8},
        {"scale": 0.1, "zero_point": -129, "bits": 8},
        {"scale": 0.1, "zero_point": 10**30, "bits": 16},
        {"scale": 0.1, "zero_point": 0, "bits": 4},
    ],
)
def test_refuses_a_record_that_cannot_be(record: dict[str, object]) -> None:
    with pytest.raises(QuantizationError, match=r"^TensorQuantization\(.* cannot be: .*calibrate the network again\.$"):
        TensorQuantization.from_json(record)


@pytest.mark.parametrize(
    "record",
    [
        None,
        [],
        "text",
        {},
        {"scale": "0.1", "zero_point": 0, "bits": 8},
        {"scale": True, "zero_point": 0, "bits": 8},
        {"scale": 10**400, "zero_point": 0, "bits": 8},
        {"scale": 0.1, "zero_point": 0.5, "bits": 8},
        {"scale": 0.1, "zero_point": True, "bits": 8},
        {"scale": 0.1, "zero_point": 0, "bits": None},
        {"scale": 0.1, "zero_point": 0, "bits": "\x1b[2J" * 1000},
    ],
)
def test_refuses_a_record_that_is_none(record: object) -> None:
    with pytest.raises(QuantizationError, match="does not say how a tensor is stored: `scale` is a real") as raised:
        TensorQuantization.from_json(record)

    assert len(str(raised.value)) < 400
    assert "\x1b" not in str(raised.value)


def test_record_comes_back() -> None:
    how = TensorQuantization(0.1, -7, 16)

    assert how.to_json() == {"scale": 0.1, "zero_point": -7, "bits": 16}
    assert TensorQuantization.from_json(how.to_json()) == how
