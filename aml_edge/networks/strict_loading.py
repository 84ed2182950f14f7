"""Puts weights into a network: every key once, every shape right, every value finite, or nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from aml_edge.errors import CheckpointError

COUNTER = "num_batches_tracked"
"""Batch norm counts its batches; nothing reads the count here, and files from before PyTorch 0.4.1 lack it."""
_LISTED = 6


def load_strictly(network: nn.Module, weights: Mapping[str, Tensor], *, source: str) -> None:
    """Loads `weights` into `network`; counters of batches may be missing and then become zero.

    Args:
        network: changed only where all is right.
        weights: by the network's own keys, as they come from a file: untrusted.
        source: what the message names, e.g. the file.

    Raises:
        CheckpointError: keys missing or left over (listed), a shape or type that does not fit, NaN or Inf.
    """
    expected = network.state_dict()
    missing = [key for key in expected if key not in weights and not key.endswith(COUNTER)]
    left_over = [key for key in weights if key not in expected]
    if missing or left_over:
        raise CheckpointError(
            f"{source} does not fit the network: missing {listed(missing)}; left over {listed(left_over)}."
        )
    for key, value in weights.items():
        require_plain(key, value, source=source)
        _check(key, value, expected[key], source)
    full = {
        key: weights.get(key, torch.zeros_like(value)).to(value.dtype) if key.endswith(COUNTER) else weights[key]
        for key, value in expected.items()
    }
    network.load_state_dict(full, strict=True)


def require_plain(key: str, value: Tensor, *, source: str) -> None:
    """Raises `CheckpointError` unless a tensor holds each of its numbers in memory, as real ones."""
    plain = value.device.type == "cpu" and value.layout is torch.strided
    if not plain or value.is_quantized or value.is_complex() or _claims_more_than_it_holds(value):
        raise CheckpointError(f"{source} holds {key} as something else than plain numbers; get or save it again.")


def listed(keys: Collection[str]) -> str:
    """Returns keys for a message: how many and the first few."""
    if not keys:
        return "none"
    shown = ", ".join(list(keys)[:_LISTED])
    return f"{len(keys)} ({shown}{', …' if len(keys) > _LISTED else ''})"


def _claims_more_than_it_holds(value: Tensor) -> bool:
    """Whether a tensor repeats its numbers: a few bytes in a file could then ask for any amount of memory."""
    return value.numel() * value.element_size() > value.untyped_storage().nbytes()


def _check(key: str, value: Tensor, expected: Tensor, source: str) -> None:
    if value.shape != expected.shape:
        raise CheckpointError(
            f"{source} does not fit the network: {key} is {tuple(value.shape)}, it must be {tuple(expected.shape)}."
        )
    if expected.is_floating_point() != value.is_floating_point():
        raise CheckpointError(f"{source} holds {key} as {value.dtype}; it must be {expected.dtype}.")
    if not value.isfinite().all():
        raise CheckpointError(f"{source} holds NaN or Inf in {key}; it cannot be used.")
