"""`OperatorCensus`: what stands in a model file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class OperatorCensus:
    """Counts of a model file's operators and weights.

    Args:
        operators: operator type as the format names it → how often it stands in the graph; constants not counted.
        weight_values: dtype (``"float32"``, ``"float16"``, ``"int8"``, …) → number of stored weight values.
        transposes: operators that only permute axes of an activation.
    """

    operators: Mapping[str, int]
    weight_values: Mapping[str, int]
    transposes: int
