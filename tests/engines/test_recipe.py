"""What an engine is told, and what it refuses before it does anything."""

from __future__ import annotations

import pickle
import sys
from dataclasses import replace

import numpy as np
import pytest

from aml_edge.cli.build_options import EngineChoice
from aml_edge.engines import ENGINES, EngineOptions, TeacherRecipe
from aml_edge.engines.ray_session import RayCluster, ray_session
from aml_edge.errors import EngineError, MissingExtraError, UsageError
from aml_edge.index.shard_embedding import InThisProcess


def test_a_recipe_says_what_it_opens_and_can_be_sent(recipe: TeacherRecipe) -> None:
    pixels = [np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)]
    here, there = recipe.open(), pickle.loads(pickle.dumps(recipe)).open()
    for opened in (here, there):
        assert (opened.name, opened.space) == (recipe.name, recipe.space)
        assert opened.preprocessing == recipe.preprocessing
    assert here.embed(pixels).tobytes() == there.embed(pixels).tobytes()
    assert recipe.name.endswith(", 1 threads")
    assert replace(recipe, device="cuda").name.endswith(", cuda")  # known where there is none


def test_engines_have_the_names_that_the_command_line_takes() -> None:
    assert tuple(ENGINES) == tuple(EngineChoice)


def test_the_local_engine_reads_ahead_with_as_many_threads_as_it_is_told(recipe: TeacherRecipe) -> None:
    for options, threads in ((EngineOptions(), 2), (EngineOptions(workers=5), 5)):
        engine = ENGINES["local"](recipe, options)
        assert isinstance(engine, InThisProcess)
        assert engine.workers == threads


def test_what_cannot_be_is_refused(recipe: TeacherRecipe) -> None:
    with pytest.raises(UsageError, match=r"`workers` is 0; embedding takes at least one\."):
        EngineOptions(workers=0)
    with pytest.raises(UsageError, match=r"`threads` is 0; an inference needs at least one\."):
        replace(recipe, threads=0)
    with pytest.raises(UsageError) as refusal:
        ENGINES["local"](recipe, EngineOptions(address="head:6379"))
    assert str(refusal.value) == "`address` is 'head:6379', but the engine 'local' has none; give --engine ray."


def test_ray_is_asked_for_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"^the engine 'ray' needs ray, .*: pip install 'aml-edge\[ray\]'$"):
        with ray_session(None):
            pass


def test_an_address_where_nothing_answers_is_refused_at_once() -> None:
    pytest.importorskip("ray")
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1"):
        with pytest.raises(EngineError) as refusal, ray_session(address):
            pass
        assert str(refusal.value) == (
            f"`address` is '{address}', where no Ray cluster takes this process ([Errno 111] Connection refused); "
            "start one with `ray start --head`, give its address, set RAY_AUTH_MODE=token where it asks for a token, "
            "or leave it out to work on this machine."
        )
    with pytest.raises(EngineError, match="`address` is 'nonsense', where no Ray cluster takes this process"):
        with ray_session("nonsense"):
            pass


@pytest.mark.parametrize(
    ("cores", "gpus", "room"), [(1, 0, (4, 2)), (2, 0, (2, 1)), (3, 0, (1,)), (5, 0, ()), (1, 1, (2,)), (4, 1, (1,))]
)
def test_workers_find_room_where_their_cores_and_gpus_are(cores: int, gpus: int, room: tuple[int, ...]) -> None:
    cluster = RayCluster("head:6379", cores=(0, 4, 2), gpus=(0, 2, 0))
    assert cluster.room(cores, gpus) == room
