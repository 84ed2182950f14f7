"""Shards embedded on a Ray cluster of two nodes: the bytes of one process, whoever is killed meanwhile."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from aml_edge.datasets.image_locations import images_at
from aml_edge.datasets.image_source import ImageSource
from aml_edge.engines import ENGINES, EngineOptions, TeacherRecipe
from aml_edge.errors import EngineError, ImageBatchError
from aml_edge.index import TeacherIndex
from aml_edge.index.building import IndexOptions, build_index_with
from aml_edge.networks.checkpoints import TeacherCheckpoint, save_teacher
from aml_edge.networks.teacher import Teacher
from aml_edge.preprocessing import Preprocessing
from aml_edge.progress import Progress, ProgressTask

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        r"ignore::DeprecationWarning:ray\.data\.context"
    ),  # of its own settings, in their defaults
]
SMALL = IndexOptions(shard_images=4)
BROKEN = (2, 3, 13)
Draw = Callable[[Path, int], ImageSource]


class Meanwhile:
    """A Progress that does one thing after the other as shards come back, one a shard.

    Args:
        acts: what to do.
    """

    def __init__(self, *acts: Callable[[], object]) -> None:
        self._acts = list(acts)
        self.done = 0

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[ProgressTask]:
        yield self

    def advance(self, steps: int = 1, *, status: str = "") -> None:
        self.done += steps
        if self.done and self._acts:
            self._acts.pop(0)()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def build(
    engine: str, recipe: TeacherRecipe, source: ImageSource, out: Path, *, address: str | None = None, **options: Any
) -> TeacherIndex:
    progress: Progress | None = options.pop("progress", None)
    opened = ENGINES[engine](recipe, EngineOptions(address=address, say=options.pop("say", lambda line: None)))
    return build_index_with(opened, source, out, replace(SMALL, **options), progress=progress)


def test_bytes_are_those_of_one_process(
    two_nodes: Any, recipe: TeacherRecipe, draw_pictures: Draw, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of a folder in which some images cannot be read, and with nothing said but one line."""
    source = draw_pictures(tmp_path / "images", 22)
    for place in BROKEN:
        source.items[place].path.write_bytes(b"no picture")
    lines: list[str] = []
    build("local", recipe, source, tmp_path / "local", skip_unreadable=True)
    capfd.readouterr()
    address = two_nodes.address
    index = build("ray", recipe, source, tmp_path / "ray", address=address, skip_unreadable=True, say=lines.append)
    assert capfd.readouterr() == ("", "")
    assert lines == [f"Ray at {address}: 2 workers with torch {torch.__version__}, 1 threads; room for 2 on 2 nodes"]
    assert index.skipped == tuple(source.ids[place] for place in BROKEN)
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


def test_workers_read_object_stores_and_tables(
    two_nodes: Any, recipe: TeacherRecipe, draw_pictures: Draw, tmp_path: Path, bucket: str
) -> None:
    """Of nine pictures three are objects, three rows of a table in the same store, three files."""
    import fsspec

    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    plain, system = draw_pictures(tmp_path / "images", 9), fsspec.filesystem("s3")
    ids, content = plain.ids, {one: item.read() for one, item in zip(plain.ids, plain.items, strict=True)}
    for one in ids[:3]:
        system.pipe_file(f"{bucket}/ray/objects/{one}", content[one])
    table = pyarrow.table({"id": ids[3:6], "image": [content[one] for one in ids[3:6]]})
    with system.open(f"{bucket}/ray/tables/t.parquet", "wb") as stream:
        parquet.write_table(table, stream)
    objects, rows = images_at(f"{bucket}/ray/objects"), images_at(f"{bucket}/ray/tables")
    items = (*objects.items, *rows.items, *plain.items[6:])
    mixed = ImageSource("mixed", plain.kind, (*objects.ids, *rows.ids, *ids[6:]), items)
    build("local", recipe, plain, tmp_path / "local")
    build("ray", recipe, mixed, tmp_path / "ray", address=two_nodes.address)
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


def test_unreadable_images_are_listed_as_in_one_process(
    two_nodes: Any, recipe: TeacherRecipe, draw_pictures: Draw, tmp_path: Path
) -> None:
    source = draw_pictures(tmp_path / "images", 14)
    for place in BROKEN:
        source.items[place].path.write_bytes(b"no picture")
    refusals = []
    for engine, address in (("local", None), ("ray", two_nodes.address)):
        with pytest.raises(ImageBatchError) as refusal:
            build(engine, recipe, source, tmp_path / engine, address=address)
        refusals.append(str(refusal.value))
        assert not (tmp_path / engine).exists()
    assert refusals[0] == refusals[1]
    assert refusals[1].startswith("3 of 14 images cannot be read; ")


