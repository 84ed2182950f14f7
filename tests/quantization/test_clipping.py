"""Ranges that leave rare values out, against numpy over all values at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from aml_edge.quantization import clipping
from aml_edge.quantization.clipping import BINS, clipped_ranges, silu_floor
from aml_edge.quantization.fake_quantized import FakeQuantizedNetwork
from aml_edge.quantization.graph import HEAD, INPUT, SiteGraph, SiteKind
from aml_edge.quantization.observation import ActivationRange, observe
from aml_edge.quantization.post_training import (
    PostTrainingOptions,
    observed_for_quantization,
    quantize_post_training,
)

Graph = Callable[[str], SiteGraph]
Images = list[np.ndarray]
SHARE = 5e-5


def values_of(graph: SiteGraph, images: Images) -> Mapping[str, np.ndarray]:
    values: dict[str, list[np.ndarray]] = {}
    with torch.inference_mode():
        FakeQuantizedNetwork(graph, None)(
            torch.from_numpy(np.stack(images)),
            lambda name, value: values.setdefault(name, []).append(value.double().numpy().ravel()),
        )
    return {name: np.concatenate(parts) for name, parts in values.items()}


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0"])
def test_an_end_lies_where_one_value_in_twenty_thousand_is_beyond(
    graph: Graph, calibration_crops: Images, name: str
) -> None:
    one, images = graph(name), calibration_crops[:8]

    found = clipped_ranges(one, observe(one, images), images)

    values = values_of(one, images)
    assert found.keys() == values.keys() - {INPUT}
    cut = 0
    for activation, chosen in found.items():
        seen = values[activation]
        width = (seen.max() - seen.min()) / BINS
        assert seen.min() - 1e-6 <= chosen.low <= chosen.high <= seen.max() + 1e-6, activation
        assert (seen < chosen.low - 1e-5).mean() <= SHARE and (seen > chosen.high + 1e-5).mean() <= SHARE, activation
        low, high = np.quantile(seen, [SHARE, 1 - SHARE], method="inverted_cdf")
        assert abs(chosen.low - low) <= width + 1e-5, activation
        assert abs(chosen.high - high) <= width + 1e-5, activation
        cut += chosen.high < seen.max() - width
    assert cut > 10


def test_large_activations_are_counted_in_part(
    graph: Graph, calibration_crops: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, images = graph("tf_efficientnet_lite0"), calibration_crops
    monkeypatch.setattr(clipping, "MOST_VALUES", 1 << 13)

    found = clipped_ranges(one, observe(one, images), images)

    values = values_of(one, images)
    for activation in ("conv_stem", "blocks.1.0.conv_pw", "blocks.0.0.conv_pw", "blocks.2.1.conv_dw"):
        assert len(values[activation]) > len(images) << 13
        for beyond in (values[activation] < found[activation].low, values[activation] > found[activation].high):
            assert beyond.mean() < 4 * SHARE, activation


def test_what_silu_takes_ends_where_its_result_is_less_than_a_quarter_of_a_step(
    graph: Graph, calibration_crops: Images
) -> None:
    silus, images = graph("tf_efficientnet_b0"), calibration_crops[:4]

    whole = observe(silus, images)
    found = clipped_ranges(silus, whole, images)

    pairs = {site.name: site.inputs[0] for site in silus.sites if site.kind is SiteKind.SIGMOID}
    products = [
        (pairs[gate], site.name)
        for site in silus.sites
        if site.kind is SiteKind.MULTIPLY
        for gate in site.inputs
        if pairs.get(gate) in site.inputs
    ]
    assert len(products) == 49
    for taken, made in products:
        step = (found[made].high - min(found[made].low, 0.0)) / 255
        low = found[taken].low
        assert abs(low / (1 + math.exp(-low))) >= 0.249 * step or low >= whole[taken].low.min() - 1e-6, taken


@pytest.mark.parametrize("high", [0.05, 1.0, 30.0, 1e4])
def test_below_the_floor_silu_gives_less_than_a_quarter_of_a_step(high: float) -> None:
    result = ActivationRange(-0.2784645, high)
    quarter = (high + 0.2784645) / 255 / 4

    floor = silu_floor(result)

    grid = np.linspace(-100, -1.2784645, 400_001)
    silu = grid / (1 + np.exp(-grid))
    enough = grid[np.abs(silu) >= quarter]
    expected = enough.min() if len(enough) else -1.2784645
    assert floor == pytest.approx(expected, abs=5e-4)


def test_an_activation_without_any_difference_keeps_what_was_seen(graph: Graph, pixels: Tensor) -> None:
    one = graph("resnet18")
    site = next(site for site in one.sites if site.name == "conv1")
    flat = one.with_state({name: torch.zeros_like(one.state(name)) for name in (site.weight, site.bias)})
    images = list(pixels.numpy())

    found = clipped_ranges(flat, observe(flat, images), images)

    assert found["conv1"] == ActivationRange(0.0, 0.0)


def test_values_far_out_are_what_clipping_is_for(graph: Graph, calibration_crops: Images) -> None:
    one = graph("resnet18")
    images = calibration_crops[:8]
    network = one.network
    plain = PostTrainingOptions(equalise=False, correct_bias=False, clip=False)
    lone = [image.copy() for image in images]
    lone[0][:] = 0
    lone[0][30:34, 30:34] = 255  # a light in the dark: rare, and the largest activations of all

    ranges = clipped_ranges(one, observe(one, lone), lone)
    clipped = quantize_post_training(network, lone, replace(plain, clip=True)).quantization
    whole = quantize_post_training(network, lone, plain).quantization

    for name, chosen in ranges.items():
        if name in one.activations.values() and not name.startswith(HEAD):
            assert clipped.of(name).scale <= whole.of(name).scale * (1 + 1e-6), (name, chosen)
    assert sum(clipped.of(name).scale < 0.9 * whole.of(name).scale for name in ranges) > 5
    assert clipped.of(INPUT) == whole.of(INPUT)


def test_sixteen_bits_and_who_asks_are_not_clipped(graph: Graph, calibration_crops: Images) -> None:
    network = graph("resnet18").network
    images = calibration_crops[:16]
    made = {
        name: observed_for_quantization(network, images, options)
        for name, options in {
            "clipped": PostTrainingOptions(),
            "asked": PostTrainingOptions(clip=False),
            "wide": PostTrainingOptions(activation_bits=16),
        }.items()
    }
    assert {name: bool(one.ranges) for name, one in made.items()} == {"clipped": True, "asked": False, "wide": False}
    again = observed_for_quantization(network, images)
    assert again.ranges == made["clipped"].ranges
