"""`hold_out_classes`: classes of a training split that are validated on, where a data set names none for that.

Images of one class stay together, so validation is on classes that were never seen, as the test is.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from aml_edge.datasets.file_items import FileItems
from aml_edge.datasets.image_classes import labels_of_classes, rows_by_class
from aml_edge.datasets.labelled_images import LabelledImages

SHARE = 0.1
"""Of the classes."""
FEWEST, MOST = 8, 500
"""Classes: fewer cannot give a query its negatives of other classes; more only take time."""
_SEED = 1


@dataclass(frozen=True)
class HeldOut:
    """The images to learn from, and those of other classes to judge by; None where there are too few classes."""

    training: LabelledImages
    validation: LabelledImages | None


def hold_out_classes(images: LabelledImages) -> HeldOut:
    """Returns the images in two parts, by lot; the same classes give the same parts on any machine.

    Args:
        images: with labels whose clusters are classes; their pairs are drawn anew within each part.
    """
    labels = images.labels
    assert labels is not None
    members = rows_by_class(labels.clusters)
    count = min(MOST, int(SHARE * len(members)))
    if count < FEWEST:
        return HeldOut(images, None)
    lot = random.Random(_SEED)
    drawn = set(sorted(sorted(members), key=lambda _: lot.random())[:count])
    learned = [row for row, number in enumerate(labels.clusters) if number not in drawn]
    judged = [row for row, number in enumerate(labels.clusters) if number in drawn]
    return HeldOut(_part(images, labels.clusters, learned), _part(images, labels.clusters, judged))


def _part(images: LabelledImages, classes: tuple[int, ...], rows: list[int]) -> LabelledImages:
    ids = tuple(images.ids[row] for row in rows)
    labels = labels_of_classes([classes[row] for row in rows])
    if isinstance(images.items, FileItems):
        return LabelledImages(ids, FileItems(images.items.root, ids), labels)
    return LabelledImages(ids, tuple(images.items[row] for row in rows), labels)