def test_a_worker_and_a_node_killed_midway_change_nothing(
    two_nodes: Any, recipe: TeacherRecipe, draw_pictures: Draw, tmp_path: Path
) -> None:
    source = draw_pictures(tmp_path / "images", 80)
    build("local", recipe, source, tmp_path / "local")
    killed: list[int] = []

    def kill_a_worker() -> None:
        (worker,) = two_nodes.workers(two_nodes.nodes[0])
        os.kill(worker, signal.SIGKILL)
        killed.append(worker)

    def kill_a_node() -> None:
        killed.extend(two_nodes.workers(two_nodes.nodes[1]))
        two_nodes.cluster.remove_node(two_nodes.nodes[1], allow_graceful=False)

    progress = Meanwhile(kill_a_worker, kill_a_node)
    try:
        build("ray", recipe, source, tmp_path / "ray", address=two_nodes.address, progress=progress)
    finally:
        two_nodes.add_node()
    assert (len(killed), progress.done) == (2, 80)
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


def test_the_same_command_goes_on_where_it_was_killed(
    two_nodes: Any, recipe: TeacherRecipe, draw_pictures: Draw, tmp_path: Path
) -> None:
    """A command line of its own, killed once a shard is there; this process does what it had still to do."""
    source = draw_pictures(tmp_path / "images", 300)
    whole: dict[str, Any] = {"shard_images": IndexOptions().shard_images}
    small = replace(recipe, preprocessing=recipe.checkpoint.preprocessing)
    save_teacher(recipe.checkpoint, tmp_path / "teacher")
    build("local", small, source, tmp_path / "local", **whole)
    words = f"index build --teacher {tmp_path / 'teacher'} --images {source.root} --out {tmp_path / 'ray'} --engine ray"
    command = [sys.executable, "-m", "aml_edge", *words.split(), "--address", two_nodes.address]
    shards = tmp_path / "ray.partial" / "shards"
    with (tmp_path / "log").open("w") as log:
        first = subprocess.Popen(command, stdout=log, stderr=log)
        while first.poll() is None and not list(shards.glob("0*.safetensors")):
            time.sleep(0.002)
        first.send_signal(signal.SIGKILL)
        assert first.wait() == -signal.SIGKILL
    assert (tmp_path / "log").read_text().splitlines()[:2] == [
        f"300 images: image files of a folder, {source.root}",
        f"Ray at {two_nodes.address}: 2 workers with {small.name}; room for 2 on 2 nodes",
    ]
    progress = Meanwhile()
    build("ray", small, source, tmp_path / "ray", address=two_nodes.address, progress=progress, **whole)
    assert progress.done == 300
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


def test_what_a_worker_cannot_do_is_one_line(
    two_nodes: Any, recipe: TeacherRecipe, draw_pictures: Draw, tmp_path: Path
) -> None:
    source = draw_pictures(tmp_path / "images", 6)
    broken = Teacher(recipe.checkpoint.teacher.spec, seed=1).eval()
    torch.nn.init.constant_(broken.pool.p, torch.nan)
    unsound = replace(recipe, checkpoint=TeacherCheckpoint(broken, "broken", Preprocessing(64)))
    with pytest.raises(EngineError) as refusal:
        build("ray", unsound, source, tmp_path / "ray", address=two_nodes.address)
    assert re.fullmatch(
        r"a worker of the Ray cluster cannot go on: torch .*, 1 threads gives \d embeddings that are not finite or not "
        r"of unit length, the first for 00\d.png; an index takes none of those: .*",
        str(refusal.value),
    )
    wide = replace(recipe, threads=64)
    with pytest.raises(EngineError) as refusal:
        build("ray", wide, source, tmp_path / "wide", address=two_nodes.address)
    assert str(refusal.value) == (
        f"no node of the Ray cluster at {two_nodes.address} has 64 processor cores, which a worker takes; give fewer "
        "--threads, or another cluster."
    )
    with pytest.raises(EngineError, match="has a GPU, which a worker takes"):
        build("ray", replace(recipe, device="cuda"), source, tmp_path / "gpu", address=two_nodes.address)
