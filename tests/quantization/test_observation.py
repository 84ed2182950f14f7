"""What is seen of activations, against numpy in double precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np
import pytest
import torch
from torch import Tensor

from aml_edge.errors import QuantizationError
from aml_edge.quantization.fake_quantized import FakeQuantizedNetwork
from aml_edge.quantization.graph import INPUT, SiteGraph, SiteKind
from aml_edge.quantization.observation import BATCH, observe, quantization_of
from aml_edge.quantization.tensors import TensorQuantization

Graph = Callable[[str], SiteGraph]


class Announced(Protocol):
    announced: list[tuple[str, int]]
    done: int

    def task(self, description: str, total: int) -> object: ...


def test_image_is_seen_by_colour(graph: Graph, pixels: Tensor) -> None:
    seen = observe(graph("resnet18"), list(pixels.numpy()))[INPUT]

    images = pixels.double().numpy() / 255
    normalised = (images - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)  # ImageNet's, by colour
    np.testing.assert_allclose(seen.low, normalised.min((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(seen.high, normalised.max((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(seen.mean, normalised.mean((0, 1, 2)), rtol=1e-4, atol=1e-6)


def test_ranges_and_means_are_of_all_images_in_all_batches(
    graph: Graph, calibration_crops: list[np.ndarray], progress: Announced
) -> None:
    one = graph("resnet18")
    images = calibration_crops[: BATCH + 3]
    values: dict[str, list[np.ndarray]] = {}
    with torch.inference_mode():
        network = FakeQuantizedNetwork(one, None)
        for image in images:
            network(
                torch.from_numpy(image[None]),
                lambda name, value: values.setdefault(name, []).append(value.double().numpy()),
            )

    seen = observe(one, images, progress)  # type: ignore[arg-type]

    for name in ("conv1", "layer2.1:add", "adaptor"):
        together = np.concatenate(values[name])
        np.testing.assert_allclose(seen[name].low, together.min((0, 2, 3)), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(seen[name].high, together.max((0, 2, 3)), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(seen[name].mean, together.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
        largest = np.abs(together).max((0, 2, 3))
        np.testing.assert_allclose(seen[name].largest, largest, rtol=1e-4, atol=1e-6)
    assert progress.announced == [("observing activations", BATCH + 3)]
    assert progress.done == BATCH + 3


def test_activation_that_is_not_finite_is_named(graph: Graph, pixels: Tensor) -> None:
    one = graph("resnet18")
    site = next(site for site in one.sites if site.name == "layer2.0.conv1")
    broken = one.with_state({site.bias: torch.full_like(one.state(site.bias), float("inf"))})

    with pytest.raises(
        QuantizationError,
        match=r"^the activation 'layer2\.0\.conv1' is not finite on a calibration image, .*; look at the student",
    ):
        observe(broken, list(pixels.numpy()))


def test_same_images_give_the_same_bits(graph: Graph, pixels: Tensor) -> None:
    first, second = (observe(graph("resnet18"), list(pixels.numpy())) for _ in range(2))

    assert list(first) == list(second)
    assert all(torch.equal(first[name].mean, second[name].mean) for name in first)
    assert all(torch.equal(first[name].low, second[name].low) for name in first)


@pytest.mark.parametrize("bits", [8, 16])
def test_activations_are_stored_by_what_was_seen_and_sigmoids_by_rule(graph: Graph, pixels: Tensor, bits: int) -> None:
    one = graph("regnety_002")
    seen = observe(one, list(pixels.numpy()))

    found = quantization_of(one, seen, activation_bits=bits)

    assert found.activations.keys() == seen.keys()
    sigmoids = [site.name for site in one.sites if site.kind is SiteKind.SIGMOID]
    assert len(sigmoids) == 13
    assert all(found.of(name) == TensorQuantization.of_sigmoid(bits) for name in sigmoids)
    other = "s2.b1.conv1.conv"
    low, high = float(seen[other].low.min()), float(seen[other].high.max())
    assert found.of(other) == TensorQuantization.of_range(low, high, bits)


def test_divided_channels_are_seen_as_divided(graph: Graph, pixels: Tensor) -> None:
    seen = observe(graph("resnet18"), list(pixels.numpy()))["conv1"]
    factors = torch.linspace(0.5, 2.0, len(seen.mean))

    found = seen.divided_by(factors)

    expected = replace(seen, low=seen.low / factors, high=seen.high / factors, mean=seen.mean / factors)
    assert torch.equal(found.low, expected.low) and torch.equal(found.high, expected.high)
    assert torch.equal(found.mean, expected.mean)
