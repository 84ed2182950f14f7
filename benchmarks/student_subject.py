"""`StudentSubject`: the student as it is, in PyTorch's eager mode, the reference of every file made from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from aml_edge.embedder import Embedder
from aml_edge.networks.checkpoints import load_student
from aml_edge.networks.torchvision_guard import import_timm
from aml_edge.preprocessing import Preprocessing
from aml_edge.runtimes.torch_runtime import TorchEmbedder

CPU = "cpu"
CUDA = "cuda"


@dataclass(frozen=True)
class StudentSubject:
    """A student in PyTorch.

    Args:
        path: a student's file, or a folder that holds one.
        preprocessing: of the file that it is compared with: the same square.
        device: as PyTorch names it.
        threads: of one inference; None leaves them to PyTorch.
    """

    path: Path
    preprocessing: Preprocessing
    device: str
    threads: int | None

    def import_runtime(self) -> None:
        """Imports timm, which imports what of torch this module has not."""
        import_timm()

    def open(self) -> Embedder:
        """Returns an Embedder of the student, its weights read from disk."""
        checkpoint = load_student(self.path)
        return TorchEmbedder(
            checkpoint.student,
            space=checkpoint.space,
            preprocessing=self.preprocessing,
            name=f"torch eager {self.device}",
            threads=self.threads,
            device=self.device,
        )

    def device_peak_bytes(self) -> int | None:
        """Returns what PyTorch's allocator held at most on a CUDA device; None on the CPU."""
        if self.device == CPU or not torch.cuda.is_available():
            return None
        return torch.cuda.max_memory_allocated(self.device)


def cuda_devices() -> tuple[str, ...]:
    """Returns the names of this machine's CUDA devices."""
    if not torch.cuda.is_available():
        return ()
    return tuple(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count()))
