"""Rounding to integers and back: ties, saturation, and arguments that cannot be."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from aml_edge.runtimes.mil_arguments import MilArgumentError, MilArguments
from aml_edge.runtimes.mil_integer_operators import INTEGER_OPERATORS

VALUES = torch.tensor([[-1e9, -1.5, -0.5, 0.0], [0.5, 1.5, 1e9, float("inf")]])


def run(operator: str, device: str = "cpu", **arguments: Any) -> Tensor:
    return INTEGER_OPERATORS[operator](MilArguments({name: [value] for name, value in arguments.items()}, device))


def test_rounds_ties_to_even_and_saturates() -> None:
    integers = run("quantize", input=VALUES, scale=torch.tensor(1.0), output_dtype="int8")
    assert integers.dtype == torch.int8
    assert integers.tolist() == [[-128, -2, 0, 0], [0, 2, 127, 127]]


def test_the_zero_point_is_added_after_rounding() -> None:
    arguments: dict[str, Any] = {
        "scale": torch.tensor(1.0),
        "zero_point": torch.tensor(3, dtype=torch.uint8),
        "output_dtype": "uint8",
    }
    assert run("quantize", input=VALUES, **arguments).tolist() == [[0, 1, 3, 3], [3, 5, 255, 255]]


def test_an_axis_has_scales_of_its_own() -> None:
    scales = torch.tensor([1.0, 0.25])
    integers = run("quantize", input=VALUES, scale=scales, axis=torch.tensor(0), output_dtype="int8")
    assert integers.tolist() == [[-128, -2, 0, 0], [2, 6, 127, 127]]
    values = run("dequantize", input=integers, scale=scales, axis=torch.tensor(-2))
    assert values.tolist() == [[-128.0, -2.0, 0.0, 0.0], [0.5, 1.5, 31.75, 31.75]]


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(
    ("operator", "changed", "message"),
    [
        ("quantize", {"output_dtype": "int4"}, "its dtype 'int4' is not known"),
        ("quantize", {"output_dtype": torch.tensor(1)}, "its argument 'output_dtype' is no text"),
        ("quantize", {"scale": torch.tensor(0.0)}, "its argument 'scale' is not finite and above zero everywhere"),
        ("quantize", {"scale": torch.tensor(float("nan"))}, "is not finite and above zero everywhere"),
        ("quantize", {"scale": torch.ones(3), "axis": torch.tensor(0)}, "'scale' has shape (3,), which axis 0 has not"),
        ("quantize", {"scale": torch.ones(2), "axis": torch.tensor(2)}, "'scale' has shape (2,), which axis 2 has not"),
        ("quantize", {"scale": torch.ones(2)}, "its argument 'axis' has 0 values, where one is needed"),
        ("quantize", {"zero_point": torch.ones(2, 2), "axis": torch.tensor(0)}, "'zero_point' has shape (2, 2)"),
        ("quantize", {"scale": torch.ones((), device="meta")}, "its argument 'scale' is no constant"),
        ("dequantize", {"input": VALUES}, "its argument 'input' holds no integers of 8 bits"),
    ],
)
def test_what_cannot_be_is_refused(operator: str, changed: dict[str, Any], message: str, device: str) -> None:
    arguments: dict[str, Any] = {"input": VALUES, "scale": torch.tensor(1.0), "output_dtype": "int8"} | changed
    with pytest.raises(MilArgumentError, match=re.escape(message)):
        run(operator, device, **arguments)
