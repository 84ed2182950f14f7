"""How a tensor is stored in integers: real value = scale × (integer − zero point).

The rules are those that TFLite's kernels and ONNX's QLinear operators share: activations of 8 bits are asymmetric with
zero among their values (padding is exact), those of 16 bits symmetric; weights are symmetric, one scale an output
channel, and never use −128.

Source: Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference",
CVPR 2018, section 2; the LiteRT 8-bit quantization specification.
"""

from __future__ import annotations

import reprlib
import struct
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from aml_edge.errors import QuantizationError

WEIGHT_LIMIT = 127
SMALLEST_RANGE = 1e-9
"""A narrower range has no scale that divides; it is widened to this."""
SMALLEST_SCALE, LARGEST_SCALE = torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).max


@dataclass(frozen=True)
class TensorQuantization:
    """How one activation is stored.

    Args:
        scale: above zero, one that single precision holds without loss of digits.
        zero_point: the integer that stands for zero.
        bits: 8 or 16, signed.
    """

    scale: float
    zero_point: int
    bits: int = 8

    def __post_init__(self) -> None:
        if self.bits not in (8, 16) or not SMALLEST_SCALE <= self.scale <= LARGEST_SCALE:
            raise QuantizationError(
                f"{self} cannot be: bits are 8 or 16, and a scale is between {SMALLEST_SCALE:.3g} and "
                f"{LARGEST_SCALE:.3g}; calibrate the network again."
            )
        if not self.lowest <= self.zero_point <= self.highest:
            raise QuantizationError(
                f"{self} cannot be: its zero point is outside of {self.lowest} to {self.highest}; calibrate the "
                "network again."
            )

    @classmethod
    def of_range(cls, low: float, high: float, bits: int = 8) -> TensorQuantization:
        """Returns what stores the values from `low` to `high`, zero among them, with the least error.

        The scale is rounded to single precision, in which files store it.

        Raises:
            QuantizationError: a bound is not finite.
        """
        if not (-float("inf") < low <= high < float("inf")):
            raise QuantizationError(
                f"an activation ranges from {low:g} to {high:g}, which no integers can hold; look at the student's "
                "weights."
            )
        if bits == 16:
            return cls(_single(max(-low, high, SMALLEST_RANGE) / 32767), 0, bits)
        low, high = min(low, 0.0), max(high, 0.0)
        scale = _single(max(high - low, SMALLEST_RANGE) / 255)
        return cls(scale, round(-128 - low / scale), bits)

    @classmethod
    def of_sigmoid(cls, bits: int = 8) -> TensorQuantization:
        """Returns what stores the range of a sigmoid, 0 to 1, as TFLite's kernels ask."""
        return cls(1 / 256, -128, bits) if bits == 8 else cls(1 / 32768, 0, bits)

    @property
    def lowest(self) -> int:
        """The lowest integer."""
        return -(1 << (self.bits - 1))

    @property
    def highest(self) -> int:
        """The highest integer."""
        return (1 << (self.bits - 1)) - 1

    @property
    def low(self) -> float:
        """The lowest value that can be stored, of 16 bits the lowest that is used."""
        lowest = -self.highest if self.bits == 16 else self.lowest
        return (lowest - self.zero_point) * self.scale

    @property
    def high(self) -> float:
        """The highest value that can be stored."""
        return (self.highest - self.zero_point) * self.scale

    def fake_quantized(self, values: Tensor) -> Tensor:
        """Returns the values as they are after being stored; the gradient passes where they are in range.

        PyTorch's own operator took five times as long, and differs where a value is in the middle between two integers:
        as ONNX asks, the even one is taken before the zero point is added.
        """
        lowest = -self.highest if self.bits == 16 else self.lowest
        bounds = lowest - self.zero_point, self.highest - self.zero_point
        stored: Tensor = _StraightThrough.apply(values, self.scale, *bounds)  # type: ignore[no-untyped-call]
        return stored

    def to_json(self) -> dict[str, float | int]:
        """Returns the record as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: object) -> TensorQuantization:
        """Reads what `to_json` wrote; raises `QuantizationError` where it is anything else."""
        fields = record if isinstance(record, dict) else {}
        scale, zero_point, bits = (fields.get(name) for name in ("scale", "zero_point", "bits"))
        if not isinstance(scale, float) or type(zero_point) is not int or type(bits) is not int:
            raise QuantizationError(
                f"{reprlib.repr(record)} does not say how a tensor is stored: `scale` is a real number, `zero_point` "
                "and `bits` are whole ones; quantize the student again."
            )
        return cls(scale, zero_point, bits)


class _StraightThrough(torch.autograd.Function):
    """Rounds values to integers within bounds, times a scale; the gradient passes as if it were no rounding."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, scale: float, lowest: int, highest: int) -> Tensor:
        steps = values.mul(1 / scale).round_()
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward((steps >= lowest) & (steps <= highest))
        return steps.clamp_(lowest, highest).mul_(scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (inside,) = ctx.saved_tensors
        return gradient * inside, None, None, None


def _single(value: float) -> float:
    """Returns the value of single precision that is nearest; one that is too large as it is."""
    if value > LARGEST_SCALE:
        return value
    single: float = struct.unpack("f", struct.pack("f", value))[0]
    return single


def weight_scales(weight: Tensor) -> Tensor:
    """Returns (O,) scales of a weight (O, …): the largest absolute value of each output channel becomes 127."""
    bounds = weight.detach().abs().flatten(1).amax(1)
    return bounds.clamp(min=SMALLEST_RANGE) / WEIGHT_LIMIT


def fake_quantized_bias(bias: Tensor, steps: Tensor) -> Tensor:
    """Returns an (O,) bias as it is after being stored in 32 bits; the gradient passes.

    Args:
        bias: of a convolution.
        steps: (O,) scale of its input times the scales of its weight.
    """
    stored = (bias.detach().double() / steps).round().clamp(-(2.0**31), 2.0**31 - 1) * steps
    return stored.float() + (bias - bias.detach())


def fake_quantized_weight(weight: Tensor) -> Tensor:
    """Returns a weight (O, …) as it is after being stored in 8 bits, one scale an output channel."""
    scales = weight_scales(weight)
    zeros = torch.zeros(len(scales), dtype=torch.int32, device=weight.device)
    return torch.fake_quantize_per_channel_affine(weight, scales, zeros, 0, -WEIGHT_LIMIT, WEIGHT_LIMIT)
