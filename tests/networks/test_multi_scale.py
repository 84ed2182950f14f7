"""Several scales against the published definition, written out scale by scale in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from aml_edge.errors import UsageError
from aml_edge.networks.multi_scale import MultiScale, resized, scale_power
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.networks.teacher import Teacher, TeacherSpec
from aml_edge.scales import PUBLISHED_SCALES

Rows = npt.NDArray[np.float64]
FLOAT32 = 2e-6
"""A network in float32 with the mean in float64 against all of it in float32: a few roundings of values below 1."""


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(2, 3, 75, 98, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def student() -> Student:
    network = Student(StudentSpec("mobilenetv2_035", 24), seed=1).eval()
    torch.nn.init.constant_(network.pool.p, 2.6)
    return network


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    network = Teacher(TeacherSpec("mobilenetv2_035", local_whitening=True), seed=2).eval()
    torch.nn.init.constant_(network.pool.p, 3.4)
    return network


@pytest.fixture(scope="module")
def whitened_teacher() -> Teacher:
    return Teacher(TeacherSpec("mobilenetv2_035", whitening_dimension=20), seed=3).eval()


def mean_over_scales(network: torch.nn.Module, images: Tensor, scales: Sequence[float], power: float) -> Rows:
    """Image by image, scale by scale, as the published evaluation does it; the size it resized to written out."""
    means = []
    for image in images:
        total = np.zeros(0)
        for scale in scales:
            height, width = int(image.shape[1] * scale), int(image.shape[2] * scale)
            smaller = image[None]
            if scale != 1:
                smaller = functional.interpolate(smaller, (height, width), mode="bilinear", align_corners=False)
            with torch.inference_mode():
                row = network(smaller)[0].double().numpy() ** power
            total = row if not len(total) else total + row
        mean = (total / len(scales)) ** (1 / power)
        means.append(mean / np.linalg.norm(mean))
    return np.stack(means)


@pytest.mark.parametrize("scales", [PUBLISHED_SCALES, (1.0, 0.5), (0.5, 1.3, 0.8, 2.0)])
def test_a_student_takes_the_mean_of_its_gem_power(student: Student, images: Tensor, scales: tuple[float, ...]) -> None:
    with torch.inference_mode():
        rows = MultiScale(student, scales)(images)
    expected = mean_over_scales(student, images, scales, 2.6)
    np.testing.assert_allclose(rows, expected, atol=FLOAT32)
    plain = mean_over_scales(student, images, scales, 1.0)
    assert np.abs(plain - expected).max() > 10 * FLOAT32  # the power can be told


def test_a_teacher_does_too_even_with_a_layer_before_pooling(teacher: Teacher, images: Tensor) -> None:
    with torch.inference_mode():
        rows = MultiScale(teacher, PUBLISHED_SCALES)(images)
    np.testing.assert_allclose(rows, mean_over_scales(teacher, images, PUBLISHED_SCALES, 3.4), atol=FLOAT32)


def test_a_layer_after_pooling_makes_the_mean_plain(whitened_teacher: Teacher, images: Tensor) -> None:
    """Its embeddings are negative in places, where a power has no meaning."""
    with torch.inference_mode():
        assert (whitened_teacher(images) < 0).any()
        rows = MultiScale(whitened_teacher, PUBLISHED_SCALES)(images)
    assert scale_power(whitened_teacher) == 1
    np.testing.assert_allclose(rows, mean_over_scales(whitened_teacher, images, PUBLISHED_SCALES, 1.0), atol=FLOAT32)


def test_scale_one_alone_is_the_network(student: Student, whitened_teacher: Teacher, images: Tensor) -> None:
    for network in (student, whitened_teacher):
        with torch.inference_mode():
            assert torch.equal(MultiScale(network, (1.0,))(images), network(images))


def test_another_scale_alone_is_the_network_on_smaller_images(student: Student, images: Tensor) -> None:
    with torch.inference_mode():
        rows = MultiScale(student, (0.5,))(images)
    np.testing.assert_allclose(rows, mean_over_scales(student, images, (0.5,), 1.0), atol=FLOAT32)


def test_the_order_of_scales_changes_nothing(student: Student, images: Tensor) -> None:
    with torch.inference_mode():
        one, other = (MultiScale(student, scales)(images) for scales in ((1.0, 0.7, 0.5), (0.5, 1.0, 0.7)))
    torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_rows_have_length_one(student: Student, images: Tensor) -> None:
    with torch.inference_mode():
        norms = MultiScale(student, PUBLISHED_SCALES)(images).norm(dim=1)
    torch.testing.assert_close(norms, torch.ones(2), atol=2e-6, rtol=0)  # L2 divides by (norm + 1e-6)


def bilinear(image: Rows, height: int, width: int) -> Rows:
    """Each pixel from the four round its centre; those outside are the nearest inside."""
    result = np.empty((height, width))
    for row in range(height):
        for column in range(width):
            y = max((row + 0.5) * image.shape[0] / height - 0.5, 0)
            x = max((column + 0.5) * image.shape[1] / width - 0.5, 0)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, image.shape[0] - 1), min(left + 1, image.shape[1] - 1)
            above = image[top, left] * (1 - (x - left)) + image[top, right] * (x - left)
            below = image[bottom, left] * (1 - (x - left)) + image[bottom, right] * (x - left)
            result[row, column] = above * (1 - (y - top)) + below * (y - top)
    return result


@pytest.mark.parametrize(
    ("scale", "size"), [(2**-0.5, (4, 7)), (0.5, (3, 5)), (0.9, (6, 9)), (1.5, (10, 15)), (0.01, (1, 1))]
)
def test_an_image_is_resized_to_whole_pixels_rounded_down(scale: float, size: tuple[int, int]) -> None:
    image = torch.randn(1, 1, 7, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    smaller = resized(image, scale)
    assert tuple(smaller.shape) == (1, 1, *size)
    assert max(1, math.floor(7 * scale)) == size[0]
    np.testing.assert_allclose(smaller[0, 0], bilinear(image[0, 0].numpy(), *size), atol=1e-12)


def test_scale_one_leaves_the_image_alone(images: Tensor) -> None:
    assert resized(images, 1.0) is images


def test_what_can_be_no_scale_is_refused(student: Student) -> None:
    with pytest.raises(UsageError, match="they must be numbers above 0"):
        MultiScale(student, (1.0, 0.0))
