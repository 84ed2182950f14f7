"""`ShardWorker`: a process of a Ray cluster that opens the teacher once and embeds one shard after the other.

What it takes and gives are the bytes of pickles, made and read by the same version of this package on machines of one
cluster; Ray moves everything as pickles. They are made here and not by Ray, since a network is unpickled only after
timm was imported the way that works (`aml_edge.networks.torchvision_guard`).
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Any

from aml_edge.embedder import Embedder
from aml_edge.engines.recipe import EmbedderRecipe, reading_threads
from aml_edge.errors import AmlEdgeError, ImageBatchError, ImageName
from aml_edge.index.shard_embedding import DECODER, ShardImages, ShardJob, embed_shards
from aml_edge.index.shards import Shard
from aml_edge.networks.torchvision_guard import import_timm
from aml_edge.progress import SilentProgress

WORK, OUTCOME = "work", "outcome"
"""The columns of what goes in and what comes out."""


@dataclass(frozen=True)
class ShardWork:
    """What a worker is given."""

    images: ShardImages
    skip_unreadable: bool


@dataclass(frozen=True)
class ShardOutcome:
    """What a worker gives back.

    Args:
        number: of the shard.
        images: how many it has.
        made_with: what embeds and what decodes there.
        shard: what the shard holds, unless something was wrong.
        failures: (image, reason) of all that could not be read and were not to be skipped.
        refusal: the message of another error.
    """

    number: int
    images: int
    made_with: tuple[str, str]
    shard: Shard | None = None
    failures: tuple[tuple[ImageName, str], ...] = ()
    refusal: str | None = None


def work_row(images: ShardImages, *, skip_unreadable: bool) -> dict[str, bytes]:
    """Returns the row of a Ray data set that stands for a shard."""
    return {WORK: pickle.dumps(ShardWork(images, skip_unreadable))}


def outcome_of(row: dict[str, bytes]) -> ShardOutcome:
    """Returns what a worker made of a row."""
    outcome = pickle.loads(row[OUTCOME])
    assert isinstance(outcome, ShardOutcome)
    return outcome


class ShardWorker:
    """Embeds the shard of a row; the network stays open between rows.

    Args:
        recipe: reference to the pickled `EmbedderRecipe` in Ray's object store, where it lies once.
    """

    def __init__(self, recipe: Any) -> None:
        import ray

        import_timm()
        self._recipe: EmbedderRecipe = pickle.loads(ray.get(recipe))
        self._embedder: Embedder | None = None

    def __call__(self, row: dict[str, bytes]) -> dict[str, bytes]:
        """Returns the row of the outcome."""
        work = pickle.loads(row[WORK])
        assert isinstance(work, ShardWork)
        return {OUTCOME: pickle.dumps(self._outcome(work))}

    def _outcome(self, work: ShardWork) -> ShardOutcome:
        number, images, made_with = work.images.number, len(work.images.items), (self._recipe.name, DECODER)
        job = ShardJob((work.images,), images, work.skip_unreadable)
        try:
            if self._embedder is None:
                self._embedder = self._recipe.open()
            with SilentProgress().task("embedding", images) as task:
                ((_, shard),) = embed_shards(self._embedder, job, task, workers=reading_threads(self._recipe.device))
        except ImageBatchError as error:
            return ShardOutcome(number, images, made_with, failures=error.failures)
        except AmlEdgeError as error:
            return ShardOutcome(number, images, made_with, refusal=str(error))
        return ShardOutcome(number, images, made_with, shard=shard)
