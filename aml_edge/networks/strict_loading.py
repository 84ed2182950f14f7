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
        _check(key, value, expected[key], source)
    full = {
        key: weights.get(key, torch.zeros_like(value)).to(value.dtype) if key.endswith(COUNTER) else weights[key]
        for key, value in expected.items()
    }
    network.load_state_dict(full, strict=True)


def listed(keys: Collection[str]) -> str:
    """Returns keys for a message: how many and the first few."""
    if not keys:
        return "none"
    shown = ", ".join(list(keys)[:_LISTED])
    return f"{len(keys)} ({shown}{', …' if len(keys) > _LISTED else ''})"


def _check(key: str, value: Tensor, expected: Tensor, source: str) -> None:
    if value.shape != expected.shape:
        raise CheckpointError(
            f"{source} does not fit the network: {key} is {tuple(value.shape)}, it must be {tuple(expected.shape)}."
        )
    if value.device.type != "cpu" or value.layout is not torch.strided or value.is_quantized:
        raise CheckpointError(f"{source} holds {key} as something else than plain numbers; save it as float32.")
    if expected.is_floating_point() != value.is_floating_point() or value.is_complex() or not value.isfinite().all():
        raise CheckpointError(f"{source} holds values in {key} that are no finite numbers; it cannot be used.")
