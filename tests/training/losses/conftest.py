"""Values and gradients of the published definitions, and unit rows at known angles."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

PUBLISHED = json.loads((Path(__file__).parents[2] / "data" / "losses" / "published.json").read_text())
"""Computed in float64 with the published definitions: of tuples summed, of batches the mean."""
EXACT = 1e-9


def float64(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.fixture
def rows_at() -> Callable[..., Tensor]:
    """Makes unit rows (B, 2) at these angles, in degrees."""
    return lambda *degrees: float64([[math.cos(math.radians(a)), math.sin(math.radians(a))] for a in degrees])


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
