"""Loss functions, one file each; to add one: a module with a function of tensors and a line in `LOSSES`."""

from __future__ import annotations

from collections.abc import Callable

import torch

from aml_edge.errors import UsageError
from aml_edge.training.losses.regression import regression

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From student and teacher embeddings of the same images, both (B, D), rows L2-normalised, to a scalar."""

LOSSES: dict[str, Loss] = {
    "regression": regression,
}


def named_loss(name: str) -> Loss:
    """Returns the loss of a name in `LOSSES`; raises `UsageError` that lists them where there is none."""
    if name not in LOSSES:
        raise UsageError(f"`loss` is {name!r}; it must be one of {', '.join(LOSSES)}.")
    return LOSSES[name]
