"""Trunks cut where their frozen stages end: the parts make up the whole, or nothing is cut."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from aml_edge.networks.backbones import FeatureMap, build_backbone
from aml_edge.training.frozen_front import split_backbone
from aml_edge.training.optimisation import freeze_stages

STAGES = {"mobilenetv2_035": 8, "efficientnet_lite0": 8, "resnet18": 5}
"""The stem and seven stages of blocks; the stem and four layers."""


@pytest.mark.parametrize("name", STAGES)
def test_the_front_holds_what_is_frozen_and_the_back_what_learns(name: str) -> None:
    for stages in range(1, STAGES[name]):
        backbone = build_backbone(name).eval()
        freeze_stages(backbone, stages)
        split = split_backbone(backbone, stages)
        assert split is not None
        assert not any(weight.requires_grad for weight in split.front.parameters())
        assert all(weight.requires_grad for weight in split.back.parameters())
        ours = {id(weight) for part in (split.front, split.back) for weight in part.parameters()}
        assert ours == {id(weight) for weight in backbone.parameters()}


@pytest.mark.parametrize("name", STAGES)
def test_front_and_back_make_up_the_whole(name: str) -> None:
    backbone = build_backbone(name).eval()
    split = split_backbone(backbone, 3)
    images = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    assert split is not None
    with torch.no_grad():
        assert torch.equal(split.back(split.front(images)), backbone(images))


@pytest.mark.parametrize("stages", [0, 8])
def test_nothing_is_cut_where_nothing_or_everything_is_frozen(stages: int) -> None:
    assert split_backbone(build_backbone("mobilenetv2_035").eval(), stages) is None


def test_a_trunk_of_another_kind_is_not_cut() -> None:
    assert split_backbone(build_backbone("vgg11").eval(), 2) is None


def test_a_trunk_that_does_more_than_its_stages_is_not_cut() -> None:
    class Doubling(nn.Module):
        """Has the stages of an EfficientNet and doubles what they give."""

        def __init__(self) -> None:
            super().__init__()
            self.trunk = build_backbone("mobilenetv2_035").trunk
            for name, child in self.trunk.named_children():
                self.add_module(name, child)

        def forward_features(self, images: torch.Tensor) -> torch.Tensor:
            """Returns twice the feature map."""
            features: torch.Tensor = 2 * self.trunk.forward_features(images)
            return features

    assert split_backbone(FeatureMap(Doubling().eval(), 1280), 3) is None
