"""Validation: the training's own loss on images that it never learns from."""

from __future__ import annotations

import numpy as np
import torch

from aml_edge.training.split import Split

LOT = 2**32
"""In place of an epoch's number: queries and pool of the validation are the same after every epoch."""


def validation_loss(split: Split, *, seed: int) -> float:
    """Returns the mean loss over the anchors of a validation split, its negatives mined with the network as it is now.

    Source: as published, hard negatives are mined anew for the validation after every epoch.

    Args:
        split: of the validation images, and of the network.
        seed: of the queries and the pool.
    """
    tuples = split.tuples(np.random.default_rng([seed, LOT]))
    batches = split.batches(tuples)
    chunks = [chunk for batch in batches for chunk in split.chunks(batch)]
    loaded = split.load(chunks)
    sums = [torch.zeros((), device=split.device, dtype=torch.float64)]
    with torch.no_grad(), split.evaluating():
        sums += [split.loss_sum(chunk, next(loaded)).double() for chunk in chunks]
    next(loaded, None)  # what could not be read is said now
    return split.mean_over_processes(torch.stack(sums).sum(), sum(len(batch) for batch in batches)).item()
