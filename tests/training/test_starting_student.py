"""The student that a training starts from."""

from __future__ import annotations

import pytest
import torch

from aml_edge.errors import UsageError
from aml_edge.networks.imagenet import imagenet_classifier
from aml_edge.preprocessing import IMAGENET_MEAN, Fit
from aml_edge.space import EmbeddingSpace
from aml_edge.training.starting_student import starting_student

SPACE = EmbeddingSpace("toy", "0" * 64, 24)


def test_has_the_dimension_and_claims_the_space_of_the_teacher() -> None:
    start = starting_student("mobilenetv2_035", SPACE, image_side_px=96)
    assert start.space == SPACE
    assert start.student.spec.dimension == 24
    assert start.student.adaptor.weight.shape == (24, 1280, 1, 1)
    assert start.preprocessing.image_side_px == 96
    assert start.preprocessing.fit is Fit.NATIVE
    assert start.name == "mobilenetv2_035-untrained"
    assert not start.trained
    assert not start.student.training


def test_the_trunk_has_imagenet_weights_where_they_are_asked_for() -> None:
    start = starting_student("imagenet:efficientnet_lite0", SPACE, image_side_px=96)
    stem = imagenet_classifier("efficientnet_lite0").conv_stem.weight
    assert torch.equal(start.student.backbone.trunk.conv_stem.weight, stem)
    assert start.student.spec.backbone == "efficientnet_lite0"
    assert start.preprocessing.mean == (0.5, 0.5, 0.5)
    assert not start.student.training


def test_another_backbone_has_random_weights_and_its_own_normalisation() -> None:
    start = starting_student("mobilenet_v2", SPACE, image_side_px=96)
    assert start.preprocessing.mean == IMAGENET_MEAN


def test_the_seed_decides_the_weights() -> None:
    weights = [
        starting_student("mobilenetv2_035", SPACE, image_side_px=96, seed=seed).weights_sha256 for seed in (0, 0, 1)
    ]
    assert weights[0] == weights[1] != weights[2]


def test_a_backbone_without_imagenet_weights_is_refused() -> None:
    with pytest.raises(UsageError, match="ImageNet weights are known for efficientnet_lite0, efficientnet_lite2"):
        starting_student("imagenet:resnet101", SPACE, image_side_px=96)


def test_an_unknown_backbone_is_refused() -> None:
    with pytest.raises(UsageError, match="`backbone` is 'resnet1001'"):
        starting_student("resnet1001", SPACE, image_side_px=96)
