"""Drift along the network, against sums over one image after the other in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from aml_edge.exporters.quantization.drift import EMBEDDING, SiteDrift, measure_drift, steepest
from aml_edge.quantization.fake_quantized import FakeQuantizedNetwork
from aml_edge.quantization.graph import HEAD, SiteGraph
from aml_edge.quantization.post_training import PostTraining
from aml_edge.quantization.quantization import Quantization

Images = list[npt.NDArray[np.uint8]]
Activations = dict[str, npt.NDArray[np.float64]]
IMAGES = 6
ROUNDING = 1e-3
"""Relative: an image alone is summed in another order than in a batch, and a value in the middle rounds either way."""


@pytest.fixture(scope="module")
def drift(post_training: PostTraining, calibration_crops: Images) -> tuple[SiteDrift, ...]:
    return measure_drift(post_training.graph, post_training.quantized(), calibration_crops[:IMAGES])


def activations(graph: SiteGraph, quantization: Quantization | None, images: Images) -> Activations:
    """Returns every activation of all images, flat, computed four at a time."""
    found: dict[str, list[npt.NDArray[np.float64]]] = {}

    def keep(name: str, values: torch.Tensor) -> None:
        found.setdefault(name, []).append(values.double().numpy().ravel())

    network = FakeQuantizedNetwork(graph, quantization)
    with torch.inference_mode():
        for start in range(0, len(images), 4):
            batch = torch.from_numpy(np.stack(images[start : start + 4]))
            found.setdefault(EMBEDDING, []).append(network(batch, keep).double().numpy().ravel())
    return {name: np.concatenate(parts) for name, parts in found.items()}


def test_errors_are_those_of_the_activations(
    drift: tuple[SiteDrift, ...], post_training: PostTraining, calibration_crops: Images
) -> None:
    student = post_training.quantized()
    in_float = activations(post_training.graph, None, calibration_crops[:IMAGES])
    in_integers = activations(student.graph, student.quantization, calibration_crops[:IMAGES])
    for one in drift:
        before, after = in_float[one.name], in_integers[one.name]
        expected = np.linalg.norm(after - before) / np.linalg.norm(before)
        assert one.relative_error == pytest.approx(expected, rel=ROUNDING), one.name
        assert one.float_rms == pytest.approx(np.sqrt(np.mean(before**2)), rel=ROUNDING)
        assert one.integer_rms == pytest.approx(np.sqrt(np.mean(after**2)), rel=ROUNDING)


def test_sites_come_in_run_order_and_the_embedding_last(
    drift: tuple[SiteDrift, ...], post_training: PostTraining
) -> None:
    sites = [site.name for site in post_training.graph.sites if site.block != HEAD]
    assert [one.name for one in drift] == [*sites, EMBEDDING]
    assert (drift[-1].block, drift[-2].block) == (HEAD, "adaptor")


def test_a_site_is_held_against_the_worst_that_it_takes(drift: tuple[SiteDrift, ...]) -> None:
    by_name = {one.name: one for one in drift}
    added = by_name["blocks.2.1:add"]
    taken = (by_name["blocks.2.0.conv_pwl"], by_name["blocks.2.1.conv_pwl"])
    assert added.input_error == max(one.relative_error for one in taken)
    assert added.rise == added.relative_error - added.input_error


def test_what_stays_in_floating_point_does_not_drift(drift: tuple[SiteDrift, ...]) -> None:
    assert (drift[0].name, drift[0].relative_error, drift[0].input_error) == ("conv_stem", 0.0, 0.0)
    assert drift[1].relative_error > 0


def test_it_starts_where_the_ruined_block_is(ruined: Any) -> None:
    student = ruined.post_training.quantized()
    found = measure_drift(ruined.post_training.graph, student, ruined.queries.images[:IMAGES])
    assert steepest(found, 1)[0].name == f"{ruined.block}.conv_pwl"


def test_the_steepest_come_first() -> None:
    sites = [SiteDrift(str(error), "block", 1.0, 1.0, error, 0.1) for error in (0.2, 0.5, 0.05, 0.3)]
    assert [one.name for one in steepest(sites, 2)] == ["0.5", "0.3"]
