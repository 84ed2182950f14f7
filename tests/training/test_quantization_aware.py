"""A student that learns while it computes as its int8 file will."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

from aml_edge.errors import ImageBatchError, QuantizationError
from aml_edge.image_loading import ImageItem
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.networks.deployable import DeployableStudent
from aml_edge.pixels import load_pixels
from aml_edge.progress import SilentProgress
from aml_edge.quantization.aten_graph import aten
from aml_edge.quantization.fake_quantized import FakeQuantizedNetwork
from aml_edge.quantization.graph import Site, SiteGraph, SiteKind, site_graph
from aml_edge.quantization.quantization import Quantization
from aml_edge.quantization.tensors import TensorQuantization
from aml_edge.quantization_record import CalibrationRecord, Draw, QuantizationMethod, QuantizationRecord
from aml_edge.training.inputs import InputOptions, training_inputs
from aml_edge.training.optimisation import build_optimiser
from aml_edge.training.plan import TrainingPlan
from aml_edge.training.quantization_aware import QuantizationAwareStudent
from aml_edge.training.quantization_start import quantization_aware
from aml_edge.training.training_set import TrainingSet

DATA = Path("data/small")
ADAPTOR_BIAS = "student.adaptor.bias"


@pytest.fixture(scope="module")
def pixels(eighteen: TrainingSet, trained_start: StudentCheckpoint) -> Tensor:
    """(18, 64, 64, 3) uint8, as a file would be given them."""
    images = [load_pixels(item.path, trained_start.preprocessing) for item in eighteen.items]
    return torch.from_numpy(np.stack(images))


@pytest.fixture(scope="module")
def network(trained_start: StudentCheckpoint, eighteen: TrainingSet) -> QuantizationAwareStudent:
    """Prepared for integers, not trained yet; one test trains it."""
    return quantization_aware(trained_start, eighteen, DATA, seed=3, progress=SilentProgress())


def test_gradients_pass_roundings_and_stop_out_of_range() -> None:
    """A convolution of one place, its numbers worked out by hand."""
    graph = fx.Graph()
    image = graph.placeholder("image")
    weight, bias = graph.get_attr("weight"), graph.get_attr("bias")
    graph.output(graph.call_function(aten.conv2d.default, (image, weight, bias)))
    holder = nn.Module()
    holder.weight = nn.Parameter(torch.tensor([1.27, -0.304, 0.006]).reshape(1, 3, 1, 1))
    holder.bias = nn.Parameter(torch.tensor([0.1234]))
    module = fx.GraphModule(holder, graph)
    site = Site("conv", SiteKind.CONVOLUTION, "conv", "conv2d_default", "conv2d_default", ("input",), "weight", "bias")
    nodes = {"image": "input", "conv2d_default": "conv"}
    tiny = SiteGraph(None, module, (site,), nodes, {}, 1)  # type: ignore[arg-type]  # nothing here asks for a student
    stored = {"input": TensorQuantization(0.5, 0), "conv": TensorQuantization(0.25, 0)}
    images = torch.tensor([0.6, 100.0, -0.3]).reshape(1, 3, 1, 1).requires_grad_()

    result = FakeQuantizedNetwork(tiny, Quantization(stored, frozenset()))(images)
    result.sum().backward()

    # The image is stored as 0.5, 63.5 (the largest) and −0.5; the weight, in steps of 0.01, as 1.27, −0.30 and 0.01;
    # the bias, in steps of 0.5 × 0.01, as 0.125: 0.635 − 19.05 − 0.005 + 0.125 = −18.295, in steps of 0.25 −18.25.
    assert result.item() == -18.25
    assert images.grad is not None and holder.weight.grad is not None and holder.bias.grad is not None
    torch.testing.assert_close(images.grad.flatten(), torch.tensor([1.27, 0.0, 0.01]))
    torch.testing.assert_close(holder.weight.grad.flatten(), torch.tensor([0.5, 63.5, -0.5]))
    assert holder.bias.grad.item() == 1


def test_all_weights_and_biases_learn_but_those_without_a_place(
    network: QuantizationAwareStudent, pixels: Tensor
) -> None:
    embeddings = network.head(network.backbone(pixels[:4]))
    embeddings[:, 0].sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    learning = {name for name, weight in network.named_parameters() if weight.requires_grad}
    graph = network.backbone.graph
    expected = {name for site in graph.sites if site.weight for name in (site.weight, site.bias)} - {ADAPTOR_BIAS}
    assert {name.removeprefix("backbone.module.") for name in learning} == expected
    for name in ("backbone.trunk.conv_stem.weight", "backbone.trunk.conv_stem.bias", "adaptor.weight"):
        gradient = graph.state(f"student.{name}").grad
        assert gradient is not None and gradient.isfinite().all() and gradient.any(), name
    assert not graph.state(ADAPTOR_BIAS).any()
    assert network.pool.p.grad is None
    network.zero_grad()


def test_it_computes_what_the_integers_of_the_calibration_do(
    network: QuantizationAwareStudent, trained_start: StudentCheckpoint, pixels: Tensor
) -> None:
    """The student that is given back, folded again, with the quantization that goes beside it."""
    again = site_graph(DeployableStudent(network.trained_student(), trained_start.preprocessing), 64)
    with torch.inference_mode():
        expected = FakeQuantizedNetwork(again, network.quantization)(pixels)
        assert torch.equal(network(pixels), expected)
        assert not torch.equal(FakeQuantizedNetwork(again, None)(pixels), expected)


def test_a_student_that_has_learned_is_given_back_bit_for_bit(
    network: QuantizationAwareStudent, trained_start: StudentCheckpoint, eighteen: TrainingSet, pixels: Tensor
) -> None:
    assert eighteen.teacher is not None
    targets = torch.from_numpy(eighteen.teacher.rows)
    before = trained_start.weights_sha256
    learning = [weight for weight in network.parameters() if weight.requires_grad]
    optimiser = torch.optim.Adam(learning, lr=1e-3)
    losses = []
    for _ in range(6):
        optimiser.zero_grad()
        loss = 1 - (network(pixels) * targets).sum(1).mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    graph, student = network.backbone.graph, network.trained_student()
    again = site_graph(DeployableStudent(student, trained_start.preprocessing), 64)
    for site in graph.sites:
        if site.weight:
            assert torch.equal(again.state(site.weight), graph.state(site.weight)), site
            assert torch.equal(again.state(site.bias), graph.state(site.bias)), site
    assert torch.equal(student.pool.p, trained_start.student.pool.p)
    assert trained_start.weights_sha256 == before


def test_the_record_says_how_it_was_calibrated_and_what_it_began_from(
    network: QuantizationAwareStudent, trained_start: StudentCheckpoint
) -> None:
    calibration = network.record.calibration
    assert calibration is not None
    assert calibration == CalibrationRecord("data/small", 18, 3, Draw.RANDOM, calibration.sha256)
    float_blocks = network.record.float_blocks
    assert network.record == QuantizationRecord(
        QuantizationMethod.TRAINING,
        calibration,
        float_blocks,
        equalised=True,
        bias_corrected=True,
        activation_bits=8,
        trained_from=trained_start.weights_sha256,
        clipped=True,
    )
    assert set(float_blocks) == set(network.quantization.float_blocks) == {"conv_stem", "head"}


def test_the_same_images_and_seed_give_the_same_integers(
    network: QuantizationAwareStudent, trained_start: StudentCheckpoint, eighteen: TrainingSet
) -> None:
    again = quantization_aware(trained_start, eighteen, DATA, seed=3, progress=SilentProgress())
    assert (again.quantization, again.record) == (network.quantization, network.record)


def test_too_few_distinct_images_are_refused(trained_start: StudentCheckpoint, eighteen: TrainingSet) -> None:
    items = (*eighteen.items[:15], *eighteen.items[:3])
    with pytest.raises(QuantizationError) as caught:
        quantization_aware(trained_start, replace(eighteen, items=items), DATA, seed=0, progress=SilentProgress())
    assert str(caught.value) == (
        "`data` is data/small, of which 15 distinct images were drawn to calibrate; fewer than 16 do not show how far "
        "activations go: train on more images."
    )


def test_unreadable_images_are_all_listed(
    trained_start: StudentCheckpoint, eighteen: TrainingSet, tmp_path: Path
) -> None:
    items = (*eighteen.items[:16], ImageItem(tmp_path / "gone.png"), ImageItem(tmp_path / "too.png"))
    with pytest.raises(ImageBatchError, match="2 of 18 images cannot be read"):
        quantization_aware(trained_start, replace(eighteen, items=items), DATA, seed=0, progress=SilentProgress())


def test_its_inputs_are_pixels_of_one_shape(network: QuantizationAwareStudent, quantized_plan: TrainingPlan) -> None:
    preprocessing = quantized_plan.start.preprocessing
    inputs = training_inputs(
        network, quantized_plan.training, preprocessing, InputOptions(0), progress=SilentProgress()
    )
    assert {inputs.shape_of(row) for row in range(18)} == {(64, 64)}
    (group,) = inputs.groups([[0, 1]])
    assert [(one.dtype, tuple(one.shape)) for one in group] == [(torch.uint8, (64, 64, 3))] * 2
    assert inputs.trunk(torch.stack(group)).shape == (2, 16)


def test_the_adaptor_learns_at_its_own_rate(network: QuantizationAwareStudent, quantized_plan: TrainingPlan) -> None:
    settings = replace(quantized_plan.recipe.settings, learning_rate=1e-4, adaptor_rate_factor=0.5)
    trunk, adaptor = build_optimiser(network, settings).param_groups
    assert (trunk["lr"], adaptor["lr"]) == (1e-4, 5e-5)
    assert adaptor["params"] == [network.adaptor_weight]
    learning = [weight for weight in network.parameters() if weight.requires_grad]
    assert {id(weight) for group in (trunk, adaptor) for weight in group["params"]} == {id(one) for one in learning}
    assert len(trunk["params"]) == len(learning) - 1
