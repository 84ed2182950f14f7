"""Post-training quantization of a whole student: what it keeps, and what a choice of blocks changes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from aml_edge.errors import QuantizationError
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.networks.deployable import DeployableStudent
from aml_edge.quantization.equalisation import equalised
from aml_edge.quantization.fake_quantized import FakeQuantizedNetwork
from aml_edge.quantization.graph import HEAD, SiteGraph, SiteKind
from aml_edge.quantization.observation import observe
from aml_edge.quantization.post_training import (
    PostTraining,
    PostTrainingOptions,
    QuantizedStudent,
    observed_for_quantization,
    quantize_post_training,
)

Images = list[np.ndarray]
Graph = Callable[[str], SiteGraph]
Network = Callable[[str], DeployableStudent]


def embed(quantized: QuantizedStudent, pixels: Tensor) -> Tensor:
    with torch.inference_mode():
        rows: Tensor = FakeQuantizedNetwork(quantized.graph, quantized.quantization)(pixels)
    return rows


def floating(network: DeployableStudent, pixels: Tensor) -> Tensor:
    with torch.inference_mode():
        return torch.cat([network(image[None]) for image in pixels])


@pytest.fixture(scope="module")
def post_training(checkpoint: StudentCheckpoint, calibration_crops: Images) -> PostTraining:
    student = DeployableStudent(checkpoint.student, checkpoint.preprocessing)
    return observed_for_quantization(student, calibration_crops)


def test_integers_keep_the_embeddings(
    quantized: QuantizedStudent, checkpoint: StudentCheckpoint, pixels: Tensor
) -> None:
    student = DeployableStudent(checkpoint.student, checkpoint.preprocessing)

    cosines = (floating(student, pixels) * embed(quantized, pixels)).sum(1)

    assert cosines.min() > 0.99
    assert cosines.max() < 0.99999


def test_stem_and_head_stay_in_floating_point_unless_asked(post_training: PostTraining) -> None:
    assert post_training.quantized().quantization.float_blocks == {HEAD, "conv_stem"}
    asked = PostTrainingOptions(float_stem=False, float_head=False, float_blocks=frozenset({"blocks.3.0"}))
    assert replace(post_training, options=asked).quantized().quantization.float_blocks == {"blocks.3.0"}


def test_any_choice_of_blocks_comes_without_more_images(post_training: PostTraining, pixels: Tensor) -> None:
    blocks = post_training.graph.blocks

    all_float = post_training.quantized(blocks)
    one_in_integers = post_training.quantized(set(blocks) - {"blocks.1.0"})

    assert torch.equal(embed(all_float, pixels), post_training.graph.module(pixels).detach())
    integer = {site.block for site in one_in_integers.quantization.integer_sites(one_in_integers.graph)}
    assert integer == {"blocks.1.0"}
    for site in post_training.graph.sites:  # biases are corrected where there are integers, and nowhere else
        if site.kind is SiteKind.CONVOLUTION:
            same = torch.equal(one_in_integers.graph.state(site.bias), post_training.graph.state(site.bias))
            assert same == (site.block != "blocks.1.0")


def test_same_images_give_the_same_bits_and_the_student_is_left_as_it_is(
    checkpoint: StudentCheckpoint, quantized: QuantizedStudent, calibration_crops: Images
) -> None:
    student = DeployableStudent(checkpoint.student, checkpoint.preprocessing)
    before = {name: value.clone() for name, value in student.state_dict().items()}

    again = quantize_post_training(student, calibration_crops)

    assert again.quantization == quantized.quantization
    state, other = again.graph.network.state_dict(), quantized.graph.network.state_dict()
    assert state.keys() == other.keys()
    assert all(torch.equal(state[name], other[name]) for name in state)
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())


def test_steps_can_be_left_out(network: Network, calibration_crops: Images) -> None:
    student = network("resnet18")
    options = PostTrainingOptions(equalise=False, correct_bias=False)

    plain = quantize_post_training(student, calibration_crops[:16], options)

    for name, parameter in student.folded(64).named_parameters():
        assert torch.equal(plain.graph.network.get_parameter(name), parameter)


def test_sixteen_bits_are_nearer_than_eight(post_training: PostTraining, pixels: Tensor) -> None:
    options = PostTrainingOptions(activation_bits=16)
    expected = post_training.graph.module(pixels).detach()

    eight, sixteen = (replace(post_training, options=one).quantized() for one in (PostTrainingOptions(), options))

    assert {one.bits for one in sixteen.quantization.activations.values()} == {16}
    error_of_eight, error_of_sixteen = ((embed(one, pixels) - expected).norm(dim=1).max() for one in (eight, sixteen))
    assert error_of_sixteen < error_of_eight


def test_network_that_a_converter_takes_computes_what_the_graph_does(
    quantized: QuantizedStudent, pixels: Tensor
) -> None:
    expected = quantized.graph.module(pixels).detach()

    torch.testing.assert_close(floating(quantized.graph.network, pixels), expected, rtol=0, atol=3e-6)


def test_depthwise_network_gains_by_its_steps(graph: Graph, calibration_crops: Images, pixels: Tensor) -> None:
    one = graph("tf_efficientnet_lite0")
    seen = observe(one, calibration_crops)
    expected = one.module(pixels).detach()
    equal = equalised(one, seen)
    steps = PostTrainingOptions(float_stem=False)
    plain = PostTraining(one, seen, replace(steps, correct_bias=False)).quantized()
    both = PostTraining(equal.graph, equal.observations, steps).quantized()

    error_of_plain, error_of_both = ((embed(made, pixels) - expected).square().sum(1).mean() for made in (plain, both))

    assert error_of_both < error_of_plain


@pytest.mark.parametrize("power", [1.0, 10.0])
def test_powers_of_gem_near_one_and_ten(
    network: Network, calibration_crops: Images, pixels: Tensor, power: float
) -> None:
    student = copy.deepcopy(network("resnet18"))
    student.pool.p = power

    quantized = quantize_post_training(student, calibration_crops[:32])

    assert quantized.graph.network.pool.p == power
    cosines = (floating(student, pixels) * embed(quantized, pixels)).sum(1)
    assert cosines.min() > 0.98


def test_huge_range_of_one_channel_costs_precision_not_sense(
    post_training: PostTraining, calibration_crops: Images, pixels: Tensor
) -> None:
    site = next(site for site in post_training.graph.sites if site.name == "blocks.1.0.conv_pwl")
    weight = post_training.graph.state(site.weight).detach().clone()
    weight[0] *= 1e6
    graph = post_training.graph.with_state({site.weight: weight})
    seen = observe(graph, calibration_crops[:16])
    after = equalised(graph, seen)

    plain = embed(PostTraining(graph, seen, PostTrainingOptions()).quantized(), pixels)
    equal = PostTraining(after.graph, after.observations, PostTrainingOptions()).quantized()

    assert seen["blocks.1.0.conv_pwl"].largest.max() > 1e5
    assert plain.isfinite().all()
    assert (embed(equal, pixels) * graph.module(pixels).detach()).sum(1).min() > 0.9


def test_head_in_integers_when_asked(post_training: PostTraining, pixels: Tensor) -> None:
    quantized = post_training.quantized({"conv_stem"})

    assert {site.kind for site in quantized.quantization.integer_sites(quantized.graph) if site.block == HEAD}
    assert embed(quantized, pixels).isfinite().all()


def test_refuses_a_block_that_the_network_has_not(post_training: PostTraining) -> None:
    with pytest.raises(QuantizationError, match=r"^`float_blocks` has blocks\.9\.9, which the network has not"):
        post_training.quantized({"blocks.9.9"})


def test_refuses_no_images(checkpoint: StudentCheckpoint) -> None:
    student = DeployableStudent(checkpoint.student, checkpoint.preprocessing)

    with pytest.raises(QuantizationError, match=r"^`images` is empty; ranges are seen on images: give some to calibra"):
        observed_for_quantization(student, [])


@pytest.mark.parametrize("shapes", [((64, 48, 3),), ((64, 64, 3), (32, 32, 3))])
def test_refuses_images_that_are_not_of_one_square(
    checkpoint: StudentCheckpoint, shapes: tuple[tuple[int, int, int], ...]
) -> None:
    student = DeployableStudent(checkpoint.student, checkpoint.preprocessing)

    with pytest.raises(QuantizationError, match=r"^`images` has one of shape .*, here \(64, 64, 3\): fit them"):
        observed_for_quantization(student, [np.zeros(shape, np.uint8) for shape in shapes])
