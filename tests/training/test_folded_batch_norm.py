"""Folded normalisations change nothing but the time: features, gradients and state are the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from aml_edge.networks.backbones import build_backbone
from aml_edge.networks.frozen_batch_norm import freeze_batch_norm
from aml_edge.training.folded_batch_norm import folded_batch_norm


def lively(name: str) -> nn.Module:
    """Returns a trunk in float64, training but for its statistics, which are those of no identity."""
    trunk: nn.Module = build_backbone(name).trunk.double().train()
    generator = torch.Generator().manual_seed(0)
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(module.bias, 0, 0.1, generator=generator)
    freeze_batch_norm(trunk)
    return trunk


def learned(trunk: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Returns the features, and the gradient of each weight for a fixed mixture of them."""
    trunk.zero_grad()
    features = trunk.forward_features(images)  # type: ignore[operator]  # timm's method
    (features * torch.linspace(-1, 1, features.numel(), dtype=features.dtype).reshape(features.shape)).sum().backward()
    return features.detach(), {
        name: weight.grad for name, weight in trunk.named_parameters() if weight.grad is not None
    }


@pytest.mark.parametrize(
    ("name", "pairs"), [("mobilenetv2_035", 52), ("efficientnet_lite0", 49), ("resnet18", 20), ("vgg11_bn", 8)]
)
def test_features_and_gradients_are_the_same(name: str, pairs: int) -> None:
    trunk = lively(name)
    images = torch.randn(2, 3, 64, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected, gradients = learned(trunk, images)
    with folded_batch_norm(trunk) as found:
        assert found == pairs == sum(isinstance(module, nn.BatchNorm2d) for module in trunk.modules())
        folded, of_folded = learned(trunk, images)
    torch.testing.assert_close(folded, expected, rtol=1e-9, atol=1e-11)
    assert of_folded.keys() == gradients.keys()
    for weight, gradient in gradients.items():
        torch.testing.assert_close(of_folded[weight], gradient, rtol=1e-7, atol=1e-9 * gradient.abs().max().item())


def test_the_trunk_is_as_it_was_afterwards() -> None:
    trunk = lively("mobilenetv2_035")
    state = {name: value.clone() for name, value in trunk.state_dict().items()}
    images = torch.randn(1, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = learned(trunk, images)[0]
    with pytest.raises(KeyboardInterrupt), folded_batch_norm(trunk):
        assert trunk.state_dict().keys() == state.keys()
        raise KeyboardInterrupt
    assert not any("forward" in vars(module) for module in trunk.modules())
    assert all(torch.equal(value, state[name]) for name, value in trunk.state_dict().items())
    assert torch.equal(learned(trunk, images)[0], expected)


def test_weights_that_change_are_folded_anew() -> None:
    trunk = lively("mobilenetv2_035")
    images = torch.randn(1, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with folded_batch_norm(trunk):
        before = learned(trunk, images)[0]
        with torch.no_grad():
            for weight in trunk.parameters():
                weight.mul_(1.1)
        after = learned(trunk, images)[0]
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, learned(trunk, images)[0], rtol=1e-9, atol=1e-11)


def test_statistics_that_follow_the_batches_are_left_alone() -> None:
    trunk = build_backbone("mobilenetv2_035").trunk.train()
    with folded_batch_norm(trunk) as found:
        assert found == 0


def test_a_convolution_that_something_else_takes_too_is_left_alone() -> None:
    class Forked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution, self.normalisation = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4).eval()
            self.other = nn.ReLU()

        def forward_features(self, images: torch.Tensor) -> torch.Tensor:
            features = self.convolution(images)
            normalised: torch.Tensor = self.normalisation(features) + self.other(features)
            return normalised

    with folded_batch_norm(Forked()) as found:
        assert found == 0
