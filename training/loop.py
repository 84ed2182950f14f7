"""The training loop: one step after the other, each told to whoever watches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aml_edge.embedder import Embeddings
from aml_edge.errors import TrainingError
from aml_edge.networks.frozen_batch_norm import freeze_batch_norm
from aml_edge.networks.student import Student
from aml_edge.training.batches import forward_by_shape
from aml_edge.training.inputs import TrainingInputs
from aml_edge.training.losses import named_loss
from aml_edge.training.optimisation import build_optimiser, rate_at
from aml_edge.training.settings import TrainingSettings


@dataclass(frozen=True)
class StepRecord:
    """What one step did.

    Args:
        step, epoch: from 1 on.
        images: of the batch.
        loss: mean over them, before the step.
        learning_rate: of the trunk.
    """

    step: int
    epoch: int
    images: int
    loss: float
    learning_rate: float


def training_steps(
    student: Student, inputs: TrainingInputs, teacher_embeddings: Embeddings, settings: TrainingSettings
) -> Iterator[StepRecord]:
    """Trains `student` in place and yields after each step; the same seed and threads give the same weights.

    Args:
        student: to be trained; its batch-norm statistics stay as they are, and so do weights that take no gradient.
        inputs: the images, as its trunk takes them.
        teacher_embeddings: (N, D) of the same images, rows L2-normalised.
        settings: how.

    Raises:
        UsageError: there is no such loss.
        TrainingError: the loss or its gradient is not finite; the weights are those of the step before.
        ImageBatchError: images cannot be read; all of them are listed, at the end of the epoch.
    """
    measure_loss = named_loss(settings.loss)
    student.train()
    freeze_batch_norm(student)
    optimiser = build_optimiser(student, settings)
    rates = [group["lr"] for group in optimiser.param_groups]
    targets = torch.from_numpy(teacher_embeddings)
    generator = torch.Generator().manual_seed(settings.seed)
    count = len(targets)
    total_steps = settings.epochs * math.ceil(count / settings.batch_size)
    step = 0

    def embedded(stack: Tensor) -> Tensor:
        return student.head(inputs.trunk(stack))

    for epoch in range(1, settings.epochs + 1):
        order = torch.randperm(count, generator=generator).tolist()
        for batch in inputs.batches(order, settings.batch_size):
            share = rate_at(step, total_steps, settings.warm_up)
            step += 1
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * share
            embeddings = torch.stack(forward_by_shape(embedded, batch.inputs))  # (B, D)
            loss = measure_loss(embeddings, targets[list(batch.rows)])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            gradients = [weight.grad for weight in student.parameters() if weight.grad is not None]
            gradient_norm = nn.utils.get_total_norm(gradients)
            if not (loss.isfinite() and gradient_norm.isfinite()):
                raise TrainingError(
                    f"the loss is {loss.item():g} and the norm of its gradient {gradient_norm.item():g} at step {step} "
                    f"of {total_steps} (epoch {epoch}); try a `learning_rate` below {settings.learning_rate:g}."
                )
            optimiser.step()
            yield StepRecord(step, epoch, len(batch.rows), loss.item(), settings.learning_rate * share)
