"""Channels whose weights decayed to nothing: their biases fit in 32 bits, and their values are right."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from aml_edge.quantization.dead_channels import LARGEST_STORED_BIAS, with_biases_that_fit
from aml_edge.quantization.fake_quantized import FakeQuantizedNetwork
from aml_edge.quantization.graph import SiteGraph, SiteKind
from aml_edge.quantization.observation import observe, quantization_of
from aml_edge.quantization.tensors import weight_scales

Graph = Callable[[str], SiteGraph]
LAYER, ZERO, TINY = "layer1.0.conv1", 3, 5


def with_dead_channels(graph: SiteGraph) -> SiteGraph:
    """Returns the network with a channel without weights, and one of weights next to nothing; both have a bias."""
    site = next(site for site in graph.sites if site.name == LAYER)
    weight, bias = graph.state(site.weight).detach().clone(), graph.state(site.bias).detach().clone()
    weight[ZERO], weight[TINY] = 0.0, weight[TINY] * 1e-12
    bias[ZERO], bias[TINY] = 0.7, 1.3
    return graph.with_state({site.weight: weight, site.bias: bias})


def test_dead_channels_have_their_bias(graph: Graph, pixels: Tensor) -> None:
    one = with_dead_channels(graph("resnet18"))
    quantization = quantization_of(one, observe(one, list(pixels.numpy())))
    found: dict[str, list[Tensor]] = {}

    for graph_of_choice in (one, with_biases_that_fit(one, quantization)):
        with torch.inference_mode():
            FakeQuantizedNetwork(graph_of_choice, quantization)(
                pixels, lambda name, values: found.setdefault(name, []).append(values)
            )

    plain, fitted = found[LAYER]
    step = quantization.of(LAYER).scale
    for channel, value in ((ZERO, 0.7), (TINY, 1.3)):
        assert (plain[:, channel] - value).abs().max() > 10 * step  # what is to be put right
        assert (fitted[:, channel] - value).abs().max() <= 0.51 * step


def test_every_stored_bias_fits_with_room_for_the_sum(graph: Graph, pixels: Tensor) -> None:
    one = with_dead_channels(graph("resnet18"))
    quantization = quantization_of(one, observe(one, list(pixels.numpy())))

    after = with_biases_that_fit(one, quantization)

    largest = 0.0
    for site in quantization.integer_sites(after):
        if site.kind is SiteKind.CONVOLUTION:
            steps = quantization.of(site.inputs[0]).scale * weight_scales(after.state(site.weight)).double()
            stored = (after.state(site.bias).detach().double() / steps).abs()
            taps = after.state(site.weight)[0].numel()
            assert stored.max() + taps * 127 * 255 < 2**31
            largest = max(largest, float(stored.max()))
    assert 0.99 * LARGEST_STORED_BIAS < largest < 1.01 * LARGEST_STORED_BIAS


def test_network_computes_what_it_did(graph: Graph, pixels: Tensor) -> None:
    one = with_dead_channels(graph("resnet18"))

    after = with_biases_that_fit(one, quantization_of(one, observe(one, list(pixels.numpy()))))

    with torch.inference_mode():
        torch.testing.assert_close(after.module(pixels), one.module(pixels), rtol=0, atol=1e-4)


def test_living_channels_and_float_layers_stay_as_they_are(graph: Graph, pixels: Tensor) -> None:
    one = with_dead_channels(graph("resnet18"))
    quantization = quantization_of(one, observe(one, list(pixels.numpy())))
    site = next(site for site in one.sites if site.name == LAYER)
    before = one.state(site.weight)

    in_integers = with_biases_that_fit(one, quantization).state(site.weight)
    in_float = with_biases_that_fit(one, quantization.with_float({"layer1.0"})).state(site.weight)

    changed = (in_integers != before).flatten(1).any(1).nonzero().flatten().tolist()
    assert changed == [ZERO, TINY]
    assert torch.equal(in_float, before)


def test_dead_channel_without_a_bias_stays_dead(graph: Graph, pixels: Tensor) -> None:
    one = graph("resnet18")
    site = next(site for site in one.sites if site.name == LAYER)
    weight, bias = one.state(site.weight).detach().clone(), one.state(site.bias).detach().clone()
    weight[ZERO], bias[ZERO] = 0.0, 0.0
    dead = one.with_state({site.weight: weight, site.bias: bias})

    after = with_biases_that_fit(dead, quantization_of(dead, observe(dead, list(pixels.numpy()))))

    assert after.state(site.weight)[ZERO].abs().max() == 0
