"""What an exported file computes equals what the student computes, also where half precision would not hold it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.networks.deployable import DeployableStudent, SafeGeM, SafeWhitening, safe_l2_normalise
from aml_edge.networks.whitening import Whitening

SINGLE_PRECISION = 1e-6
"""Rows of unit length in float32, a few hundred operations deep."""
EPS = 1e-6


def plain_head(features: npt.NDArray[np.float64], p: float) -> npt.NDArray[np.float64]:
    """Returns GeM and L2 of (B, D, h, w) as PAPER.md writes them, in float64 loops."""
    rows = np.array([[np.mean(np.maximum(channel, EPS) ** p) ** (1 / p) for channel in image] for image in features])
    normalised: npt.NDArray[np.float64] = rows / (np.linalg.norm(rows, axis=1, keepdims=True) + EPS)
    return normalised


def features(scale: float = 1.0) -> torch.Tensor:
    """Returns (1, 200, 5, 5) features after a ReLU: a quarter of the channels dead, sizes over four decades."""
    generator = torch.Generator().manual_seed(3)
    values = torch.randn(1, 200, 5, 5, generator=generator).relu()
    values *= 10 ** torch.empty(1, 200, 1, 1).uniform_(-3, 1, generator=generator)
    values[:, ::4] = 0
    return values * scale


@pytest.mark.parametrize("p", [1.0, 2.6, 3.0, 4.5])
@pytest.mark.parametrize("scale", [1e-3, 0.01, 1.0, 10.0, 1e4])
def test_safe_head_equals_the_plain_one(p: float, scale: float) -> None:
    values = features(scale)
    rows = safe_l2_normalise(SafeGeM(p, EPS)(values))
    assert np.abs(rows.numpy() - plain_head(values.double().numpy(), p)).max() < SINGLE_PRECISION


def test_safe_gem_of_one_value_is_that_value() -> None:
    assert SafeGeM(3.0, EPS)(torch.full((1, 2, 4, 4), 7.0)).tolist() == [[7.0, 7.0]]


def test_safe_gem_of_dead_channels_is_eps() -> None:
    assert SafeGeM(3.0, EPS)(torch.zeros(1, 2, 4, 4)).numpy() == pytest.approx(EPS, rel=1e-5)


def test_safe_l2_of_nothing_is_nothing() -> None:
    assert safe_l2_normalise(torch.zeros(1, 3)).tolist() == [[0.0, 0.0, 0.0]]


def test_safe_l2_keeps_signs() -> None:
    assert safe_l2_normalise(torch.tensor([[3.0, -4.0]])).numpy() == pytest.approx(np.array([[0.6, -0.8]]), abs=1e-6)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e5])
def test_safe_whitening_equals_float64(scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    mean, projection = torch.rand(32, generator=generator), scale * torch.randn(16, 32, generator=generator)
    rows = torch.rand(1, 32, generator=generator)
    expected = (rows.double() - mean.double()) @ projection.double().T
    expected = expected / (expected.norm(dim=1, keepdim=True) + EPS)
    assert (SafeWhitening(Whitening(mean, projection))(rows) - expected).abs().max() < SINGLE_PRECISION


def test_equals_the_student(
    checkpoint: StudentCheckpoint, photographs: list[npt.NDArray[np.uint8]], student_rows: npt.NDArray[np.float32]
) -> None:
    network = DeployableStudent(checkpoint.student, checkpoint.preprocessing)
    with torch.inference_mode():
        rows = np.concatenate([network(torch.from_numpy(image)[None]).numpy() for image in photographs])
    assert np.abs(rows - student_rows).max() < SINGLE_PRECISION


def test_equals_the_student_whitened(
    checkpoint: StudentCheckpoint,
    whitening: Whitening,
    photographs: list[npt.NDArray[np.uint8]],
    whitened_rows: npt.NDArray[np.float64],
) -> None:
    network = DeployableStudent(checkpoint.student, checkpoint.preprocessing, whitening)
    with torch.inference_mode():
        rows = np.concatenate([network(torch.from_numpy(image)[None]).numpy() for image in photographs])
    assert rows.dtype == np.float32
    assert np.abs(rows - whitened_rows).max() < 1e-5  # whitening magnifies the student's own rounding


def test_scaling_the_adaptor_changes_nothing(
    checkpoint: StudentCheckpoint, photographs: list[npt.NDArray[np.uint8]], student_rows: npt.NDArray[np.float32]
) -> None:
    network = DeployableStudent(checkpoint.student, checkpoint.preprocessing).folded(64)
    with torch.inference_mode():
        network.student.adaptor.weight.mul_(10.0)
        rows = np.concatenate([network(torch.from_numpy(image)[None]).numpy() for image in photographs])
    assert np.abs(rows - student_rows).max() < 5 * SINGLE_PRECISION


def test_half_trunk_computes_in_half_and_leaves_the_student_alone(checkpoint: StudentCheckpoint) -> None:
    network = DeployableStudent(checkpoint.student, checkpoint.preprocessing)
    half = network.with_half_trunk(64)
    assert {weight.dtype for weight in half.student.parameters()} == {torch.float16}
    assert {weight.dtype for weight in checkpoint.student.parameters()} == {torch.float32}
    assert half(torch.zeros(1, 64, 64, 3, dtype=torch.uint8)).dtype == torch.float32
