"""Pixels on their way to a GPU: which buffer is filled when, without a GPU; and the same embeddings, with one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from aml_edge.runtimes import staged_pixels
from aml_edge.runtimes.staged_pixels import StagedPixels

Images = list[npt.NDArray[np.uint8]]


def batch(value: int, count: int = 2, side: int = 4) -> Images:
    return [np.full((side, side + 1, 3), value + number, np.uint8) for number in range(count)]


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of memory and marks, in order; the memory is plain, and a mark has a letter."""
    seen: list[str] = []

    class Mark:
        def __init__(self, device: torch.device) -> None:
            assert device == torch.device("cpu")
            self.letter = "ab"[sum(one.startswith("mark") for one in seen)]
            seen.append(f"mark {self.letter}")

        def record(self) -> None:
            seen.append(f"record {self.letter}")

        def synchronize(self) -> None:
            seen.append(f"wait {self.letter}")

    def plain(size_bytes: int) -> torch.Tensor:
        if size_bytes:
            seen.append(f"lock {size_bytes}")
        return torch.empty(size_bytes, dtype=torch.uint8)

    monkeypatch.setattr(staged_pixels, "page_locked", plain)
    monkeypatch.setattr(staged_pixels, "GpuMark", Mark)
    return seen


def test_two_buffers_take_turns_and_none_is_filled_before_it_was_copied(events: list[str]) -> None:
    staged = StagedPixels(torch.device("cpu"))
    batches = [batch(10), batch(20), batch(30, count=1), batch(40, side=6)]
    sent = [staged.send(images) for images in batches]
    for tensor, images in zip(sent, batches, strict=True):
        assert np.array_equal(tensor.numpy(), np.stack(images))  # none was written over
    assert events == [
        *("lock 120", "mark a", "record a"),
        *("lock 120", "mark b", "record b"),
        *("wait a", "record a"),  # a smaller batch finds room
        *("wait b", "lock 252", "record b"),
    ]


@pytest.mark.needs_gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_gpu_gets_what_was_sent() -> None:
    staged = StagedPixels(torch.device("cuda"))
    batches = [batch(value, count=8, side=200) for value in range(0, 240, 8)]
    sent = [staged.send(images) for images in batches]
    for tensor, images in zip(sent, batches, strict=True):
        assert np.array_equal(tensor.cpu().numpy(), np.stack(images))
