"""`ImageSplit`: the sides of a data set that is published to train on and to test on."""

from __future__ import annotations

from enum import StrEnum


class ImageSplit(StrEnum):
    """Which images of a data set are meant."""

    TRAIN = "train"
    """Those to learn from, validation included."""
    TEST = "test"
    """The database that queries are asked of."""
