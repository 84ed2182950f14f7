"""A small teacher, pictures for it, and a Ray cluster of two nodes on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from aml_edge.datasets.image_source import ImageSource, image_source
from aml_edge.engines import TeacherRecipe
from aml_edge.networks.checkpoints import TeacherCheckpoint
from aml_edge.networks.teacher import Teacher, TeacherSpec
from aml_edge.preprocessing import Preprocessing

NODE_MEMORY = 100_000_000


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Small operators on few cores: a second thread only waits."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def recipe() -> TeacherRecipe:
    """A teacher of one thread, as both engines open it."""
    teacher = Teacher(TeacherSpec("mobilenetv2_035"), seed=1).eval()
    return TeacherRecipe(TeacherCheckpoint(teacher, "tiny", Preprocessing(64)), Preprocessing(160), threads=1)


@pytest.fixture(scope="session")
def draw_pictures() -> Callable[[Path, int], ImageSource]:
    """Returns a function that draws pictures of several shapes into a folder."""

    def draw(folder: Path, count: int) -> ImageSource:
        folder.mkdir()
        generator = np.random.default_rng(0)
        for number in range(count):
            noise = generator.integers(0, 256, size=(120 + number % 4, 160, 3), dtype=np.uint8)
            Image.fromarray(noise).save(folder / f"{number:03}.png")
        return image_source(folder)

    return draw


@dataclass(frozen=True)
class TwoNodes:
    """A Ray cluster: a head that does no work, and two nodes with one core each.

    Args:
        address: of its head.
        cluster: Ray's own.
    """

    address: str
    cluster: Any

    def add_node(self) -> Any:
        """Returns a new node with one core."""
        return self.cluster.add_node(num_cpus=1, object_store_memory=NODE_MEMORY)

    def workers(self, node: Any) -> list[int]:
        """Returns the processes of a node that hold a teacher."""
        raylet = node.all_processes["raylet"][0].process.pid
        found = []
        for process in Path("/proc").iterdir():
            if process.name.isdigit():
                try:
                    command = (process / "cmdline").read_bytes()
                    parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
                except OSError:  # it has ended meanwhile
                    continue
                if parent == raylet and command.startswith(b"ray::") and b"ShardWorker" in command:
                    found.append(int(process.name))
        return found

    @property
    def nodes(self) -> list[Any]:
        """Those that do the work."""
        return list(self.cluster.worker_nodes)


@pytest.fixture(scope="module")
def two_nodes(bucket: str) -> Iterator[TwoNodes]:
    """A cluster that notices within two seconds that a node is gone, where Ray's own settings take ten and more.

    The bucket comes first, since nodes know its store from the environment that they were started in.
    """
    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS_SKIP_REGEX": "."})
    pytest.importorskip("ray")
    import ray
    from ray.cluster_utils import Cluster

    noticed = {
        "health_check_initial_delay_ms": 0,
        "health_check_period_ms": 500,
        "health_check_timeout_ms": 500,
        "health_check_failure_threshold": 3,
    }
    head = {"num_cpus": 0, "object_store_memory": 2 * NODE_MEMORY, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={**head, "_system_config": noticed})
    nodes = TwoNodes(cluster.address, cluster)
    try:
        for _ in range(2):
            nodes.add_node()
        yield nodes
    finally:
        ray.shutdown()
        cluster.shutdown()
