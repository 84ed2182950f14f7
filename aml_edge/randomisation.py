"""Fisher's randomisation test for the difference of two runs on the same queries.

Were both runs equally good, it would be chance which of a query's two values belongs to which: each sign of the
differences would be as likely. p is the share of all ways to choose the signs that give a mean at least as far from 0
as the one that was found. No law of the values is assumed, and retrieval measures follow none.

Source: Fisher, The Design of Experiments, 1935, section 21; Smucker, Allan, Carterette, "A comparison of statistical
significance tests for information retrieval evaluation", CIKM 2007, who recommend it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aml_edge.bootstrap import DRAWN_AT_ONCE, paired_differences

DRAWS = 10_000
"""Gives p near 0.05 to ± 0.002, one standard error."""
EXACT_QUERIES = 16
"""Queries whose 65 536 ways are all looked at; of more, some are drawn."""
_ROUNDING = 1e-9


def paired_randomisation_test(first: npt.ArrayLike, second: npt.ArrayLike, *, seed: int = 0) -> float:
    """Returns the two-sided p of mean(second − first) over (N,) values of the same queries.

    Exact where at most 16 queries differ; else of 10 000 draws, where what was found counts as one of them, so that p
    is never 0.

    Raises:
        UsageError: the two are not about the same queries, are empty, or hold a value that is not finite.
    """
    differences = paired_differences(first, second)
    differences = differences[np.flatnonzero(differences)]  # the sign of 0 changes nothing
    if len(differences) <= EXACT_QUERIES:
        return float(_as_far(_all_signs(len(differences)), differences).mean())
    generator, far = np.random.default_rng(seed), 0
    at_once = max(1, DRAWN_AT_ONCE // len(differences))
    for start in range(0, DRAWS, at_once):
        shape = (min(at_once, DRAWS - start), len(differences))
        signs = generator.integers(0, 2, size=shape, dtype=np.int8).astype(np.float64) * 2 - 1
        far += int(_as_far(signs, differences).sum())
    return (far + 1) / (DRAWS + 1)


def _all_signs(count: int) -> npt.NDArray[np.float64]:
    """Returns (2^n, n) of all ways to choose n signs."""
    bits = (np.arange(1 << count)[:, np.newaxis] >> np.arange(count)) & 1
    return bits.astype(np.float64) * 2 - 1


def _as_far(signs: npt.NDArray[np.float64], differences: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Returns which signs put the sum as far from 0 as it is; sums that are equal but for rounding are equal."""
    found = abs(differences.sum()) - _ROUNDING * np.abs(differences).sum()
    far: npt.NDArray[np.bool_] = np.abs(signs @ differences) >= found
    return far
