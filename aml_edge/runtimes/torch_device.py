"""A device of PyTorch by its name, asked whether this machine has it."""

from __future__ import annotations

import torch

from aml_edge.errors import RuntimeUnavailableError, UsageError


def torch_device(name: str) -> torch.device:
    """Returns a device that this machine has.

    Raises:
        UsageError: no such device, e.g. ``"gpu"``.
        RuntimeUnavailableError: this machine does not have it.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"`device` is {name!r}; it must be 'cpu', 'cuda', or another name of PyTorch's.") from None
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as problem:
        reason = str(problem).partition("\n")[0]
        raise RuntimeUnavailableError(f"`device` is {name!r}, which this machine does not have: {reason}") from None
    return device
