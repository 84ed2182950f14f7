"""`StagedPixels`: pixels on their way to a GPU, which copies one batch while the next is put together.

A GPU copies from page-locked memory by itself, and from other memory only while the processor waits. Two such buffers
take turns; before one is filled again, the copy out of it must have ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from aml_edge.pixels import Pixels

BUFFERS = 2


class Copied(Protocol):
    """A mark in the work of a GPU."""

    def record(self) -> None:
        """Sets the mark after all that the GPU was given until now."""
        ...

    def synchronize(self) -> None:
        """Waits until the GPU has come to the mark."""
        ...


class StagedPixels:
    """Sends batches of pixels of one shape to a GPU.

    Args:
        device: the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._buffers = [page_locked(0) for _ in range(BUFFERS)]
        self._copied: list[Copied | None] = [None] * BUFFERS
        self._turn = 0

    def send(self, images: Sequence[Pixels]) -> Tensor:
        """Returns (B, H, W, 3) uint8 on the GPU, before they have arrived; what the GPU does with them next waits."""
        turn, self._turn = self._turn, (self._turn + 1) % BUFFERS
        shape, size = (len(images), *images[0].shape), sum(image.size for image in images)
        copied = self._copied[turn]
        if copied is not None:
            copied.synchronize()
        if len(self._buffers[turn]) < size:
            self._buffers[turn] = page_locked(size)
        staged = self._buffers[turn][:size].view(shape)
        np.stack(images, out=staged.numpy())
        sent = staged.to(self._device, non_blocking=True, copy=True)
        self._copied[turn] = copied = copied or GpuMark(self._device)
        copied.record()
        return sent


def page_locked(size_bytes: int) -> Tensor:
    """Returns so many bytes of memory that a GPU reads by itself."""
    return torch.empty(size_bytes, dtype=torch.uint8, pin_memory=size_bytes > 0)


class GpuMark:
    """A `Copied` of one GPU, in the stream of its work that is in use."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.current_stream(device)
        self._event: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]

    def record(self) -> None:
        """Sets the mark."""
        self._event.record(self._stream)

    def synchronize(self) -> None:
        """Waits for it."""
        self._event.synchronize()
