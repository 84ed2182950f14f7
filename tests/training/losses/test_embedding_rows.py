"""What keeps every loss out of half precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from aml_edge.training.losses.contrastive import contrastive, contrastive_plus
from aml_edge.training.losses.dark_rank import dark_rank
from aml_edge.training.losses.multi_similarity import multi_similarity
from aml_edge.training.losses.relational import relational
from aml_edge.training.losses.triplet import triplet

COUNT, DIMENSION = 6, 32
BATCH = [
    lambda rows: relational(rows[0], rows[1]),
    lambda rows: dark_rank(rows[0], rows[1]),
]
TUPLES = [
    lambda rows: contrastive(rows[0], rows[1], rows[2:].transpose(0, 1), margin=0.7),
    lambda rows: contrastive_plus(
        rows[0], rows[1], negatives=rows[2:].transpose(0, 1), teacher_anchor=rows[1], margin=0.7
    ),
    lambda rows: triplet(rows[0], rows[1], rows[2:].transpose(0, 1), margin=0.1),
    lambda rows: multi_similarity(rows[0], rows[1], rows[2:].transpose(0, 1)),
]


@pytest.fixture
def rows() -> Tensor:
    """Four stacks of unit rows, with values that half precision holds exactly."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(4, COUNT, DIMENSION, generator=generator), dim=2)
    return rows.bfloat16().float()


@pytest.mark.parametrize("loss", BATCH + TUPLES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_autocast_and_half_inputs_change_nothing(loss: Any, dtype: torch.dtype, rows: Tensor) -> None:
    expected = loss(rows)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(rows.to(dtype))
    assert found.dtype == torch.float32
    assert found.item() == expected.item()


@pytest.mark.parametrize("loss", BATCH + TUPLES)
def test_double_precision_stays(loss: Any, rows: Tensor) -> None:
    assert loss(rows.double()).dtype == torch.float64
