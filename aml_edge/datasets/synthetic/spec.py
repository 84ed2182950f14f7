"""`SyntheticSpec`: everything that decides the bytes of a synthetic data set."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

from aml_edge.errors import UsageError

GENERATOR_VERSION = 1
"""Counts changes after which the same spec gives other pictures."""

SMALLEST_SIDE_PX, LARGEST_SIDE_PX = 32, 2048
LARGEST_NUMBER = 2**32 - 1
"""Seeds, and numbers of landmarks and views, are words of 32 bits."""

_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,63}")
_AT_LEAST = {
    "landmarks_train": 1,
    "landmarks_val": 1,
    "landmarks_test": 1,
    "views_train": 2,
    "queries": 1,
    "easy": 0,
    "hard": 0,
    "junk": 0,
    "distractors": 0,
    "seed": 0,
}


@dataclass(frozen=True)
class SyntheticSpec:
    """What a synthetic data set holds. The landmarks of training, validation and test are all different.

    Args:
        name: of the data set: ``train/NAME`` and ``test/NAME``.
        seed: of all that is drawn by lot.
        image_side_px: longest side of every image.
        landmarks_train, landmarks_val: landmarks of the two splits for training.
        views_train: images of each of them.
        landmarks_test: landmarks of the test set.
        queries, easy, hard, junk: images of each of them, by difficulty.
        distractors: images of other landmarks in the test set's database.

    Raises:
        UsageError: a value that cannot be; the message names it.
    """

    name: str = "synth"
    seed: int = 0
    image_side_px: int = 256
    landmarks_train: int = 480
    landmarks_val: int = 80
    views_train: int = 3
    landmarks_test: int = 40
    queries: int = 1
    easy: int = 4
    hard: int = 5
    junk: int = 2
    distractors: int = 120

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise UsageError(f"`name` is {self.name!r}; a data set's name has 1 to 64 letters, digits, - and _.")
        if not SMALLEST_SIDE_PX <= self.image_side_px <= LARGEST_SIDE_PX:
            raise UsageError(
                f"`image_side_px` is {self.image_side_px}; it is between {SMALLEST_SIDE_PX} and {LARGEST_SIDE_PX}."
            )
        for field, least in _AT_LEAST.items():
            value = getattr(self, field)
            if not least <= value <= LARGEST_NUMBER:
                raise UsageError(f"`{field}` is {value}; it is at least {least} and at most {LARGEST_NUMBER}.")
        if self.easy + self.hard < 1:
            raise UsageError("`easy` and `hard` are both 0; a query needs an image to be found: give one of them.")

    def to_json(self) -> dict[str, object]:
        """Returns the spec as JSON values."""
        return asdict(self)
