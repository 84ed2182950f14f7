"""Keeps batch-norm statistics as they are while a network trains."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def freeze_batch_norm(network: nn.Module, *, only_without_gradient: bool = False) -> None:
    """Puts every batch normalisation into evaluation mode: statistics frozen, scale and shift still learned.

    As published for all students. `network.train()` undoes it, so call it after each.

    Args:
        network: changed in place.
        only_without_gradient: leave out those whose scale is learned.
    """
    for module in network.modules():
        if not isinstance(module, _BatchNorm):
            continue
        learns = module.affine and module.weight.requires_grad
        if not (only_without_gradient and learns):
            module.eval()
