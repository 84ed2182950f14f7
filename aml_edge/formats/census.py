"""`OperatorCensus`: what stands in a model file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class OperatorCensus:
    """Counts of a model file's operators and weights.

    Args:
        operators: operator type as the format names it → how often it stands in the graph; constants not counted.
        weight_values: dtype (``"float32"``, ``"float16"``, ``"int8"``, …) → number of stored weight values.
        transposes: operators that only permute axes of an activation.
        integer_operators: like `operators`, of those that take and give integers.
        integer_convolutions: convolutions that compute in integers, by ranges that stand in the file.
        dynamic_convolutions: convolutions that compute in integers, by the range of what each is given.
        weight_only_convolutions: convolutions in floating point that widen weights stored as integers or in a palette.
        float_convolutions: convolutions in floating point with weights that are too.
        largest_float_convolution: number of weight values of the largest of these.
    """

    operators: Mapping[str, int]
    weight_values: Mapping[str, int]
    transposes: int
    integer_operators: Mapping[str, int] = field(default_factory=dict)
    integer_convolutions: int = 0
    dynamic_convolutions: int = 0
    weight_only_convolutions: int = 0
    float_convolutions: int = 0
    largest_float_convolution: int = 0
