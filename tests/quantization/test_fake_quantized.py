"""The fake-quantized network against arithmetic in integers: int8 products, int32 sums, one rounding at the end."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx, nn

from aml_edge.quantization.fake_quantized import FakeQuantizedNetwork
from aml_edge.quantization.graph import HEAD, INPUT, Site, SiteGraph, SiteKind
from aml_edge.quantization.observation import observe, quantization_of
from aml_edge.quantization.post_training import QuantizedStudent
from aml_edge.quantization.quantization import Quantization
from aml_edge.quantization.tensors import TensorQuantization, weight_scales

Integers = npt.NDArray[np.int64]


class Seen:
    """Keeps what is told of activations, in order."""

    def __init__(self) -> None:
        self.values: dict[str, npt.NDArray[np.float64]] = {}

    def watch(self, name: str, values: Tensor) -> None:
        assert name not in self.values
        self.values[name] = values.double().numpy()


def stored(values: npt.NDArray[np.float64], how: TensorQuantization) -> Integers:
    """Returns the integers of (B, C, H, W) values."""
    integers: Integers = np.clip(np.rint(values / how.scale) + how.zero_point, -128, 127).astype(np.int64)
    return integers


def convolved(inputs: Integers, zero_point: int, weight: Integers, bias: Integers, node: fx.Node) -> Integers:
    """Returns the int32 sums of a convolution, by loops over its taps; padding is the zero point."""
    arguments = list(node.args[3:])
    stride, padding, dilation, groups = (arguments + [[1, 1], [0, 0], [1, 1], 1][len(arguments) :])[:4]
    assert isinstance(stride, list | tuple) and isinstance(padding, list | tuple) and isinstance(groups, int)
    assert dilation in ([1, 1], (1, 1))
    differences = np.pad(inputs - zero_point, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    out, of_group, height, width = weight.shape
    rows = (differences.shape[2] - height) // stride[0] + 1
    columns = (differences.shape[3] - width) // stride[1] + 1
    sums = np.zeros((len(inputs), out, rows, columns), np.int64)
    for channel in range(out):
        first = channel // (out // groups) * of_group
        for place in range(of_group):
            for y in range(height):
                for x in range(width):
                    taps = differences[
                        :, first + place, y : y + stride[0] * rows : stride[0], x : x + stride[1] * columns : stride[1]
                    ]
                    sums[:, channel] += taps * weight[channel, place, y, x]
        sums[:, channel] += bias[channel]
    assert np.abs(sums).max() < 2**31
    return sums


def computed_in_integers(
    graph: SiteGraph, site: Site, quantization: Quantization, seen: dict[str, npt.NDArray[np.float64]]
) -> npt.NDArray[np.float64]:
    """Returns what a convolution of integers gives for the activation that it takes, as real values."""
    source, result = quantization.of(site.inputs[0]), quantization.of(site.name)
    weight = graph.state(site.weight).detach()
    scales = weight_scales(weight).double().numpy()
    weights = np.rint(weight.double().numpy() / scales[:, None, None, None]).astype(np.int64)
    steps = source.scale * scales
    biases = np.rint(graph.state(site.bias).detach().double().numpy() / steps).astype(np.int64)
    node = graph.node(site.operator)
    inputs = seen[site.inputs[0]]
    padded_by_node = node.args[0]
    assert isinstance(padded_by_node, fx.Node)
    if padded_by_node.name in graph.moved:  # TensorFlow's padding is a node of its own
        pads = padded_by_node.args[1]
        assert isinstance(pads, list | tuple)
        left, right, top, bottom = (int(str(one)) for one in pads)
        inputs = np.pad(inputs, ((0, 0), (0, 0), (top, bottom), (left, right)))
    sums = convolved(stored(inputs, source), source.zero_point, weights, biases, node)
    integers = np.rint(sums * (steps[:, None, None] / result.scale)) + result.zero_point
    bounds = (-128, 127)
    if site.result != site.operator:  # ReLU6: the integers of 0 and 6
        bounds = (result.zero_point, min(127, round(6 / result.scale) + result.zero_point))
    values: npt.NDArray[np.float64] = (np.clip(integers, *bounds) - result.zero_point) * result.scale
    return values


def test_convolutions_compute_what_integers_do(quantized: QuantizedStudent, pixels: Tensor) -> None:
    graph, quantization = quantized.graph, quantized.quantization.with_float({HEAD})
    seen = Seen()
    with torch.inference_mode():
        FakeQuantizedNetwork(graph, quantization)(pixels[:1], seen.watch)
    names = ["conv_stem", "blocks.0.0.conv_dw", "blocks.1.0.conv_pw", "blocks.1.0.conv_dw", "blocks.1.0.conv_pwl"]

    for name in names:
        site = next(one for one in graph.sites if one.name == name)
        how = quantization.of(name)
        expected = computed_in_integers(graph, site, quantization, seen.values)
        steps = np.abs(seen.values[name] - expected) / how.scale
        # In single precision a sum next to the middle between two integers may be rounded to the other.
        assert steps.max() < 1.01, name
        assert (steps > 0.01).mean() < 2e-3, name


def test_sums_are_of_integers_and_rounded_once(quantized: QuantizedStudent, pixels: Tensor) -> None:
    graph, quantization = quantized.graph, quantized.quantization
    seen = Seen()
    with torch.inference_mode():
        FakeQuantizedNetwork(graph, quantization)(pixels, seen.watch)
    adds = [site for site in quantization.integer_sites(graph) if site.kind is SiteKind.ADD]

    assert len(adds) == 9
    for site in adds:
        how = quantization.of(site.name)
        total = sum(seen.values[name] for name in site.inputs)
        assert isinstance(total, np.ndarray)
        held = np.clip(np.rint(total / how.scale), -128 - how.zero_point, 127 - how.zero_point) * how.scale
        steps = np.abs(seen.values[site.name] - held) / how.scale
        assert steps.max() < 1.01
        assert (steps > 0.01).mean() < 1e-3


def test_every_integer_activation_has_at_most_256_values_and_float_ones_more(
    quantized: QuantizedStudent, pixels: Tensor
) -> None:
    graph, quantization = quantized.graph, quantized.quantization.with_float({HEAD, "conv_stem", "blocks.2.0"})
    seen = Seen()
    with torch.inference_mode():
        FakeQuantizedNetwork(graph, quantization)(pixels, seen.watch)

    for site in graph.sites:
        values = np.unique(seen.values[site.name])
        if site.block not in quantization.float_blocks:
            integers = values / quantization.of(site.name).scale
            np.testing.assert_allclose(integers, np.rint(integers), atol=1e-4)
            assert len(values) <= 256
        elif site.block == "blocks.2.0":
            assert len(values) > 256


def test_float_blocks_take_what_integers_hold(quantized: QuantizedStudent, pixels: Tensor) -> None:
    graph, quantization = quantized.graph, quantized.quantization.with_float({HEAD, "conv_stem", "blocks.2.0"})
    seen = Seen()
    with torch.inference_mode():
        FakeQuantizedNetwork(graph, quantization)(pixels, seen.watch)
        first = next(site for site in graph.sites if site.block == "blocks.2.0")
        took = torch.from_numpy(seen.values[first.inputs[0]]).float()
        expected = nn.functional.conv2d(took, graph.state(first.weight), graph.state(first.bias)).clamp(0, 6)

    np.testing.assert_allclose(seen.values[first.name], expected.numpy(), atol=1e-5)


def test_without_a_quantization_it_is_the_graph(quantized: QuantizedStudent, pixels: Tensor) -> None:
    with torch.inference_mode():
        floating = FakeQuantizedNetwork(quantized.graph, None)(pixels)
        assert torch.equal(floating, quantized.graph.module(pixels))


def test_watch_is_told_of_all_activations_in_run_order(quantized: QuantizedStudent, pixels: Tensor) -> None:
    seen = Seen()
    with torch.inference_mode():
        FakeQuantizedNetwork(quantized.graph, None)(pixels[:1], seen.watch)

    assert list(seen.values) == list(quantized.graph.activations.values())
    assert next(iter(seen.values)) == INPUT


def test_gradient_reaches_every_weight(quantized: QuantizedStudent, pixels: Tensor) -> None:
    graph = quantized.graph.with_state({})
    network = FakeQuantizedNetwork(graph, quantized.quantization)

    network(pixels)[:, 0].sum().backward()

    for site in graph.sites:
        if site.kind is SiteKind.CONVOLUTION:
            gradient = graph.state(site.weight).grad
            assert gradient is not None and gradient.abs().max() > 0, site.name
    assert set(network.parameters()) == set(graph.module.parameters())


def test_silu_and_squeeze_compute_in_integers_too(graph: Callable[[str], SiteGraph], pixels: Tensor) -> None:
    one = graph("tf_efficientnet_b0")
    quantization = quantization_of(one, observe(one, list(pixels.numpy())))
    seen = Seen()
    with torch.inference_mode():
        FakeQuantizedNetwork(one, quantization)(pixels, seen.watch)

    for site in quantization.integer_sites(one):
        if site.kind is SiteKind.SIGMOID:
            taken = seen.values[site.inputs[0]]
            expected = np.clip(np.rint(256 / (1 + np.exp(-taken))), 0, 255) / 256
        elif site.kind is SiteKind.MULTIPLY:
            left, right = (seen.values[name] for name in site.inputs)
            how = quantization.of(site.name)
            expected = np.clip(np.rint(left * right / how.scale), -128 - how.zero_point, 127 - how.zero_point)
            expected = expected * how.scale
        else:
            continue
        steps = np.abs(seen.values[site.name] - expected) / quantization.of(site.name).scale
        assert steps.max() < 1.01
        assert (steps > 0.01).mean() < 1e-3
