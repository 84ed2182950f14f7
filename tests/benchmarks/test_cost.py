"""Costs against arithmetic, and against what the paper prints of its networks."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn

from aml_edge.benchmarks.cost import CostReport, measure_cost
from aml_edge.errors import UsageError
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.networks.teacher import Teacher, TeacherSpec

PAPER_SIDE = 362
"""px; Budnik and Avrithis, "Asymmetric metric learning for knowledge transfer", CVPR 2021, table 1."""
GFLOPS_TOLERANCE = 0.02
"""Relative: the paper's counter saw more in a batch normalisation and in pooling than fvcore does."""
CONVOLUTIONS_TOLERANCE = 0.005
"""GFLOPs: half of the last digit that is known of convolutions alone."""


@pytest.fixture(scope="module")
def teacher() -> CostReport:
    return measure_cost(Teacher(TeacherSpec("resnet101")), PAPER_SIDE)


@pytest.fixture(scope="module")
def student_network() -> Student:
    return Student(StudentSpec("efficientnet_b3", 2048))


@pytest.fixture(scope="module")
def student(student_network: Student) -> CostReport:
    return measure_cost(student_network, PAPER_SIDE)


@pytest.fixture(scope="module")
def trunk(student_network: Student) -> CostReport:
    return measure_cost(student_network.backbone, PAPER_SIDE)


@pytest.mark.parametrize(
    ("network", "millions", "gflops", "gflops_of_convolutions"),
    [("teacher", 42.50, 42.85, 42.33), ("trunk", 10.70, 5.36, 5.31), ("student", 13.84, 6.26, 6.22)],
)
def test_costs_what_the_paper_says(
    request: pytest.FixtureRequest, network: str, millions: float, gflops: float, gflops_of_convolutions: float
) -> None:
    cost = request.getfixturevalue(network)
    assert round(cost.parameters / 1e6, 2) == millions
    assert cost.gflops == pytest.approx(gflops, rel=GFLOPS_TOLERANCE)
    assert 2 * cost.operator_gmacs["conv"] == pytest.approx(gflops_of_convolutions, abs=CONVOLUTIONS_TOLERANCE)
    assert (cost.height_px, cost.width_px) == (PAPER_SIDE, PAPER_SIDE)


def test_the_adaptor_is_a_matrix_at_each_place_of_the_feature_map(student: CostReport, trunk: CostReport) -> None:
    places = 12 * 12  # 362 px halved five times, rounded up
    assert student.parameters - trunk.parameters == 1536 * 2048 + 1  # and the power of GeM
    assert student.gmacs - trunk.gmacs == pytest.approx(places * 1536 * 2048 / 1e9, rel=1e-6)


class Small(nn.Module):
    """A convolution, a batch normalisation, a linear layer, and a place to note what it was called with."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.linear = nn.Linear(8, 5, bias=False)
        self.modes: list[bool] = []

    def forward(self, images: Tensor) -> Tensor:
        self.modes.append(self.training)
        if images.shape[0] > 1000:  # a tracer warns of this, and nobody should see it
            return images
        rows: Tensor = self.linear(torch.sigmoid(self.norm(self.convolution(images))).mean(dim=(2, 3)))
        return rows


def test_a_multiply_accumulate_counts_as_one_and_as_two_flops() -> None:
    cost = measure_cost(Small(), (10, 14))
    places = 5 * 7
    convolution, norm, linear = places * 8 * (3 * 3 * 3), places * 8 * 2, 8 * 5  # scale and shift
    assert cost.parameters == (8 * 27 + 8) + (8 + 8) + 8 * 5  # running statistics are not learned
    assert {name: round(1e9 * count) for name, count in cost.operator_gmacs.items()} == {
        "conv": convolution,
        "batch_norm": norm,
        "linear": linear,
    }
    assert list(cost.operator_gmacs) == ["conv", "batch_norm", "linear"]  # largest first
    assert cost.gmacs == pytest.approx((convolution + norm + linear) / 1e9)
    assert cost.gflops == pytest.approx(2 * (convolution + norm + linear) / 1e9)
    assert (cost.height_px, cost.width_px) == (10, 14)


def test_what_is_counted_and_what_is_not_is_said() -> None:
    cost = measure_cost(Small(), 8)
    assert cost.counted == (
        "Multiply-accumulates of conv and batch_norm and linear, as fvcore counts them; GFLOPs are twice the GMACs. "
        "Activations, pooling, additions and padding are not counted."
    )
    assert cost.not_counted == {"sigmoid": 1, "mean": 1}


def test_the_network_is_left_as_it_was_and_seen_in_evaluation() -> None:
    network = Small()
    network.norm.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    measure_cost(network, 8)
    assert network.modes and not any(network.modes)
    assert (network.training, network.norm.training, network.linear.training) == (True, False, True)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_nothing_is_printed_or_warned_of(capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        measure_cost(Small(), 8)
    assert (seen, capfd.readouterr()) == ([], ("", ""))


def test_a_network_without_weights_costs_nothing() -> None:
    cost = measure_cost(nn.Flatten(), 8)
    assert (cost.parameters, cost.gmacs, cost.gflops, cost.operator_gmacs) == (0, 0, 0, {})
    assert cost.counted.startswith("Multiply-accumulates of nothing, ")


@pytest.mark.parametrize("side", [0, -3, (8, 0)])
def test_an_image_without_pixels_is_refused(side: int | tuple[int, int]) -> None:
    with pytest.raises(UsageError) as refused:
        measure_cost(nn.Flatten(), side)
    assert str(refused.value) == f"`image_side_px` is {side}; an image has at least one pixel."
