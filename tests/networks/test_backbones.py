"""Backbones: the feature map, the names, the seeds."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from aml_edge.errors import UsageError
from aml_edge.networks.backbones import BACKBONES, FeatureMap, backbone_spec, build_backbone
from aml_edge.networks.torchvision_guard import import_timm
from aml_edge.preprocessing import IMAGENET_MEAN, IMAGENET_STD

CHANNELS_AND_STRIDE = {
    "efficientnet_b3": (1536, 32),
    "mobilenet_v2": (1280, 32),
    "efficientnet_lite0": (1280, 32),
    "efficientnet_lite2": (1280, 32),
    "resnet101": (2048, 32),
    "vgg16": (512, 16),
}
"""As published of each architecture, cut after its last activation."""


def test_the_named_ones_are_those_that_are_promised() -> None:
    assert BACKBONES.keys() == CHANNELS_AND_STRIDE.keys()


@pytest.mark.parametrize(("name", "shape"), CHANNELS_AND_STRIDE.items())
def test_gives_a_feature_map_after_the_last_activation(name: str, shape: tuple[int, int]) -> None:
    channels, stride = shape
    backbone = build_backbone(name).eval()
    with torch.inference_mode():
        features = backbone(torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0)))
    assert backbone.channels == channels
    assert features.shape == (1, channels, 64 // stride, 96 // stride)
    least = -0.2785 if name == "efficientnet_b3" else 0.0  # the least value of SiLU; the others end in ReLU
    assert least <= features.min() < 1e-3


def test_features_are_timms_own() -> None:
    backbone = build_backbone("mobilenetv2_035", seed=3).eval()
    timm = import_timm()
    network = timm.create_model("mobilenetv2_035", pretrained=False, num_classes=0, global_pool="").eval()
    network.load_state_dict(backbone.trunk.state_dict())
    images = torch.randn(2, 3, 50, 70)
    with torch.inference_mode():
        torch.testing.assert_close(backbone(images), network(images))


def test_any_architecture_of_timm_that_gives_a_map() -> None:
    backbone = build_backbone("resnet18").eval()
    with torch.inference_mode():
        assert backbone(torch.zeros(1, 3, 64, 64)).shape == (1, 512, 2, 2)


@pytest.mark.parametrize("name", ["mobilenetv2_035", "vgg11", "resnet18"])
def test_holds_no_weight_that_the_map_does_not_need(name: str) -> None:
    backbone = build_backbone(name)
    backbone(torch.randn(2, 3, 64, 64)).sum().backward()
    assert [name for name, weight in backbone.named_parameters() if weight.grad is None] == []


def test_the_seed_decides_the_weights_and_nothing_else_changes() -> None:
    torch.manual_seed(5)
    expected_draw = torch.rand(3)
    torch.manual_seed(5)
    first, second, third = (build_backbone("mobilenetv2_035", seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected_draw)
    weights = [backbone.trunk.conv_stem.weight for backbone in (first, second, third)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_probing_leaves_the_statistics_and_the_mode_alone() -> None:
    backbone = build_backbone("mobilenetv2_035")
    norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    assert backbone.training and backbone.trunk.training
    assert {int(norm.num_batches_tracked) for norm in norms if norm.num_batches_tracked is not None} == {0}
    assert not any(module._forward_pre_hooks for module in backbone.modules())


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("efficientnet_b3", IMAGENET_MEAN, IMAGENET_STD),
        ("resnet101", IMAGENET_MEAN, IMAGENET_STD),
        ("efficientnet_lite0", (0.5,) * 3, (0.5,) * 3),
        ("tf_efficientnet_lite0", (0.5,) * 3, (0.5,) * 3),
        ("mobilenetv3_small_050", IMAGENET_MEAN, IMAGENET_STD),
        ("test_resnet", (0.5,) * 3, (0.5,) * 3),
    ],
)
def test_knows_the_normalisation_of_the_weights(
    name: str, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> None:
    spec = backbone_spec(name)
    assert spec.mean == pytest.approx(mean)
    assert spec.std == pytest.approx(std)


def test_a_name_here_wins_over_the_same_one_in_timm() -> None:
    assert backbone_spec("efficientnet_b3").timm_name == "tf_efficientnet_b3"
    assert "efficientnet_b3" in import_timm().list_models()


def test_an_unknown_name_is_refused_with_those_that_come_near() -> None:
    with pytest.raises(UsageError) as caught:
        build_backbone("efficientnet_lite9")
    assert str(caught.value).startswith(
        "`backbone` is 'efficientnet_lite9'; it must be a named backbone or an architecture of timm: did you mean "
    )
    suggested = str(caught.value).partition("did you mean ")[2].rstrip("?").split(" or ")
    assert suggested
    assert all(name.removesuffix(name[-1]) == "efficientnet_lite" for name in suggested)


def test_a_name_like_no_other_is_refused_with_the_named_ones() -> None:
    with pytest.raises(UsageError) as caught:
        build_backbone("§")
    assert str(caught.value).endswith(
        "named ones are efficientnet_b3, mobilenet_v2, efficientnet_lite0, efficientnet_lite2, resnet101, vgg16."
    )


def test_a_transformer_of_one_size_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        build_backbone("vit_tiny_patch16_224")
    assert str(caught.value) == (
        "`backbone` is 'vit_tiny_patch16_224', which takes images of one size only; choose a convolutional one."
    )


def test_a_network_without_a_feature_map_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Rows(nn.Module):
        pretrained_cfg = None
        num_features = 4

        def forward_features(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((2, 3))

    monkeypatch.setattr(import_timm(), "create_model", lambda *_, **__: Rows())
    with pytest.raises(UsageError) as caught:
        build_backbone("resnet18")
    assert str(caught.value) == (
        "`backbone` is 'resnet18', which gives (1, 3) and no feature map (B, C, h, w); choose a convolutional one."
    )


def test_wraps_any_module_with_features() -> None:
    class Doubling(nn.Module):
        def forward_features(self, images: torch.Tensor) -> torch.Tensor:
            return 2 * images

    assert FeatureMap(Doubling(), 3)(torch.ones(1, 3, 2, 2)).tolist() == [[[[2, 2], [2, 2]]] * 3]
