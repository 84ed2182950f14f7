"""`diverse_rows`: a few images that stand for many, by the clusters of their embeddings.

Source: k-means++, Arthur and Vassilvitskii, SODA 2007, and Lloyd's iterations; the image nearest to each centre stands
for its cluster. Written out, since nothing that aml-edge depends on has it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aml_edge.embedder import Embeddings

ITERATIONS = 30
"""At most: clusters of a few hundred rows rest after some ten."""

_Rows = npt.NDArray[np.float64]


def diverse_rows(embeddings: Embeddings, count: int, *, seed: int) -> npt.NDArray[np.intp]:
    """Returns `count` different places among (N, D) embeddings, in order, one near the centre of each of its clusters.

    The same embeddings and seed give the same places.

    Args:
        embeddings: of N images.
        count: at most N.
        seed: of the first centres.
    """
    rows = embeddings.astype(np.float64)
    centres = _settled(rows, _first_centres(rows, count, np.random.default_rng(seed)))
    distances = _squared_distances(rows, centres)  # (N, count)
    chosen: list[int] = []
    for cluster in range(count):
        place = int(distances[:, cluster].argmin())
        chosen.append(place)
        distances[place] = np.inf  # it stands for one cluster only
    return np.sort(np.array(chosen, np.intp))


def _first_centres(rows: _Rows, count: int, generator: np.random.Generator) -> _Rows:
    """Returns (count, D) different rows, each drawn by its squared distance to those that were drawn before."""
    places = [int(generator.integers(len(rows)))]
    free = np.ones(len(rows), bool)
    nearest = np.full(len(rows), np.inf)
    while len(places) < count:
        free[places[-1]] = False
        nearest = np.minimum(nearest, _squared_distances(rows, rows[places[-1:]])[:, 0])
        weights = np.where(free, nearest, 0.0)
        weights = weights if weights.sum() > 0 else free.astype(np.float64)  # what is left equals what was drawn
        places.append(int(generator.choice(len(rows), p=weights / weights.sum())))
    return rows[places]


def _settled(rows: _Rows, centres: _Rows) -> _Rows:
    """Returns the centres after Lloyd's iterations; one without rows stays where it is."""
    members = np.full(len(rows), -1)
    for _ in range(ITERATIONS):
        before, members = members, _squared_distances(rows, centres).argmin(1)
        if (before == members).all():
            break
        counts = np.bincount(members, minlength=len(centres))
        sums = np.zeros_like(centres)
        np.add.at(sums, members, rows)
        centres = np.where(counts[:, np.newaxis] > 0, sums / np.maximum(counts, 1)[:, np.newaxis], centres)
    return centres


def _squared_distances(rows: _Rows, centres: _Rows) -> _Rows:
    """Returns (N, K), not below zero."""
    products: _Rows = rows @ centres.T
    squares = (rows**2).sum(1)[:, np.newaxis] + (centres**2).sum(1) - 2 * products
    distances: _Rows = np.maximum(squares, 0.0)
    return distances
