"""Bias correction: layers keep their mean results, measured on the images themselves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, fx

from aml_edge.quantization.bias_correction import bias_corrected
from aml_edge.quantization.fake_quantized import FakeQuantizedNetwork
from aml_edge.quantization.graph import HEAD, Site, SiteGraph, SiteKind
from aml_edge.quantization.observation import observe, quantization_of
from aml_edge.quantization.tensors import fake_quantized_weight

Graph = Callable[[str], SiteGraph]


def activations(graph: SiteGraph, images: list[np.ndarray]) -> dict[str, Tensor]:
    """Returns the activations of a network in floating point."""
    values: dict[str, Tensor] = {}
    with torch.inference_mode():
        FakeQuantizedNetwork(graph, None)(torch.from_numpy(np.stack(images)), values.__setitem__)
    return values


def mean_results(graph: SiteGraph, site: Site, taken: Tensor, weight: Tensor) -> Tensor:
    """Returns the (O,) mean results of a convolution, before its ReLU, of what it takes."""
    operator = graph.node(site.operator)
    source = operator.args[0]
    assert isinstance(source, fx.Node)
    if source.name in graph.moved:
        taken = torch.ops.aten.pad(taken, source.args[1])
    with torch.inference_mode():
        results: Tensor = torch.ops.aten.conv2d(taken, weight, graph.state(site.bias), *operator.args[3:])
    return results.mean((0, 2, 3))


def takes_all(graph: SiteGraph, site: Site) -> bool:
    """Returns whether a convolution of one tap takes every place: then means say all."""
    options = graph.node(site.operator).args[3:]
    return not options or options[0] == [1, 1]


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "regnety_002"])
def test_layers_keep_their_mean_results(graph: Graph, calibration_crops: list[np.ndarray], name: str) -> None:
    one, images = graph(name), calibration_crops[:24]
    seen = observe(one, images)
    values = activations(one, images)

    after = bias_corrected(one, quantization_of(one, seen), seen)

    convolutions = [site for site in one.sites if site.kind is SiteKind.CONVOLUTION]
    before_shift, after_shift = [], []
    for site in convolutions:
        taken, weight = values[site.inputs[0]], one.state(site.weight).detach()
        floating = mean_results(one, site, taken, weight)
        plain = mean_results(one, site, taken, fake_quantized_weight(weight))
        corrected = mean_results(after, site, taken, fake_quantized_weight(weight))
        size = float(floating.abs().max())
        if weight.shape[2:] == (1, 1) and takes_all(one, site):
            torch.testing.assert_close(corrected, floating, rtol=0, atol=2e-5 * size)
        before_shift.append(float((plain - floating).abs().mean()) / size)
        after_shift.append(float((corrected - floating).abs().mean()) / size)
    # At a border a filter takes zeros in place of some of its input, which the mean does not know.
    assert np.mean(after_shift) < 0.5 * np.mean(before_shift)


def test_grouped_convolution_takes_the_means_of_its_own_group(
    graph: Graph, calibration_crops: list[np.ndarray]
) -> None:
    one, images = graph("regnety_002"), calibration_crops[:16]
    seen = observe(one, images)
    site = next(site for site in one.sites if site.kind is SiteKind.CONVOLUTION and site.name.endswith("conv2.conv"))
    weight = one.state(site.weight).detach()
    errors, means = (fake_quantized_weight(weight) - weight).double(), seen[site.inputs[0]].mean.double()
    groups = len(means) // weight.shape[1]
    assert groups > 1
    expected = one.state(site.bias).detach().double().clone()
    for channel in range(len(weight)):
        first = channel // (len(weight) // groups) * weight.shape[1]
        for place in range(weight.shape[1]):
            expected[channel] -= errors[channel, place].sum() * means[first + place]

    after = bias_corrected(one, quantization_of(one, seen), seen)

    torch.testing.assert_close(after.state(site.bias).detach().double(), expected, rtol=0, atol=1e-6)


def test_layers_in_floating_point_and_all_weights_stay(graph: Graph, pixels: Tensor) -> None:
    one = graph("resnet18")
    seen = observe(one, list(pixels.numpy()))

    after = bias_corrected(one, quantization_of(one, seen).with_float({HEAD, "layer2.0"}), seen)

    for site in one.sites:
        if site.kind is SiteKind.CONVOLUTION:
            assert torch.equal(after.state(site.weight), one.state(site.weight))
            same = torch.equal(after.state(site.bias), one.state(site.bias))
            assert same == (site.block == "layer2.0")
