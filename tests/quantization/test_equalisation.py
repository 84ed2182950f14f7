"""Equalisation changes nothing but rounding, and brings channels to one range."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aml_edge.networks.deployable import DeployableStudent
from aml_edge.quantization.equalisation import SMALLEST_FACTOR, equalisable_groups, equalised
from aml_edge.quantization.fake_quantized import FakeQuantizedNetwork
from aml_edge.quantization.graph import SiteGraph, site_graph
from aml_edge.quantization.observation import Observations, observe, quantization_of

Graph = Callable[[str], SiteGraph]
NAMES = ("tf_efficientnet_lite0", "tf_efficientnet_b0", "resnet18", "regnety_002")


def spread(observations: Observations, name: str) -> float:
    """Returns the median over channels of the widest channel's range by a channel's own."""
    largest = observations[name].largest
    return float((largest.max() / largest.clamp(min=1e-12)).median())


@pytest.mark.parametrize("name", NAMES)
def test_network_computes_the_same(graph: Graph, pixels: Tensor, name: str) -> None:
    one = graph(name)

    after = equalised(one, observe(one, list(pixels.numpy()))).graph

    with torch.inference_mode():
        torch.testing.assert_close(after.module(pixels), one.module(pixels), rtol=0, atol=1e-5)
        torch.testing.assert_close(after.network(pixels[:1]), one.module(pixels[:1]), rtol=0, atol=1e-5)
    assert any(not torch.equal(after.state(site.weight), one.state(site.weight)) for site in one.sites if site.weight)


@pytest.mark.parametrize("name", NAMES)
def test_what_it_says_of_activations_is_what_is_seen(graph: Graph, pixels: Tensor, name: str) -> None:
    one, images = graph(name), list(pixels.numpy())

    after = equalised(one, observe(one, images))

    seen = observe(after.graph, images)
    for activation, told in after.observations.items():
        size = seen[activation].largest.max().item()
        torch.testing.assert_close(told.low, seen[activation].low, rtol=1e-3, atol=1e-4 * size)
        torch.testing.assert_close(told.high, seen[activation].high, rtol=1e-3, atol=1e-4 * size)
        torch.testing.assert_close(told.mean, seen[activation].mean, rtol=1e-3, atol=1e-4 * size)


def test_activations_between_inverted_residuals_are_equalised_and_those_behind_relu6_are_not(graph: Graph) -> None:
    groups = equalisable_groups(graph("tf_efficientnet_lite0"))

    made = [[site.name for site in group.makers] for group in groups]
    assert ["blocks.1.0.conv_pwl", "blocks.1.1.conv_pwl", "blocks.1.1:add"] in made
    assert [[name for name in names if not name.endswith(":add")] for names in made] == [
        ["blocks.0.0.conv_pw"],
        *(
            [f"blocks.{stage}.{block}.conv_pwl" for block in range(count)]
            for stage, count in enumerate((2, 2, 3, 3, 4, 1), start=1)
        ),
    ]
    assert [site.name for site in groups[1].takers] == ["blocks.1.1.conv_pw", "blocks.2.0.conv_pw"]


def test_relu_lets_factors_through_but_the_head_takes_none(graph: Graph) -> None:
    groups = equalisable_groups(graph("resnet18"))

    makers = {site.name for group in groups for site in group.makers}
    assert {"layer1.0.conv1", "layer1.0:add", "layer1.0.conv2", "conv1"} <= makers
    assert "adaptor" not in makers
    tied = next(group for group in groups if "layer1.0:add" in {site.name for site in group.makers})
    assert {site.name for site in tied.makers} >= {"conv1", "layer1.0.conv2", "layer1.1.conv2", "layer1.1:add"}


def test_ranges_of_channels_come_together_and_the_tensors_range_stays(graph: Graph, pixels: Tensor) -> None:
    one = graph("tf_efficientnet_lite0")
    seen = observe(one, list(pixels.numpy()))

    after = equalised(one, seen).observations

    for group in equalisable_groups(one):
        for site in group.makers:
            assert after[site.name].largest.max() <= seen[site.name].largest.max() * 1.001
        alone = group.makers[0].name
        if len(group.makers) == 1:
            alive = seen[alone].largest > SMALLEST_FACTOR * seen[alone].largest.max() * 1.01
            np.testing.assert_allclose(after[alone].largest[alive], float(after[alone].largest.max()), rtol=1e-3)
        assert spread(after, alone) <= spread(seen, alone) * 1.001
    # A group of one maker has one range in all channels.
    assert spread(seen, "blocks.0.0.conv_pw") > 1.05
    assert spread(after, "blocks.0.0.conv_pw") == pytest.approx(1.0, rel=1e-3)


class Tied(nn.Module):
    """A convolution that adds to what it takes, and channels of ranges that differ by 50, which the last ones undo."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 1)
        self.residual = nn.Conv2d(8, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.grouped = nn.Conv2d(8, 8, 1, groups=2)
        scales = torch.logspace(-1.7, 0, 8)[:, None, None, None]
        with torch.no_grad():
            self.first.weight.mul_(scales)
            self.residual.weight.mul_(scales)
            self.depthwise.weight.div_(scales)

    def forward(self, image: Tensor) -> Tensor:
        values: Tensor = self.first(image)
        values = values + self.residual(values)
        values = self.grouped(self.depthwise(values).relu())
        return values


class BesideFloat(nn.Module):
    """A sum with what an operator of floating point makes, and an activation that a convolution takes and a join."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)
        self.third, self.joined = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.again = nn.Conv2d(8, 8, 1)
        scales = torch.logspace(-1.7, 0, 8)[:, None, None, None]
        with torch.no_grad():
            self.second.weight.mul_(scales)
            self.joined.weight.mul_(scales)

    def forward(self, image: Tensor) -> Tensor:
        values = nn.functional.hardswish(self.first(image))
        values = self.joined(self.third(values + self.second(values)))
        values = torch.cat([values, self.again(values)], 1)
        return values


class Pixels(nn.Module):
    """Gives values of 0 to 1, channels first."""

    def forward(self, image: Tensor) -> Tensor:
        return (image.float() / 255).permute(0, 3, 1, 2)


class InDeployable(nn.Module):
    """Puts a network where a deployable student has its own; it has nothing to fold."""

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.normalise, self.student = Pixels(), nn.ModuleDict({"body": student})

    def forward(self, image: Tensor) -> Tensor:
        maps: Tensor = self.student["body"](self.normalise(image))
        return maps.mean((2, 3))

    def folded(self, image_side_px: int) -> InDeployable:
        return self


@pytest.fixture(scope="module")
def tied() -> SiteGraph:
    torch.manual_seed(0)
    return site_graph(cast(DeployableStudent, InDeployable(Tied()).eval()), 64)


def test_convolution_that_adds_to_what_it_takes_computes_the_same(tied: SiteGraph, pixels: Tensor) -> None:
    groups = equalisable_groups(tied)
    seen = observe(tied, list(pixels.numpy()))

    after = equalised(tied, seen)

    assert any({"body.first", "body.residual"} <= {site.name for site in group.makers} for group in groups)
    with torch.inference_mode():
        torch.testing.assert_close(after.graph.module(pixels), tied.module(pixels), rtol=1e-4, atol=1e-5)
    assert spread(after.observations, "body.first") < spread(seen, "body.first") / 2


def test_activations_that_operators_of_floating_point_make_or_take_are_left_alone(pixels: Tensor) -> None:
    torch.manual_seed(0)
    one = site_graph(cast(DeployableStudent, InDeployable(BesideFloat()).eval()), 64)

    after = equalised(one, observe(one, list(pixels.numpy()))).graph

    makers = [site.name for group in equalisable_groups(one) for site in group.makers]
    assert makers == ["body.third"]
    with torch.inference_mode():
        torch.testing.assert_close(after.module(pixels), one.module(pixels), rtol=1e-4, atol=1e-5)


def test_grouped_convolution_takes_no_factors(tied: SiteGraph) -> None:
    takers = {site.name for group in equalisable_groups(tied) for site in group.takers}

    assert "body.depthwise" in takers
    assert "body.grouped" not in takers


def test_channels_of_small_range_lose_less(tied: SiteGraph, pixels: Tensor) -> None:
    def worst_loss(graph: SiteGraph, seen: Observations) -> float:
        """Returns how much of its deviation the worst channel of the first activation loses."""
        how, losses = quantization_of(graph, seen).of("body.first"), []

        def watch(name: str, values: Tensor) -> None:
            if name == "body.first":
                lost = (how.fake_quantized(values) - values).square().mean((0, 2, 3))
                losses.append(float((lost / values.var((0, 2, 3))).max()))

        with torch.inference_mode():
            FakeQuantizedNetwork(graph, None)(pixels, watch)
        return losses[0]

    seen = observe(tied, list(pixels.numpy()))
    after = equalised(tied, seen)

    assert worst_loss(after.graph, after.observations) < worst_loss(tied, seen) / 5


def test_channel_that_is_dead_is_not_blown_up(graph: Graph, pixels: Tensor) -> None:
    one = graph("resnet18")
    site = next(site for site in one.sites if site.name == "layer1.0.conv1")
    weight, bias = one.state(site.weight).clone(), one.state(site.bias).clone()
    weight.data[3], bias.data[3] = 0.0, 0.0
    dead = one.with_state({site.weight: weight, site.bias: bias})

    after = equalised(dead, observe(dead, list(pixels.numpy()))).graph

    assert after.state(site.weight).isfinite().all()
    with torch.inference_mode():
        torch.testing.assert_close(after.module(pixels), dead.module(pixels), rtol=0, atol=1e-5)
