"""Convolutions that are computed another way, against those of PyTorch and timm."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from aml_edge.networks.torchvision_guard import import_timm
from aml_edge.training.convolutions import LARGEST_MAP, convolution, depthwise_convolution, is_known


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


@pytest.mark.parametrize("size", [(8, 11), (9, 12), (5, 4), (3, 2)])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (2, 1), (3, 1), (5, 1), (3, 2)])
@pytest.mark.parametrize("depthwise", [True, False])
def test_uneven_padding_is_as_timm_pads(
    size: tuple[int, int], stride: int, kernel: int, dilation: int, depthwise: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    groups = 4 if depthwise else 2
    module = import_timm().layers.Conv2dSame(4, 4, kernel, stride, dilation=dilation, groups=groups).double()
    assert is_known(module)
    features = torch.randn(2, 4, *size, dtype=torch.float64, generator=generator).requires_grad_()
    inputs = [features, module.weight, module.bias]
    ours, theirs = convolution(module, *inputs), module(features)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    upstream = torch.randn(theirs.shape, dtype=torch.float64, generator=generator)
    for mine, of_timm in zip(
        torch.autograd.grad(ours, inputs, upstream), torch.autograd.grad(theirs, inputs, upstream), strict=True
    ):
        torch.testing.assert_close(mine, of_timm, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(4, 8, 3, 2, padding=1, groups=2),
        nn.Conv2d(4, 4, 5, padding="same", groups=4),
        nn.Conv2d(4, 4, 5, padding=2, groups=4, padding_mode="reflect"),
        nn.Conv2d(4, 4, 5, padding=4, dilation=2, groups=4),
        nn.Conv2d(4, 4, 5, padding=2, groups=4, bias=False),
    ],
)
def test_every_option_of_torch_is_kept(module: nn.Conv2d) -> None:
    features = torch.randn(2, 4, 9, 8, generator=torch.Generator().manual_seed(0))
    assert is_known(module)
    torch.testing.assert_close(convolution(module, features, module.weight, module.bias), module(features))


def test_what_treats_its_weight_first_is_not_known() -> None:
    assert not is_known(import_timm().layers.StdConv2d(4, 4, 3))
    assert not is_known(nn.Linear(4, 4))


def test_the_correlation_is_used_where_it_is_faster() -> None:
    """Where it is used the gradient's function is ours."""

    def is_ours(places: int, **changes: int) -> bool:
        options: dict[str, Any] = {"kernel_size": 5, "padding": 2, "groups": 4, "stride": 1} | changes
        module = nn.Conv2d(4, 4, **options)
        out = convolution(module, torch.zeros(1, 4, 28, places // 28), module.weight, module.bias)
        return "Depthwise" in type(out.grad_fn).__name__

    assert is_ours(LARGEST_MAP)
    assert is_ours(4 * LARGEST_MAP, stride=2)
    assert not is_ours(LARGEST_MAP + 28)
    assert not is_ours(LARGEST_MAP, kernel_size=3, padding=1)
    assert not is_ours(LARGEST_MAP, groups=2)
    assert not is_ours(LARGEST_MAP, dilation=2)
    with torch.no_grad():
        assert not is_ours(LARGEST_MAP)
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_ours(LARGEST_MAP)
