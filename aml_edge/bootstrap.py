"""Percentile bootstrap intervals of a mean over queries, and of a paired difference of means.

Queries are drawn with replacement, as many as there are; the interval holds the middle 95 % of the means. Settings
with few queries give wide intervals, which is what they should say.

Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aml_edge.errors import UsageError

RESAMPLES = 10_000
"""Puts the ends of a 95 % interval within about a fiftieth of its width of where endless resampling would."""
TAIL_PERCENT = 2.5
DRAWN_AT_ONCE = 1 << 20
"""Places drawn in one go, which bounds memory; it does not change what is drawn."""


@dataclass(frozen=True)
class Interval:
    """A 95 % interval; both ends belong to it."""

    low: float
    high: float


def bootstrap_mean(values: npt.ArrayLike, *, seed: int = 0) -> Interval:
    """Returns the 95 % percentile interval of the mean of (N,) values, by 10 000 resamples.

    Raises:
        UsageError: there is no value, or one is not finite; leave out queries without positives first.
    """
    means = _resampled_means(_finite_vector("values", values), seed)
    low, high = np.percentile(means, [TAIL_PERCENT, 100 - TAIL_PERCENT])
    return Interval(float(low), float(high))


def paired_bootstrap(first: npt.ArrayLike, second: npt.ArrayLike, *, seed: int = 0) -> Interval:
    """Returns the 95 % interval of mean(second − first) over the same queries, which are drawn in pairs.

    Pairing takes out what makes a query hard for both, so it sees differences that two single intervals hide.

    Raises:
        UsageError: the two are not about the same queries, are empty, or hold a value that is not finite.
    """
    return bootstrap_mean(paired_differences(first, second), seed=seed)


def paired_differences(first: npt.ArrayLike, second: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Returns (N,) second − first of values of the same N queries; raises as `paired_bootstrap`."""
    left, right = _finite_vector("first", first), _finite_vector("second", second)
    if len(left) != len(right):
        raise UsageError(f"`first` holds {len(left)} values and `second` {len(right)}; pairs need one of each a query.")
    return right - left


def _resampled_means(values: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.float64]:
    generator = np.random.default_rng(seed)
    means = np.empty(RESAMPLES)
    at_once = max(1, DRAWN_AT_ONCE // len(values))
    for start in range(0, RESAMPLES, at_once):
        count = min(at_once, RESAMPLES - start)
        drawn = generator.integers(len(values), size=(count, len(values)))
        means[start : start + count] = values[drawn].mean(axis=1)
    return means


def _finite_vector(name: str, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    vector = np.asarray(values, np.float64)
    if vector.ndim != 1 or not len(vector):
        raise UsageError(f"`{name}` has shape {vector.shape}; a bootstrap needs at least one value, in one row.")
    if not np.isfinite(vector).all():
        raise UsageError(f"`{name}` holds a value that is not finite; leave out the queries that have no value.")
    return vector
