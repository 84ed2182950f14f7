"""What the losses have in common: shapes, full precision, distances, and the mean or the sum over anchors."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal, ParamSpec

import torch
from torch import Tensor

from aml_edge.errors import UsageError

Reduction = Literal["mean", "sum"]
Parameters = ParamSpec("Parameters")


def in_full_precision(loss: Callable[Parameters, Tensor]) -> Callable[Parameters, Tensor]:
    """Returns the loss with autocast off and half-precision tensors widened to float32; float64 stays.

    A squared norm of 2048 values, or the exponential of a similarity times 40, has no place in half precision.
    """

    @functools.wraps(loss)
    def widened(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Tensor:
        wide = [_widened(value) for value in args]
        named = {name: _widened(value) for name, value in kwargs.items()}
        device = next(value.device.type for value in (*wide, *named.values()) if isinstance(value, Tensor))
        with torch.autocast(device, enabled=False):
            return loss(*wide, **named)  # type: ignore[arg-type]  # the same values, wider

    return widened


def reduced(per_anchor: Tensor, reduction: Reduction) -> Tensor:
    """Returns the mean or the sum of (B,) values."""
    return per_anchor.mean() if reduction == "mean" else per_anchor.sum()


def require_pair(student: Tensor, teacher: Tensor) -> None:
    """Raises `UsageError` unless both are embeddings of the same images: (B, ·), of any two dimensions."""
    if student.ndim != 2 or teacher.ndim != 2 or len(student) != len(teacher):
        raise UsageError(
            f"`student` is {tuple(student.shape)} and `teacher` {tuple(teacher.shape)}; both must be embeddings of the "
            "same images, (B, D)."
        )


def positives_of(anchor: Tensor, positive: Tensor) -> Tensor:
    """Returns the positives as (B, P, D); raises `UsageError` unless they are (B, D) or (B, P, D) of (B, D) anchors."""
    several = positive[:, None] if positive.ndim == 2 else positive
    _require_tuples(anchor, several, "positive", "(B, D) or (B, P, D)")
    return several


def require_negatives(anchor: Tensor, negatives: Tensor) -> None:
    """Raises `UsageError` unless negatives are (B, N, D) of (B, D) anchors; N may be 0."""
    _require_tuples(anchor, negatives, "negatives", "(B, N, D)")


def squared_distances(anchor: Tensor, others: Tensor, eps: float) -> Tensor:
    """Returns ‖a − x + eps‖², (B, N), of anchors (B, D) and others (B, N, D)."""
    return (anchor[:, None] - others + eps).square().sum(dim=-1)


def similarities(anchor: Tensor, others: Tensor) -> Tensor:
    """Returns the dot products, (B, N), of anchors (B, D) and others (B, N, D)."""
    return torch.einsum("bd,bnd->bn", anchor, others)


def pairwise_squared_distances(rows: Tensor) -> Tensor:
    """Returns ‖x_i − x_j‖², (B, B), never below 0 and exactly 0 on the diagonal.

    Rows are centred first: embeddings of untrained networks are nearly equal, and the difference of two large products
    would be rounding.
    """
    centred = rows - rows.mean(dim=0)
    gram = centred @ centred.T
    norms = gram.diagonal()
    squared = (norms[:, None] + norms[None, :] - 2 * gram).clamp(min=0)
    return squared.masked_fill(torch.eye(len(rows), dtype=torch.bool, device=rows.device), 0)


def safe_sqrt(values: Tensor) -> Tensor:
    """Returns square roots whose gradient at 0 is 0 and not infinite."""
    positive = values > 0
    return torch.where(positive, torch.where(positive, values, 1).sqrt(), 0)


def _require_tuples(anchor: Tensor, others: Tensor, name: str, expected: str) -> None:
    if anchor.ndim != 2 or others.ndim != 3 or (len(others), others.shape[2]) != tuple(anchor.shape):
        raise UsageError(
            f"`anchor` is {tuple(anchor.shape)} and `{name}` {tuple(others.shape)}; they must be (B, D) and {expected}."
        )


def _widened(value: object) -> object:
    half = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
    return value.float() if half and isinstance(value, Tensor) else value
