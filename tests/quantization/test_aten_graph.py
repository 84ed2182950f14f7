"""What is rewritten in a graph of operators: computed by hand on networks of a few layers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import pytest
import torch
from torch import Tensor, fx, nn

from aml_edge.networks.deployable import DeployableStudent
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.preprocessing import Preprocessing
from aml_edge.quantization.aten_graph import MOST_IMAGES, aten, aten_graph, with_folded_batch_norms

SIDE = 8


class Rewritten(nn.Module):
    """Overwrites its values in all ways that occur in networks of this kind."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1, bias=False)
        self.norm = nn.BatchNorm2d(4, affine=False)
        self.alone = nn.BatchNorm2d(4)

    def forward(self, image: Tensor) -> Tensor:
        values: Tensor = self.norm(self.first(image.float().permute(0, 3, 1, 2)))
        values = nn.functional.silu(values, inplace=True)
        shortcut = values
        values = self.alone(values)
        values += shortcut
        values = values.relu_()
        return values.to(torch.float32).mean((2, 3))

    def folded(self, image_side_px: int) -> Rewritten:
        """A stand-in for a deployable network: its first normalisation is one already."""
        return self


@pytest.fixture
def rewritten() -> Rewritten:
    torch.manual_seed(0)
    network = Rewritten().eval()
    network.norm.eps = 0.0
    assert network.alone.running_mean is not None
    network.alone.running_mean.normal_()
    return network


def targets(module: fx.GraphModule) -> list[object]:
    nodes = cast(Iterable[fx.Node], module.graph.nodes)
    return [node.target for node in nodes if node.op == "call_function"]


def test_graph_overwrites_nothing_and_computes_the_same(rewritten: Rewritten) -> None:
    pixels = torch.randint(0, 256, (5, SIDE, SIDE, 3), dtype=torch.uint8)
    expected = rewritten(pixels)

    module = aten_graph(cast(DeployableStudent, rewritten), SIDE)

    assert torch.equal(module(pixels), expected)
    assert torch.equal(module(pixels), expected)
    assert not any(one._schema.is_mutable for one in targets(module) if isinstance(one, torch._ops.OpOverload))


def test_folded_normalisation_goes_and_another_stays(rewritten: Rewritten) -> None:
    found = targets(aten_graph(cast(DeployableStudent, rewritten), SIDE))

    assert found.count(aten.batch_norm.default) == 1
    assert found.count(aten.to.dtype) == 1  # of the pixels; not the one that changes nothing


def test_silu_is_a_product_with_a_sigmoid(rewritten: Rewritten) -> None:
    found = targets(aten_graph(cast(DeployableStudent, rewritten), SIDE))

    assert aten.silu.default not in found
    assert found.count(aten.sigmoid.default) == found.count(aten.mul.Tensor) == 1


def test_graph_has_the_networks_parameters(rewritten: Rewritten) -> None:
    module = aten_graph(cast(DeployableStudent, rewritten), SIDE)

    assert module.get_parameter("first.weight") is rewritten.first.weight


def test_graph_takes_one_image_and_the_most(rewritten: Rewritten) -> None:
    module = aten_graph(cast(DeployableStudent, rewritten), SIDE)
    pixels = torch.randint(0, 256, (MOST_IMAGES, SIDE, SIDE, 3), dtype=torch.uint8)

    torch.testing.assert_close(module(pixels)[:1], module(pixels[:1]))


def test_every_convolution_gets_a_bias_on_a_copy_only() -> None:

    student = Student(StudentSpec("resnet18", 16)).eval()

    folded = with_folded_batch_norms(DeployableStudent(student, Preprocessing()), 32)

    biases = [module.bias for module in folded.modules() if isinstance(module, nn.Conv2d)]
    assert len(biases) == 21
    assert all(bias is not None for bias in biases)
    assert any(module.bias is None for module in student.modules() if isinstance(module, nn.Conv2d))
