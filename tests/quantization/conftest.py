"""Graphs of real architectures with random weights, and a small network of our own, all of 64 px."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aml_edge.networks.deployable import DeployableStudent
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.preprocessing import Preprocessing
from aml_edge.quantization.graph import SiteGraph, site_graph

SIDE = 64

Network = Callable[[str], DeployableStudent]
Graph = Callable[[str], SiteGraph]


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Small operators on few cores: a second thread only waits."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def network() -> Network:
    """Returns a function of a timm name: the deployable network, its batch normalisations no identities."""
    made: dict[str, DeployableStudent] = {}

    def make(name: str) -> DeployableStudent:
        if name not in made:
            torch.manual_seed(0)
            student = Student(StudentSpec(name, 16)).eval()
            for norm in (module for module in student.modules() if isinstance(module, nn.BatchNorm2d)):
                assert norm.running_mean is not None and norm.running_var is not None
                norm.running_mean.normal_(0.0, 0.05)
                norm.running_var.uniform_(0.8, 1.2)
                nn.init.uniform_(norm.weight, 0.5, 1.5)
                nn.init.normal_(norm.bias, 0.0, 0.05)
            made[name] = DeployableStudent(student, Preprocessing())
        return made[name]

    return make


@pytest.fixture(scope="session")
def graph(network: Network) -> Graph:
    """Returns a function of a timm name: the network's graph, made once."""
    made: dict[str, SiteGraph] = {}

    def make(name: str) -> SiteGraph:
        if name not in made:
            made[name] = site_graph(network(name), SIDE)
        return made[name]

    return make


@pytest.fixture(scope="session")
def pixels(photographs: list[np.ndarray]) -> Tensor:
    """The photographs as one batch, (6, 64, 64, 3) uint8."""
    return torch.from_numpy(np.stack(photographs))
