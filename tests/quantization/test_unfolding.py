"""A student that folds to given weights: bit for bit, and computing the same in floating point."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from aml_edge.errors import QuantizationError
from aml_edge.networks.checkpoints import StudentCheckpoint, load_student, save_student, weights_sha256
from aml_edge.networks.deployable import DeployableStudent
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.quantization.fake_quantized import FakeQuantizedNetwork
from aml_edge.quantization.graph import SiteGraph, site_graph
from aml_edge.quantization.post_training import QuantizedStudent
from aml_edge.quantization.unfolding import biases_without_place, unfolded, variance_of_one

ADAPTOR_BIAS = "student.adaptor.bias"
ROUNDING = 1e-5
"""Of an embedding's values in single precision, its operators in another order."""


@pytest.fixture(scope="module")
def graph(quantized: QuantizedStudent) -> SiteGraph:
    """Equalised, biases corrected, but for the adaptor's."""
    return quantized.graph.with_state({ADAPTOR_BIAS: torch.zeros(64)})


@pytest.fixture(scope="module")
def student(checkpoint: StudentCheckpoint, graph: SiteGraph) -> Student:
    return unfolded(checkpoint.student, graph)


def test_folding_again_gives_the_same_bits(checkpoint: StudentCheckpoint, graph: SiteGraph, student: Student) -> None:
    again = site_graph(DeployableStudent(student, checkpoint.preprocessing), graph.image_side_px)
    names = [name for site in graph.sites if site.weight for name in (site.weight, site.bias)]
    assert len(names) == 2 * 50  # 49 convolutions of EfficientNet-Lite0, and the adaptor
    for name in names:
        assert torch.equal(again.state(name), graph.state(name)), name
    assert [site.name for site in again.sites] == [site.name for site in graph.sites]


def test_a_file_in_between_changes_nothing(
    checkpoint: StudentCheckpoint,
    graph: SiteGraph,
    student: Student,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("unfolded")
    save_student(StudentCheckpoint(student, "mine", checkpoint.space, checkpoint.preprocessing, trained=True), folder)
    loaded = load_student(folder).student
    assert weights_sha256(loaded) == weights_sha256(student)
    folded = DeployableStudent(loaded, checkpoint.preprocessing).folded(graph.image_side_px)
    for site in graph.sites:
        if site.weight:
            assert torch.equal(folded.get_parameter(site.weight), graph.state(site.weight))


def test_the_student_computes_what_the_graph_does(
    checkpoint: StudentCheckpoint, graph: SiteGraph, student: Student, photographs: list[npt.NDArray[np.uint8]]
) -> None:
    pixels = torch.from_numpy(np.stack(photographs))
    with torch.inference_mode():
        ours = student(DeployableStudent(student, checkpoint.preprocessing).normalise(pixels))
        torch.testing.assert_close(ours, FakeQuantizedNetwork(graph, None)(pixels), atol=ROUNDING, rtol=0)


def test_the_student_that_it_was_is_left_as_it_is(checkpoint: StudentCheckpoint, student: Student) -> None:
    norm = checkpoint.student.backbone.trunk.bn1
    assert not torch.equal(norm.weight, torch.ones_like(norm.weight))
    assert torch.equal(student.backbone.trunk.bn1.weight, torch.ones_like(norm.weight))
    assert student.spec == checkpoint.student.spec


def test_only_the_adaptor_has_no_place_for_a_bias(checkpoint: StudentCheckpoint, quantized: QuantizedStudent) -> None:
    assert biases_without_place(checkpoint.student, quantized.graph) == (ADAPTOR_BIAS,)


def test_a_convolution_s_own_bias_has_a_place(checkpoint: StudentCheckpoint) -> None:
    """Squeeze-and-excitation convolves with biases and without normalisation."""
    student = Student(StudentSpec("tf_efficientnet_b0", 8)).eval()
    with torch.no_grad():
        student.backbone.trunk.blocks[0][0].se.conv_reduce.bias.fill_(0.25)
    graph = site_graph(DeployableStudent(student, checkpoint.preprocessing), 32)
    assert biases_without_place(student, graph) == (ADAPTOR_BIAS,)
    name = "student.backbone.trunk.blocks.0.0.se.conv_reduce.bias"
    taken = unfolded(student, graph.with_state({name: torch.full_like(graph.state(name), 0.5)}))
    assert (taken.backbone.trunk.blocks[0][0].se.conv_reduce.bias == 0.5).all()


def test_a_bias_without_a_place_is_refused(checkpoint: StudentCheckpoint, graph: SiteGraph) -> None:
    with pytest.raises(QuantizationError) as caught:
        unfolded(checkpoint.student, graph.with_state({ADAPTOR_BIAS: torch.full((64,), 1e-6)}))
    assert str(caught.value) == (
        "the bias student.adaptor.bias is not zero, but a student's file has no place for it; correct and train all "
        "biases but those of `biases_without_place`."
    )


@pytest.mark.parametrize("eps", [1e-3, 1e-5, 1e-6, 1e-12, 0.0, 0.1, 0.3])
def test_a_variance_and_eps_are_one_in_single_precision(eps: float) -> None:
    assert np.float32(variance_of_one(eps)) + np.float32(eps) == np.float32(1)
