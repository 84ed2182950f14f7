"""Where the adaptor starts: a ridge regression from the trunk's pooled features to the teacher's embeddings.

Ours, not of the paper. For a frozen trunk and a linear head W, Reg without its L2 normalisation is
Σ ½‖W u(a) − g(a)‖², where u(a) is the L2-normalised GeM of the trunk's feature map; with a ridge penalty its minimum
has a closed form. The student then applies the same W at every place of the map, before ReLU and GeM, so it is a start
and no solution, but one that takes a single pass over the images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from aml_edge.embedder import Embeddings
from aml_edge.errors import UsageError
from aml_edge.networks.pooling import gem, l2_normalise
from aml_edge.networks.student import Student
from aml_edge.progress import Progress, SilentProgress
from aml_edge.training.batches import forward_by_shape
from aml_edge.training.inputs import TrainingInputs

GROUP_SIZE = 16


def warm_start_adaptor(
    student: Student,
    inputs: TrainingInputs,
    teacher_embeddings: Embeddings,
    *,
    penalty: float,
    progress: Progress | None = None,
) -> Tensor:
    """Returns weights (D, C, 1, 1) for the student's adaptor; the student itself is left as it is.

    Args:
        student: in evaluation mode; its trunk gives the features, pooled with its own GeM power.
        inputs: the images, as its trunk takes them.
        teacher_embeddings: (N, D) of the same images.
        penalty: see `ridge_regression`.
        progress: where the work is announced.
    """
    targets = torch.from_numpy(teacher_embeddings)
    count = len(targets)

    def pooled(stack: Tensor) -> Tensor:
        return l2_normalise(gem(inputs.trunk(stack.to(student.pool.p.device)), student.pool.p))

    def pairs() -> Iterator[tuple[Tensor, Tensor]]:
        with (progress or SilentProgress()).task("warm start", count) as task:
            groups = [range(start, min(start + GROUP_SIZE, count)) for start in range(0, count, GROUP_SIZE)]
            for rows, group in zip(groups, inputs.groups(groups), strict=True):
                features = torch.stack(forward_by_shape(pooled, group)).cpu()
                yield features, targets[rows.start : rows.stop]
                task.advance(len(rows))

    with torch.no_grad():
        weights = ridge_regression(pairs(), penalty=penalty)
    return weights[:, :, None, None].to(student.adaptor.weight.dtype)


def ridge_regression(pairs: Iterable[tuple[Tensor, Tensor]], *, penalty: float) -> Tensor:
    """Returns the W (D, C), float64, that minimises Σ ‖W u − t‖² + λ‖W‖² over all rows u and t.

    Args:
        pairs: batches of features (B, C) and targets (B, D); only their products are kept, so there may be many.
        penalty: λ as a multiple of the mean over the C features of Σ u²; above 0, so that fewer rows than features
            are no trouble.

    Raises:
        UsageError: rows do not belong together, a value is not finite, or there is nothing but zeros.
    """
    gram, products = torch.zeros(()), torch.zeros(())
    for features, targets in pairs:
        if features.ndim != 2 or targets.ndim != 2 or len(features) != len(targets):
            raise UsageError(
                f"features are {tuple(features.shape)} and targets {tuple(targets.shape)}; "
                "both must have one row for each image."
            )
        if not (features.isfinite().all() and targets.isfinite().all()):
            raise UsageError(
                "a feature of the student or a teacher embedding is not finite; look for NaN in the student's weights "
                "and in the index."
            )
        gram = gram + features.double().T @ features.double()  # (C, C)
        products = products + features.double().T @ targets.double()  # (C, D)
    if not gram.any():
        raise UsageError("all features are zero, or there are none; a regression needs some that differ from zero.")
    ridge = penalty * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    weights: Tensor = torch.linalg.solve(gram + ridge, products).T
    return weights
