"""The sites of real architectures, read off their papers' figures, and a graph that computes what the network does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from aml_edge.networks.deployable import DeployableStudent
from aml_edge.quantization.graph import HEAD, INPUT, Site, SiteGraph, SiteKind

Network = Callable[[str], DeployableStudent]
Graph = Callable[[str], SiteGraph]

NAMES = ("tf_efficientnet_lite0", "tf_efficientnet_b0", "resnet18", "mobilenetv3_small_100", "regnety_002")
DIFFERENT_ORDER = 3e-6
"""Folded batch normalisations round otherwise; entries of a 16-D unit row are about 0.25."""


def site(graph: SiteGraph, name: str) -> Site:
    return next(one for one in graph.sites if one.name == name)


def trunk(graph: SiteGraph) -> list[Site]:
    return [one for one in graph.sites if one.block != HEAD]


@pytest.mark.parametrize("name", NAMES)
def test_graph_computes_what_the_network_does(network: Network, graph: Graph, pixels: Tensor, name: str) -> None:
    one = graph(name)
    with torch.inference_mode():
        expected = torch.cat([network(name)(image[None]) for image in pixels])
        torch.testing.assert_close(one.module(pixels), expected, rtol=0, atol=DIFFERENT_ORDER)
        torch.testing.assert_close(one.module(pixels[:1]), expected[:1], rtol=0, atol=DIFFERENT_ORDER)


@pytest.mark.parametrize("name", NAMES)
def test_network_of_a_graph_has_its_weights_and_computes_the_same(graph: Graph, pixels: Tensor, name: str) -> None:
    one = graph(name)
    with torch.inference_mode():
        torch.testing.assert_close(one.network(pixels[:1]), one.module(pixels[:1]), rtol=0, atol=DIFFERENT_ORDER)
    for convolution in (place for place in one.sites if place.kind is SiteKind.CONVOLUTION):
        assert one.network.get_parameter(convolution.weight) is one.state(convolution.weight)
        assert one.network.get_parameter(convolution.bias) is one.state(convolution.bias)


@pytest.mark.parametrize("name", NAMES)
def test_every_convolution_is_a_site_once_and_every_name_is_unique(network: Network, graph: Graph, name: str) -> None:
    one = graph(name)
    convolutions = [
        path.removeprefix("student.").removeprefix("backbone.trunk.")
        for path, module in network(name).named_modules()
        if isinstance(module, torch.nn.Conv2d)
    ]

    found = [place.name for place in one.sites if place.kind is SiteKind.CONVOLUTION]

    assert sorted(found) == sorted(convolutions)
    names = list(one.activations.values())
    assert len(names) == len(set(names))
    made = {INPUT, *names}
    assert all(made.issuperset(place.inputs) for place in one.sites)


def test_lite0_has_sixteen_inverted_residuals_of_which_nine_add(graph: Graph) -> None:
    one = graph("tf_efficientnet_lite0")
    repeats = (1, 2, 2, 3, 3, 4, 1)  # table 1 of the EfficientNet paper
    inside = [f"blocks.{stage}.{block}" for stage, count in enumerate(repeats) for block in range(count)]

    assert one.blocks == ("conv_stem", *inside, "conv_head", "adaptor", HEAD)
    adds = [place for place in trunk(one) if place.kind is SiteKind.ADD]
    assert [place.block for place in adds] == [block for block in inside if not block.endswith(".0")]
    assert Counter(place.kind for place in trunk(one)) == {SiteKind.CONVOLUTION: 50, SiteKind.ADD: 9}
    assert site(one, "blocks.1.1:add").inputs == ("blocks.1.1.conv_pwl", "blocks.1.0.conv_pwl")
    assert site(one, "conv_stem").inputs == (INPUT,)
    stem = site(one, "conv_stem")
    assert stem.result != stem.operator  # ReLU6 is fused into it
    assert site(one, "blocks.1.0.conv_pwl").result == site(one, "blocks.1.0.conv_pwl").operator


def test_b0_takes_silu_apart_and_squeezes_with_means_sigmoids_and_products(graph: Graph) -> None:
    one = graph("tf_efficientnet_b0")
    block = [place for place in one.sites if place.block == "blocks.1.1"]

    assert Counter(place.kind for place in trunk(one)) == {
        SiteKind.CONVOLUTION: 82,  # 49 of Lite0's kind, two in each of 16 squeezes, the adaptor
        SiteKind.ADD: 9,
        SiteKind.MEAN: 16,
        SiteKind.SIGMOID: 49 + 16,  # a SiLU after each convolution but the 16 that project, in each squeeze one
        SiteKind.MULTIPLY: 49 + 16,
    }
    assert [place.kind for place in block] == [
        SiteKind.CONVOLUTION,
        SiteKind.SIGMOID,
        SiteKind.MULTIPLY,
        SiteKind.CONVOLUTION,
        SiteKind.SIGMOID,
        SiteKind.MULTIPLY,
        SiteKind.MEAN,
        SiteKind.CONVOLUTION,
        SiteKind.SIGMOID,
        SiteKind.MULTIPLY,
        SiteKind.CONVOLUTION,
        SiteKind.SIGMOID,
        SiteKind.MULTIPLY,
        SiteKind.CONVOLUTION,
        SiteKind.ADD,
    ]


def test_resnet_adds_before_its_relu_and_pools_without_a_site(graph: Graph) -> None:
    one = graph("resnet18")

    blocks = [f"layer{stage}.{block}" for stage in range(1, 5) for block in (0, 1)]
    assert one.blocks == ("conv1", *blocks, "adaptor", HEAD)
    assert site(one, "layer1.0.conv1").inputs == ("conv1",)  # what the pool gives are values of the stem
    adds = [place for place in trunk(one) if place.kind is SiteKind.ADD]
    assert len(adds) == 8
    assert all(place.result != place.operator for place in adds)
    assert site(one, "layer2.0.downsample.0").block == "layer2.0"


def test_hard_swish_and_hard_sigmoid_stay_in_floating_point(graph: Graph) -> None:
    one = graph("mobilenetv3_small_100")
    sites = {place.name for place in one.sites}
    floating = [name.rpartition(":")[2] for name in one.activations.values() if name not in sites and name != INPUT]

    assert {"hardswish", "hardsigmoid"} <= set(floating)
    assert not any("hard" in place.name for place in one.sites)


@pytest.mark.parametrize("name", NAMES)
def test_head_is_a_mean_of_powers_and_a_norm(graph: Graph, name: str) -> None:
    one = graph(name)

    assert trunk(one)[-1].name == "adaptor"
    heads = [place.kind for place in one.sites if place.block == HEAD]
    # GeM's mean, and its largest value multiplied back; the squares and the floor of L2.
    assert heads == [SiteKind.MEAN, SiteKind.MULTIPLY, SiteKind.MULTIPLY, SiteKind.ADD]


def test_image_is_the_first_activation_with_its_channels_first(graph: Graph) -> None:
    one = graph("resnet18")
    (node,) = [node for node, name in one.activations.items() if name == INPUT]

    assert tuple(one.node(node).meta["val"].shape[1:]) == (3, 64, 64)


def test_other_weights_are_of_the_new_graph_only(graph: Graph, pixels: Tensor) -> None:
    one = graph("resnet18")
    first = one.sites[0]
    before = one.state(first.weight).clone()

    other = one.with_state({first.weight: torch.zeros_like(before)})

    assert torch.equal(one.state(first.weight), before)
    assert other.state(first.weight).abs().max() == 0
    assert other.network.get_parameter(first.weight) is other.state(first.weight)
    shared = {id(parameter) for parameter in one.module.parameters()}
    assert shared.isdisjoint(id(parameter) for parameter in other.module.parameters())
    with torch.inference_mode():
        assert not torch.equal(one.module(pixels), other.module(pixels))
        torch.testing.assert_close(other.network(pixels[:1]), other.module(pixels[:1]), rtol=0, atol=DIFFERENT_ORDER)
