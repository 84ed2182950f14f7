"""Depthwise convolutions whose weights' gradient is computed another way, against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from aml_edge.training.depthwise import LARGEST_MAP, depthwise_convolution, is_faster_here


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [
        ((7, 6), 3, (1, 1), (1, 1)),
        ((8, 5), 5, (1, 1), (2, 2)),
        ((9, 8), 3, (2, 2), (1, 1)),
        ((8, 9), 5, (2, 2), (2, 2)),
        ((7, 11), 3, (2, 1), (0, 2)),
        ((5, 5), 5, (1, 1), (0, 0)),
    ],
)
def test_values_and_gradients_are_those_of_torch(
    size: tuple[int, int], kernel: int, stride: tuple[int, int], padding: tuple[int, int], bias: bool
) -> None:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()

    features, weight = random(3, 4, *size), random(4, 1, kernel, kernel)
    shift = random(4) if bias else None
    inputs = [features, weight] if shift is None else [features, weight, shift]
    ours = depthwise_convolution(features, weight, shift, stride, padding)
    theirs = functional.conv2d(features, weight, shift, stride, padding, 1, 4)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    upstream = torch.randn(theirs.shape, dtype=torch.float64, generator=generator)
    for mine, of_torch in zip(
        torch.autograd.grad(ours, inputs, upstream), torch.autograd.grad(theirs, inputs, upstream), strict=True
    ):
        torch.testing.assert_close(mine, of_torch, rtol=0, atol=1e-11)


def test_only_the_gradients_that_are_wanted_are_computed() -> None:
    features, weight = torch.ones(1, 2, 4, 4), torch.ones(2, 1, 3, 3, requires_grad=True)
    total = depthwise_convolution(features, weight, None, (1, 1), (1, 1)).sum()
    total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    assert features.grad is None and weight.grad is not None
    # A 3 × 3 filter over a 4 × 4 map of ones, padded: its middle meets all 16, its corners 9.
    torch.testing.assert_close(weight.grad[0, 0], torch.tensor([[9.0, 12, 9], [12, 16, 12], [9, 12, 9]]))


def test_it_is_used_where_it_does_the_same_and_is_faster() -> None:
    depthwise, small = nn.Conv2d(4, 4, 3, padding=1, groups=4), torch.zeros(1, 4, 20, LARGEST_MAP // 20)
    assert is_faster_here(depthwise, small)
    assert not is_faster_here(depthwise, torch.zeros(1, 4, 20, LARGEST_MAP // 20 + 1))
    assert is_faster_here(nn.Conv2d(4, 4, 3, 2, padding=1, groups=4), torch.zeros(1, 4, 40, LARGEST_MAP // 10))
    for other in (
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Conv2d(4, 8, 3, padding=1, groups=4),
        nn.Conv2d(4, 4, 3, padding="same", groups=4),
        nn.Conv2d(4, 4, 3, padding=1, groups=4, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4),
    ):
        assert not is_faster_here(other, small)
    with torch.no_grad():
        assert not is_faster_here(depthwise, small)
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_faster_here(depthwise, small)
