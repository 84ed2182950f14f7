"""`Training`: one step after the other, each told to whoever watches; its state can be saved between any two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from aml_edge.errors import TrainingError, UsageError
from aml_edge.networks.frozen_batch_norm import freeze_batch_norm
from aml_edge.training.batches import Group
from aml_edge.training.optimisation import build_optimiser, rate_share
from aml_edge.training.processes import Processes
from aml_edge.training.settings import BatchNorm, TrainingSettings
from aml_edge.training.split import Chunk, Split
from aml_edge.training.trainable import Trainable
from aml_edge.training.tuples import Tuples

LISTED_FILES = 10


@dataclass(frozen=True)
class StepRecord:
    """What one step did.

    Args:
        step, epoch: from 1 on.
        anchors, images: of the batch; so many images went through the network.
        loss: mean over the anchors, before the step.
        learning_rate: of the trunk.
    """

    step: int
    epoch: int
    anchors: int
    images: int
    loss: float
    learning_rate: float


@dataclass(frozen=True)
class Position:
    """How far a training is.

    Args:
        epoch: the one that it is in, from 1 on; one more than there are where all is done.
        batch: batches of this epoch that are done.
        step: steps that are done, of all epochs.
    """

    epoch: int = 1
    batch: int = 0
    step: int = 0


class Training:
    """A network in training.

    Given the same data, settings, threads and number of processes it goes through the same weights, also where it was
    stopped and another one took on its position, tuples, weights and optimiser.

    Args:
        network: trained in place.
        split: of this network and the training images.
        settings: how.
        processes: that share the work.

    Raises:
        UsageError: several processes are to train batch-norm statistics, each its own.
    """

    def __init__(self, network: Trainable, split: Split, settings: TrainingSettings, processes: Processes) -> None:
        if settings.batch_norm is BatchNorm.TRAINED and processes.count > 1:
            raise UsageError(
                f"`batch_norm` is 'trained', but in {processes.count} processes the statistics would part; it must be "
                "'frozen', or train in one process."
            )
        self.network, self.settings = network, settings
        self.position = Position()
        self.tuples: Tuples | None = None
        self._split, self._processes = split, processes
        self.optimiser = build_optimiser(network, settings)
        self._rates = [group["lr"] for group in self.optimiser.param_groups]
        self._stepping = processes.accelerator.prepare_optimizer(self.optimiser)
        network.train()
        freeze_batch_norm(network, only_without_gradient=settings.batch_norm is BatchNorm.TRAINED)

    @property
    def is_done(self) -> bool:
        """Whether all epochs are."""
        return self.position.epoch > self.settings.epochs

    @property
    def scaler(self) -> torch.amp.GradScaler | None:
        """What keeps float16's gradients from vanishing; None in any other precision."""
        scaler: torch.amp.GradScaler | None = self._stepping.scaler
        return scaler

    def steps_of_epoch(self) -> Iterator[StepRecord]:
        """Yields after each step that is left of the epoch; after the last, `end_epoch` leads to the next.

        Raises:
            TrainingError: the loss or its gradient is not finite; the weights are those of the step before.
            ImageBatchError: images cannot be read; all of them are listed, at the step that needs the first of them.
        """
        if self.tuples is None:
            self.tuples = self._split.tuples(np.random.default_rng([self.settings.seed, self.position.epoch]))
        batches = self._split.batches(self.tuples)
        left = [self._split.chunks(batch) for batch in batches[self.position.batch :]]
        loaded = self._split.load([chunk for chunks in left for chunk in chunks])
        for batch, chunks in zip(batches[self.position.batch :], left, strict=True):
            position = Position(self.position.epoch, self.position.batch + 1, self.position.step + 1)
            record = self._step(batch, chunks, loaded, position, len(batches))
            self.position = position
            yield record
        next(loaded, None)  # what could not be read is said now

    def end_epoch(self) -> None:
        """Goes on to the next epoch, whose tuples are drawn when its first step is asked for."""
        self.position = Position(self.position.epoch + 1, 0, self.position.step)
        self.tuples = None

    def _step(
        self, batch: Tuples, chunks: list[Chunk], loaded: Iterator[Group], position: Position, batches: int
    ) -> StepRecord:
        share = rate_share(self.settings, position.epoch, position.step - 1, batches)
        for group, rate in zip(self.optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * share
        self.optimiser.zero_grad()
        total = torch.zeros((), device=self._processes.device)
        for chunk in chunks:
            loss = self._split.loss_sum(chunk, next(loaded))
            if loss.requires_grad:  # not that of a process without a share
                self._processes.accelerator.backward(loss / len(batch))
            total += loss.detach()
        weights = list(self.network.parameters())
        self._processes.sum_gradients(weights)
        mean = self._split.mean_over_processes(total, len(batch))
        self._require_finite(mean, weights, batch, position)
        self._stepping.step()
        images, rate = len(self._split.objective.images_of(batch).rows), self.settings.learning_rate * share
        return StepRecord(position.step, position.epoch, len(batch), images, mean.item(), rate)

    def _require_finite(self, loss: Tensor, weights: list[nn.Parameter], batch: Tuples, position: Position) -> None:
        scaled = self.scaler is not None
        if scaled:
            self._processes.accelerator.unscale_gradients(self._stepping)
        norm = nn.utils.get_total_norm([weight.grad for weight in weights if weight.grad is not None])
        if loss.isfinite() and (norm.isfinite() or scaled):  # a scaler leaves such steps out
            return
        rows = np.concatenate([batch.anchors[:, None], batch.positives, batch.negatives], axis=1).ravel()
        files = list(dict.fromkeys(str(self._split.training_set.items[row].path) for row in rows))
        more = f"\n  and {len(files) - LISTED_FILES} more" if len(files) > LISTED_FILES else ""
        listed = "".join(f"\n  {file}" for file in files[:LISTED_FILES])
        raise TrainingError(
            f"the loss is {loss.item():g} and the norm of its gradient {norm.item():g} at step {position.step} "
            f"(epoch {position.epoch} of {self.settings.epochs}); try a `learning_rate` below "
            f"{self.settings.learning_rate:g}, or look at the images of this step:{listed}{more}"
        )
