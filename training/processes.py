"""`Processes`: the processes that train one network together, started and joined by Hugging Face Accelerate.

Each takes its share of a batch, and their gradients are added up. So a batch means the same whatever number of
processes works on it, and so do losses that compare all images of a batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from accelerate import Accelerator


class Processes:
    """The processes that train together; one where nothing else was started.

    Args:
        accelerator: knows device, precision and the other processes.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.device: torch.device = accelerator.device
        self.count: int = accelerator.num_processes
        self.is_main: bool = accelerator.is_main_process

    def own(self, total: int) -> slice:
        """Returns which of `total` things this process takes; shares differ by one at most, and may be empty."""
        rank = self.accelerator.process_index
        return slice(total * rank // self.count, total * (rank + 1) // self.count)

    def autocast(self) -> AbstractContextManager[None]:
        """Returns the context in which a network runs in the precision that was asked for."""
        context: AbstractContextManager[None] = self.accelerator.autocast()
        return context

    def gathered(self, own: Tensor, total: int) -> Tensor:
        """Returns the rows (total, D) of all processes, of which this one has `own`; gradients flow to its own only."""
        if self.count == 1:
            return own
        sizes = [total * (rank + 1) // self.count - total * rank // self.count for rank in range(self.count)]
        padded = nn.functional.pad(own.detach(), (0, 0, 0, max(sizes) - len(own)))
        parts = list(self.accelerator.gather(padded).reshape(self.count, max(sizes), -1))
        parts[self.accelerator.process_index] = own
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    def summed(self, value: Tensor) -> Tensor:
        """Returns the sum of a tensor over the processes."""
        if self.count == 1:
            return value
        total: Tensor = self.accelerator.reduce(value, reduction="sum")
        return total

    def sum_gradients(self, weights: Iterable[Tensor]) -> None:
        """Replaces the gradient of each weight by its sum over the processes; a missing one counts as zero."""
        if self.count == 1:
            return
        learning = [weight for weight in weights if weight.requires_grad]
        gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in learning]
        flat = self.summed(torch.cat([gradient.flatten() for gradient in gradients]))
        parts = torch.split(flat, [one.numel() for one in learning])
        for weight, gradient in zip(learning, parts, strict=True):
            weight.grad = torch.empty_like(weight).copy_(gradient.view_as(weight))  # laid out as its weight is

    def any(self, flag: bool) -> bool:
        """Returns whether the flag is set in any process."""
        return bool(self.summed(torch.tensor(float(flag), device=self.device)) > 0) if self.count > 1 else flag

    def wait(self) -> None:
        """Returns when all processes have come here."""
        self.accelerator.wait_for_everyone()

    def share(self, network: nn.Module) -> None:
        """Gives every process the main one's weights and buffers."""
        if self.count > 1:
            from accelerate.utils import broadcast

            for tensor in network.state_dict().values():
                tensor.copy_(broadcast(tensor.clone(), from_process=0))
