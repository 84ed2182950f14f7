"""The adaptor's ridge regression against numpy's least squares."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from aml_edge.errors import UsageError
from aml_edge.networks.checkpoints import weights_sha256
from aml_edge.networks.student import Student
from aml_edge.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from aml_edge.training.adaptor_warm_start import ridge_regression, warm_start_adaptor
from aml_edge.training.inputs import PixelInputs
from aml_edge.training.training_set import TrainingSet

Rows = npt.NDArray[np.float64]


def augmented_least_squares(features: Rows, targets: Rows, penalty: float) -> Rows:
    """Returns the ridge solution as a plain least-squares problem: √λ times the identity as further rows."""
    absolute = penalty * (features**2).sum() / features.shape[1]
    rows = np.vstack([features, np.sqrt(absolute) * np.eye(features.shape[1])])
    values = np.vstack([targets, np.zeros((features.shape[1], targets.shape[1]))])
    solution: Rows = np.linalg.lstsq(rows, values, rcond=None)[0].T
    return solution


@pytest.mark.parametrize("count", [3, 40])
@pytest.mark.parametrize("penalty", [1e-3, 1.0, 30.0])
def test_equals_least_squares_with_the_penalty_as_rows(count: int, penalty: float) -> None:
    generator = np.random.default_rng(0)
    features, targets = generator.normal(size=(count, 8)), generator.normal(size=(count, 5))
    weights = ridge_regression([(torch.from_numpy(features), torch.from_numpy(targets))], penalty=penalty)
    np.testing.assert_allclose(weights, augmented_least_squares(features, targets, penalty), atol=1e-9)


def test_the_batches_do_not_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    features, targets = torch.rand(10, 4, generator=generator), torch.rand(10, 3, generator=generator)
    whole = ridge_regression([(features, targets)], penalty=1.0)
    parts = ridge_regression(
        ((features[start : start + 3], targets[start : start + 3]) for start in range(0, 10, 3)), penalty=1.0
    )
    torch.testing.assert_close(parts, whole, atol=1e-12, rtol=0)


def test_a_linear_teacher_is_found_again() -> None:
    generator = torch.Generator().manual_seed(0)
    features, truth = torch.rand(50, 4, generator=generator), torch.rand(3, 4, generator=generator)
    weights = ridge_regression([(features, features @ truth.T)], penalty=1e-9)
    torch.testing.assert_close(weights, truth.double(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("features", "targets", "message"),
    [
        (torch.ones(2, 3), torch.ones(3, 4), r"features are \(2, 3\) and targets \(3, 4\); both must have one row"),
        (torch.ones(3), torch.ones(3, 4), r"features are \(3,\) and targets \(3, 4\); both must have one row"),
        (torch.full((2, 3), torch.nan), torch.ones(2, 4), "is not finite; look for NaN in the student's weights"),
        (torch.ones(2, 3), torch.full((2, 4), torch.inf), "is not finite; look for NaN in the student's weights"),
        (torch.zeros(2, 3), torch.ones(2, 4), "all features are zero, or there are none"),
    ],
)
def test_refuses_what_gives_no_regression(features: Tensor, targets: Tensor, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ridge_regression([(features, targets)], penalty=1.0)


def test_refuses_no_rows() -> None:
    with pytest.raises(UsageError, match="all features are zero, or there are none"):
        ridge_regression([], penalty=1.0)


def test_starts_from_the_trunks_pooled_features(
    new_student: Callable[[], Student], training_set: TrainingSet, pixels: list[npt.NDArray[np.uint8]]
) -> None:
    student = new_student()
    with torch.no_grad():
        student.pool.p.fill_(2.0)
    before = weights_sha256(student)
    assert training_set.teacher is not None
    targets = training_set.teacher.rows
    inputs = PixelInputs(student, training_set, Preprocessing(64))
    weights = warm_start_adaptor(student, inputs, targets, penalty=0.5)

    features = []
    for image in pixels:
        normalised = ((image / 255.0 - IMAGENET_MEAN) / IMAGENET_STD).transpose(2, 0, 1)[None].astype(np.float32)
        with torch.no_grad():
            map_ = student.backbone(torch.from_numpy(normalised)).double().numpy()
        pooled = np.sqrt((np.maximum(map_, 1e-6) ** 2).mean(axis=(2, 3)))[0]
        features.append(pooled / (np.linalg.norm(pooled) + 1e-6))
    expected = augmented_least_squares(np.stack(features), targets.astype(np.float64), 0.5)
    assert weights.shape == student.adaptor.weight.shape
    assert weights.dtype == torch.float32
    np.testing.assert_allclose(weights[:, :, 0, 0], expected, atol=1e-5)
    assert weights_sha256(student) == before
