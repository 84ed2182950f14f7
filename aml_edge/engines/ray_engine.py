"""The engine 'ray': workers of a Ray cluster embed shards, read the images themselves, and send the shards back.

Ray Data distributes them: each row is a shard, each worker an actor that holds the teacher. A worker or a node that
dies costs what it was at, which Ray gives to another; only this process writes, so the index needs no disk that all
share.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aml_edge.engines.ray_session import RayCluster, ray_session
from aml_edge.engines.ray_worker import ShardOutcome, ShardWorker, outcome_of, work_row
from aml_edge.engines.recipe import EmbedderRecipe, EngineOptions
from aml_edge.errors import EngineError, ImageBatchError, ImageName
from aml_edge.index.shard_embedding import DECODER, ShardEngine, ShardJob
from aml_edge.index.shards import Shard
from aml_edge.preprocessing import Preprocessing
from aml_edge.progress import ProgressTask
from aml_edge.space import EmbeddingSpace

MOST_BLOCKS = 4096
"""Of the data set that Ray distributes; more shards than that share blocks."""


def open_ray_engine(recipe: EmbedderRecipe, options: EngineOptions) -> ShardEngine:
    """Returns the engine; nothing is connected before there is something to embed."""
    return RayEngine(recipe, options)


@dataclass(frozen=True)
class RayEngine:
    """A ShardEngine on a Ray cluster.

    Args:
        recipe: what each worker opens.
        options: where the cluster is, and how many workers it may have; as many as find room without that.
    """

    recipe: EmbedderRecipe
    options: EngineOptions

    @property
    def name(self) -> str:
        """That of the workers' embedder."""
        return self.recipe.name

    @property
    def space(self) -> EmbeddingSpace:
        """That of the recipe."""
        return self.recipe.space

    @property
    def preprocessing(self) -> Preprocessing:
        """That of the recipe."""
        return self.recipe.preprocessing

    def embed(self, job: ShardJob, task: ProgressTask) -> Iterator[tuple[int, Shard]]:
        """Yields shards as workers finish them; unreadable images of all shards are listed after the last.

        Raises:
            MissingExtraError: Ray is not installed.
            ImageBatchError: images cannot be read and are not to be skipped.
            EngineError: the cluster cannot be reached, has no room, or a worker cannot do the work.
        """
        if not job.shards:
            return
        failures: dict[int, tuple[tuple[ImageName, str], ...]] = {}
        with ray_session(self.options.address) as cluster:
            for outcome in self._outcomes(job, cluster):
                if outcome.shard is None:
                    failures[outcome.number] = outcome.failures
                else:
                    yield outcome.number, outcome.shard
                unreadable = sum(map(len, failures.values()))
                task.advance(outcome.images, status=f"{unreadable} unreadable" if unreadable else "")
        if failures:
            listed = [one for number in sorted(failures) for one in failures[number]]
            raise ImageBatchError(listed, job.images, skippable=True)

    def _outcomes(self, job: ShardJob, cluster: RayCluster) -> Iterator[ShardOutcome]:
        import ray
        from ray.exceptions import RayError

        try:
            for row in self._workers(ray, job, cluster).iter_rows():
                outcome = outcome_of(row)
                self._require_alike(outcome)
                yield outcome
        except RayError as problem:
            reason = str(problem).strip().rpartition("\n")[2].strip()
            raise EngineError(
                f"the Ray cluster at {cluster.address} broke off: {reason}; what was embedded is kept, so the same "
                "command goes on."
            ) from None

    def _workers(self, ray: Any, job: ShardJob, cluster: RayCluster) -> Any:
        """Returns the data set of outcomes, which is worked on as it is read."""
        cores, gpus = self.recipe.threads, 0
        if self.recipe.device != "cpu":
            cores, gpus = 1, 1
        room = cluster.room(cores, gpus)
        if not room:
            needed = f"{cores} processor cores" if not gpus else "a GPU"
            raise EngineError(
                f"no node of the Ray cluster at {cluster.address} has {needed}, which a worker takes; "
                "give fewer --threads, or another cluster."
            )
        most = min(self.options.workers or sum(room), len(job.shards))
        first = min(most, sum(room))
        workers, nodes = _counted(first, "worker"), _counted(len(room), "node")
        self.options.say(f"Ray at {cluster.address}: {workers} with {self.name}; room for {sum(room)} on {nodes}")
        settings = ray.data.DataContext.get_current()
        settings.enable_progress_bars = False
        settings.print_on_execution_start = False
        rows = [work_row(images, skip_unreadable=job.skip_unreadable) for images in job.shards]
        return ray.data.from_items(rows, override_num_blocks=min(len(rows), MOST_BLOCKS)).map(
            ShardWorker,
            fn_constructor_args=(ray.put(pickle.dumps(self.recipe)),),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most, initial_size=first),
            num_cpus=cores,
            num_gpus=gpus,
        )

    def _require_alike(self, outcome: ShardOutcome) -> None:
        if outcome.refusal is not None:
            raise EngineError(f"a worker of the Ray cluster cannot go on: {outcome.refusal}")
        if outcome.made_with != (self.name, DECODER):
            raise EngineError(
                f"a worker of the Ray cluster embeds with {', '.join(outcome.made_with)}, this process with "
                f"{self.name}, {DECODER}; embeddings could differ: install the same versions on every node."
            )


def _counted(count: int, name: str) -> str:
    return f"{count} {name}{'' if count == 1 else 's'}"
