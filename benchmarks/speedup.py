"""How many times faster one row is than another, from turns that both took in the same rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aml_edge.errors import UsageError

RESAMPLES = 4000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class SpeedUp:
    """How many times faster; 2 is half the time.

    Args:
        value: median over rounds of (reference's median time / row's median time) in the round.
        low, high: 95 % bootstrap interval over rounds.
        rounds: how many there were.
    """

    value: float
    low: float
    high: float
    rounds: int


def measure_speed_up(
    reference_turns: Sequence[Sequence[int]], turns: Sequence[Sequence[int]], *, seed: int = 0
) -> SpeedUp:
    """Returns how many times faster `turns` are than `reference_turns`.

    Times are compared within a round only, where both rows met the same load, and rounds are resampled whole.

    Args:
        reference_turns, turns: times of each turn's calls, one turn a round, in the same order of rounds.
        seed: of the resampling.

    Raises:
        UsageError: the rows did not take the same number of turns, or none.
    """
    if len(reference_turns) != len(turns) or not turns:
        raise UsageError(f"one row took {len(reference_turns)} turns, the other {len(turns)}; compare whole rounds.")
    ratios = np.array(
        [np.median(slow) / np.median(fast) for slow, fast in zip(reference_turns, turns, strict=True)], np.float64
    )  # (rounds,)
    drawn = np.random.default_rng(seed).integers(0, len(ratios), (RESAMPLES, len(ratios)))
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(np.median(ratios[drawn], axis=1), (tail, 100 - tail))
    return SpeedUp(float(np.median(ratios)), float(low), float(high), len(ratios))
