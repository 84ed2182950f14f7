"""Values and gradients of the published definitions, unit rows at known angles and by lot, and what a loss builds."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

PUBLISHED = json.loads((Path(__file__).parents[2] / "data" / "losses" / "published.json").read_text())
"""Computed in float64 with the published definitions: of tuples summed, of batches the mean."""
EXACT = 1e-9


def float64(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.fixture
def rows_at() -> Callable[..., Tensor]:
    """Makes unit rows (B, 2) at these angles, in degrees."""
    return lambda *degrees: float64([[math.cos(math.radians(a)), math.sin(math.radians(a))] for a in degrees])


@pytest.fixture
def unit_rows() -> Callable[[int, int, int], Tensor]:
    """Makes unit rows (count, dimension) in float64, by a seed."""

    def make(count: int, dimension: int, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return functional.normalize(torch.randn(count, dimension, generator=generator, dtype=torch.float64))

    return make


@pytest.fixture
def largest_built() -> Callable[[Callable[[], object]], int]:
    """Returns how many values the largest tensor has that some work builds."""

    def largest_of(work: Callable[[], object]) -> int:
        largest = 0

        class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
            def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
                nonlocal largest
                result = func(*args, **(kwargs or {}))
                for one in result if isinstance(result, tuple | list) else (result,):
                    largest = max(largest, one.numel() if isinstance(one, Tensor) else 0)
                return result

        with Watch():  # type: ignore[no-untyped-call]
            work()
        return largest

    return largest_of


@pytest.fixture(params=PUBLISHED, ids=("first", "second"))
def check(request: pytest.FixtureRequest) -> Callable[[str, str, Callable[..., Tensor]], None]:
    """Checks that a loss of a case's tensors has the published value, and gradient to the tensor of that name."""
    case = request.param

    def checked(name: str, learns: str, loss: Callable[..., Tensor]) -> None:
        tensors = {key: float64(value) for key, value in case.items() if isinstance(value, list)}
        tensors[learns].requires_grad_()
        value = loss(**tensors)
        (gradient,) = torch.autograd.grad(value, tensors[learns])
        published = case["losses"][name]
        expected = next(entry for key, entry in published.items() if key.startswith("grad"))
        assert value.item() == pytest.approx(published["value"], abs=EXACT)
        torch.testing.assert_close(gradient, float64(expected), atol=EXACT, rtol=0)

    return checked
