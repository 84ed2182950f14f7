"""What the driver makes of what workers send, and of Ray's own errors; no cluster is needed for it."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from aml_edge.engines import EngineOptions, TeacherRecipe, ray_engine
from aml_edge.engines.ray_engine import RayEngine
from aml_edge.engines.ray_session import RayCluster
from aml_edge.engines.ray_worker import OUTCOME, ShardOutcome
from aml_edge.errors import EngineError
from aml_edge.index.shard_embedding import DECODER, ShardImages, ShardJob
from aml_edge.index.shards import Shard
from aml_edge.progress import SilentProgress

JOB = ShardJob((ShardImages(0, 0, ("a", "b"), ()), ShardImages(1, 2, ("c",), ())), 3, skip_unreadable=False)


def embedded(
    recipe: TeacherRecipe, monkeypatch: pytest.MonkeyPatch, outcomes: list[ShardOutcome | Exception]
) -> dict[int, Shard]:
    """Returns the shards that the engine gives where workers send these outcomes, or Ray raises."""
    pytest.importorskip("ray")

    class Rows:
        def iter_rows(self) -> Iterator[dict[str, bytes]]:
            for outcome in outcomes:
                if isinstance(outcome, Exception):
                    raise outcome
                yield {OUTCOME: pickle.dumps(outcome)}

    @contextmanager
    def session(address: str | None) -> Iterator[RayCluster]:
        yield RayCluster("head:6379", (1,), (0,))

    def workers(self: RayEngine, ray: Any, job: ShardJob, cluster: RayCluster) -> Rows:
        return Rows()

    monkeypatch.setattr(ray_engine, "ray_session", session)
    monkeypatch.setattr(RayEngine, "_workers", workers)
    with SilentProgress().task("embedding", 3) as task:
        return dict(RayEngine(recipe, EngineOptions()).embed(JOB, task))


@pytest.fixture
def outcome(recipe: TeacherRecipe) -> ShardOutcome:
    shard = Shard(np.eye(1, 1280, dtype=np.float32), ("0" * 64,), ())
    return ShardOutcome(1, 1, (recipe.name, DECODER), shard=shard)


def test_shards_come_in_the_order_that_workers_finish(
    recipe: TeacherRecipe, monkeypatch: pytest.MonkeyPatch, outcome: ShardOutcome
) -> None:
    shards = embedded(recipe, monkeypatch, [outcome, replace(outcome, number=0)])
    assert list(shards) == [1, 0]


def test_workers_with_other_versions_are_refused(
    recipe: TeacherRecipe, monkeypatch: pytest.MonkeyPatch, outcome: ShardOutcome
) -> None:
    other = replace(outcome, made_with=("torch 1.13, 1 threads", "pillow 9"))
    with pytest.raises(EngineError) as refusal:
        embedded(recipe, monkeypatch, [outcome, other])
    assert str(refusal.value) == (
        "a worker of the Ray cluster embeds with torch 1.13, 1 threads, pillow 9, this process with "
        f"{recipe.name}, {DECODER}; embeddings could differ: install the same versions on every node."
    )


def test_an_error_of_ray_is_one_line(
    recipe: TeacherRecipe, monkeypatch: pytest.MonkeyPatch, outcome: ShardOutcome
) -> None:
    exceptions = pytest.importorskip("ray.exceptions")
    broken = exceptions.RayError("Traceback:\n  File x\nModuleNotFoundError: No module named 'aml_edge'\n")
    with pytest.raises(EngineError) as refusal:
        embedded(recipe, monkeypatch, [outcome, broken])
    assert re.fullmatch(
        "the Ray cluster at head:6379 broke off: ModuleNotFoundError: No module named 'aml_edge'; what was embedded is "
        "kept, so the same command goes on.",
        str(refusal.value),
    )


def test_nothing_to_embed_needs_no_cluster(recipe: TeacherRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_engine, "ray_session", None)
    with SilentProgress().task("embedding", 0) as task:
        assert list(RayEngine(recipe, EngineOptions()).embed(replace(JOB, shards=()), task)) == []
