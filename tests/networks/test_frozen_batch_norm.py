"""Frozen statistics: what stays, what still learns."""

from __future__ import annotations

import torch
from torch import nn

from aml_edge.networks.backbones import build_backbone
from aml_edge.networks.frozen_batch_norm import freeze_batch_norm


def test_statistics_stay_while_scale_and_shift_learn() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    freeze_batch_norm(network)
    norm = network[1]
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
    network(torch.randn(8, 3, 5, 5) * 9 + 4).sum().backward()
    assert norm.running_mean.tolist() == [0.0] * 4
    assert norm.running_var.tolist() == [1.0] * 4
    assert norm.weight.grad is not None and norm.weight.grad.abs().min() > 0
    assert norm.bias.grad is not None


def test_only_batch_norms_change_their_mode() -> None:
    network = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm2d(3), nn.BatchNorm3d(3), nn.LayerNorm(3), nn.Dropout())
    freeze_batch_norm(network.train())
    assert [module.training for module in network] == [False, False, False, True, True]
    assert network.training


def test_finds_the_batch_norms_of_timm() -> None:
    backbone = build_backbone("mobilenetv2_035").train()
    freeze_batch_norm(backbone)
    before = {name: value.clone() for name, value in backbone.named_buffers()}
    assert len(before) > 100
    with torch.no_grad():
        backbone(torch.randn(2, 3, 32, 32))
    assert all(torch.equal(value, before[name]) for name, value in backbone.named_buffers())


def test_training_mode_undoes_it() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3))
    freeze_batch_norm(network)
    assert all(module.training for module in network.train().modules())


def test_those_that_learn_can_be_left_out() -> None:
    frozen, plain, learning = nn.BatchNorm2d(3), nn.BatchNorm2d(3, affine=False), nn.BatchNorm2d(3)
    frozen.requires_grad_(False)
    network = nn.Sequential(frozen, plain, learning).train()
    freeze_batch_norm(network, only_without_gradient=True)
    assert [module.training for module in network] == [False, False, True]
    network(torch.randn(8, 3, 5, 5, generator=torch.Generator().manual_seed(0)) * 9 + 4)
    for norm in (frozen, plain):
        assert norm.running_mean is not None and norm.running_mean.tolist() == [0.0] * 3
    assert learning.running_mean is not None and learning.running_mean.abs().min() > 0
    freeze_batch_norm(network)
    assert not learning.training
