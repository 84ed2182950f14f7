"""The student against its definition, layer by layer in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aml_edge.errors import UsageError
from aml_edge.networks.student import Student, StudentSpec


@pytest.fixture(scope="module")
def student() -> Student:
    student = Student(StudentSpec("mobilenetv2_035", 24)).eval()
    with torch.no_grad():
        student.pool.p.fill_(2.5)
    return student


def test_is_backbone_adaptor_relu_gem_and_l2(student: Student) -> None:
    images = torch.randn(3, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        features = student.backbone(images).double().numpy()
        embeddings = student(images).numpy()
    weights = student.adaptor.weight.detach().double().numpy()[:, :, 0, 0]
    activations = np.maximum(np.einsum("dc,bchw->bdhw", weights, features), 0)  # d, c: dimensions, channels
    assert (activations == 0).any()
    pooled = (np.maximum(activations, 1e-6) ** 2.5).mean(axis=(2, 3)) ** (1 / 2.5)
    expected = pooled / (np.linalg.norm(pooled, axis=1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(embeddings, expected, atol=1e-5)


def test_features_are_what_gem_pools(student: Student) -> None:
    with torch.inference_mode():
        features = student.features(torch.randn(1, 3, 64, 96))
    assert features.shape == (1, 24, 2, 3)
    assert features.min() == 0


@pytest.mark.parametrize("size", [(32, 32), (47, 131), (128, 64)])
def test_takes_images_of_any_size(student: Student, size: tuple[int, int]) -> None:
    with torch.inference_mode():
        embeddings = student(torch.randn(2, 3, *size))
    assert embeddings.shape == (2, 24)
    assert embeddings.norm(dim=1).tolist() == pytest.approx([1, 1], abs=1e-3)


def test_the_adaptor_is_a_bias_free_convolution_of_one_by_one(student: Student) -> None:
    assert student.adaptor.weight.shape == (24, 1280, 1, 1)
    assert student.adaptor.bias is None


def test_the_power_starts_at_three() -> None:
    assert Student(StudentSpec("mobilenetv2_035", 4)).pool.p.tolist() == [3.0]


def test_the_seed_decides_all_weights() -> None:
    students = [Student(StudentSpec("mobilenetv2_035", 4), seed=seed) for seed in (0, 0, 1)]
    states = [student.state_dict() for student in students]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert not torch.equal(states[0]["adaptor.weight"], states[2]["adaptor.weight"])


def test_every_weight_learns() -> None:
    student = Student(StudentSpec("mobilenetv2_035", 4))
    student(torch.randn(2, 3, 64, 64)).sum().backward()
    assert [name for name, weight in student.named_parameters() if weight.grad is None] == []


def test_no_dimension_is_refused() -> None:
    with pytest.raises(UsageError, match="`dimension` is 0; an embedding has at least one value"):
        StudentSpec("mobilenetv2_035", 0)


def test_an_unknown_backbone_is_refused() -> None:
    with pytest.raises(UsageError, match="`backbone` is 'mobilenet_v7'"):
        Student(StudentSpec("mobilenet_v7", 4))
