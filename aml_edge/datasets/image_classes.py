"""What is made of images that each belong to one class: pairs to train on, and a test set where each asks all others.

Source: Song, Xiang, Jegelka, Savarese, "Deep metric learning via lifted structured feature embedding", CVPR 2016,
section 5, for the test.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import overload

from aml_edge.datasets.labelled_images import ImageLabels
from aml_edge.ground_truth import QueryGroundTruth

PAIRS_SEED = 0


def rows_by_class(classes: Sequence[int]) -> Mapping[int, tuple[int, ...]]:
    """Returns the rows of each class, ascending, in the order in which the classes come up."""
    rows: dict[int, list[int]] = {}
    for row, number in enumerate(classes):
        rows.setdefault(number, []).append(row)
    return {number: tuple(found) for number, found in rows.items()}


def labels_of_classes(classes: Sequence[int], seed: int = PAIRS_SEED) -> ImageLabels:
    """Returns labels in which each image is a query, with one other of its class, by lot, as its positive.

    An image that is alone in its class is no query. The same classes and seed give the same pairs on any machine.

    Args:
        classes: of each image.
        seed: of the lot.
    """
    lot = random.Random(seed)
    members = rows_by_class(classes)
    queries, positives = [], []
    place_in_class = dict.fromkeys(members, -1)
    for row, number in enumerate(classes):
        place_in_class[number] += 1
        others = len(members[number]) - 1
        if others:
            drawn = int(lot.random() * others)  # a place among the others: those before this image, and after it
            queries.append(row)
            positives.append(members[number][drawn + (drawn >= place_in_class[number])])
    return ImageLabels(tuple(classes), tuple(queries), tuple(positives))


class ClassGroundTruth(Sequence[QueryGroundTruth]):
    """The ground truth of images that each ask all others: positives of its class; the image itself is junk.

    Each answer is made when it is asked for: written out they would take the sum of squares of the class sizes.

    Args:
        classes: of each image.
    """

    def __init__(self, classes: Sequence[int]) -> None:
        self._classes = tuple(classes)
        self._members = rows_by_class(self._classes)

    @property
    def class_sizes(self) -> tuple[int, ...]:
        """Images of each class."""
        return tuple(len(rows) for rows in self._members.values())

    def __len__(self) -> int:
        return len(self._classes)

    @overload
    def __getitem__(self, place: int) -> QueryGroundTruth: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[QueryGroundTruth, ...]: ...

    def __getitem__(self, place: int | slice) -> QueryGroundTruth | tuple[QueryGroundTruth, ...]:
        if isinstance(place, slice):
            return tuple(self[row] for row in range(len(self))[place])
        query = range(len(self))[place]
        members = self._members[self._classes[query]]
        return QueryGroundTruth(tuple(row for row in members if row != query), (), (query,))
