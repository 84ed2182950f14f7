"""`Split`: the images of one split, ready for a network: tuples are drawn, embedded, and their loss is measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aml_edge.embedder import Embeddings
from aml_edge.training.batches import Group, forward_by_shape
from aml_edge.training.evaluation_mode import evaluation_mode
from aml_edge.training.inputs import TrainingInputs
from aml_edge.training.objective import Objective
from aml_edge.training.processes import Processes
from aml_edge.training.settings import BatchOrder, Mode, TrainingSettings
from aml_edge.training.trainable import Trainable
from aml_edge.training.training_set import TrainingSet
from aml_edge.training.tuples import Rows, Tuples, anchors_per_epoch, one_shape_a_batch, tuples_of_epoch


@dataclass(frozen=True)
class Chunk:
    """Tuples whose images go through the network together, and those images' rows that this process embeds."""

    tuples: Tuples
    own_rows: Rows


class Split:
    """The images of one split, and the network that embeds them.

    Args:
        network: embeds; for a loss in whatever mode it is, for mining in evaluation mode.
        inputs: of the images, as its trunk takes them.
        training_set: the images, their labels and teacher embeddings.
        settings: of the training.
        processes: that share the work.
        bank: of the training images, where this split is another one.
    """

    def __init__(
        self,
        network: Trainable,
        inputs: TrainingInputs,
        training_set: TrainingSet,
        settings: TrainingSettings,
        processes: Processes,
        *,
        bank: Tensor | None = None,
    ) -> None:
        self.objective = Objective(settings, training_set, processes.device, bank=bank)
        self.training_set = training_set
        self.device = processes.device
        self._network, self._inputs, self._settings, self._processes = network, inputs, settings, processes

    @property
    def anchors_per_epoch(self) -> int:
        """How many anchors the batches of an epoch hold."""
        anchors, size = anchors_per_epoch(self.training_set, self._settings), self._settings.batch_size
        return anchors // size * size if self.objective.whole_batch and anchors > size else anchors

    def tuples(self, generator: np.random.Generator) -> Tuples:
        """Returns the tuples of one epoch, mined with the network as it is now."""
        teacher, symmetric = self.training_set.teacher, self._settings.mode is Mode.SYMMETRIC

        def embed_pool(rows: Rows) -> Embeddings:
            if symmetric or teacher is None:
                return self.embeddings_of(rows)
            return teacher.rows[rows]

        drawn = tuples_of_epoch(
            self.training_set, self._settings, generator, embed_queries=self.embeddings_of, embed_pool=embed_pool
        )
        if self._settings.batch_order is BatchOrder.DRAWN:
            return drawn
        shapes = [self._inputs.shape_of(row) for row in drawn.anchors.tolist()]
        return one_shape_a_batch(drawn, shapes, self._settings.batch_size, generator)

    def batches(self, tuples: Tuples) -> list[Tuples]:
        """Returns the tuples in batches; a loss of whole batches leaves a smaller last one out."""
        batches = list(tuples.batches(self._settings.batch_size))
        if self.objective.whole_batch and len(batches) > 1 and len(batches[-1]) < self._settings.batch_size:
            batches.pop()
        return batches

    def chunks(self, batch: Tuples) -> list[Chunk]:
        """Returns what this process does of a batch, in parts that go through the network at once."""
        if self.objective.whole_batch:
            rows = self.objective.images_of(batch).rows
            return [Chunk(batch, rows[self._processes.own(len(rows))])]
        own = self._processes.own(len(batch))
        mine = batch.part(own.start, own.stop)
        each = 1 if self._settings.mode is Mode.ASYMMETRIC else 1 + mine.positives.shape[1] + mine.negatives.shape[1]
        at_once = max(1, self._settings.images_at_once // each)
        return [Chunk(part, self.objective.images_of(part).rows) for part in mine.batches(at_once)]

    def load(self, chunks: Sequence[Chunk]) -> Iterator[Group]:
        """Yields the inputs of each chunk, in order; the next ones are read ahead."""
        return self._inputs.groups([chunk.own_rows.tolist() for chunk in chunks])

    def loss_sum(self, chunk: Chunk, inputs: Group) -> Tensor:
        """Returns the loss of a chunk, summed over its anchors, with its gradient's graph where that is on."""
        images = self.objective.images_of(chunk.tuples)
        embeddings = self.embed(inputs)
        if self.objective.whole_batch:
            embeddings = self._processes.gathered(embeddings, len(images.rows))
        return self.objective.loss_sum(chunk.tuples, images, embeddings)

    def mean_over_processes(self, total: Tensor, anchors: int) -> Tensor:
        """Returns the mean loss of so many anchors from the sum that each process has of its chunks."""
        return (total if self.objective.whole_batch else self._processes.summed(total)) / anchors

    def embed(self, inputs: Group) -> Tensor:
        """Returns (n, D) embeddings of n inputs; those of one shape go through the network together."""
        device = self._processes.device

        def embedded(stack: Tensor) -> Tensor:
            return self._network.head(self._inputs.trunk(stack.to(device, non_blocking=True)))

        if not inputs:  # of a process that has no share
            return torch.zeros(0, self._network.dimension, device=device, dtype=self._network.pool.p.dtype)
        with self._processes.autocast():
            return torch.stack(forward_by_shape(embedded, inputs))

    def evaluating(self) -> AbstractContextManager[None]:
        """Returns the context in which the network is in evaluation mode."""
        return evaluation_mode(self._network)

    def embeddings_of(self, rows: Rows) -> Embeddings:
        """Returns (n, D) embeddings of the images at some rows, without gradient; the processes share the work."""
        own = rows[self._processes.own(len(rows))].tolist()
        size = self._settings.images_at_once
        groups = [own[start : start + size] for start in range(0, len(own), size)]
        with torch.no_grad(), self.evaluating():
            parts = [self.embed(group).float() for group in self._inputs.groups(groups)]
            gathered = self._processes.gathered(torch.cat(parts or [self.embed(()).float()]), len(rows))
        embeddings: Embeddings = gathered.cpu().numpy()
        return embeddings
