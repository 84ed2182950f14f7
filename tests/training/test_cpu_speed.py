"""What makes steps shorter leaves values, gradients and the network as they were."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
import torch
from torch import nn

from aml_edge.networks.backbones import build_backbone
from aml_edge.training.cpu_speed import KERNELS, KERNELS_VARIABLE, without_needless_copies

KEEP = """
import os, resource
from aml_edge.training.cpu_speed import keep_kernels_and_memory
keep_kernels_and_memory()
import torch
import torch.nn.functional as functional
def blocks():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(25_000_000)  # 100 MB, 24414 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
blocks()
print(os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"], blocks())
"""


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenetv3_small_050", "efficientnet_b0", "resnet18"])
def test_values_and_gradients_are_the_same(name: str) -> None:
    trunk = build_backbone(name).trunk.double().eval()
    images = torch.randn(2, 3, 64, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def learned() -> list[torch.Tensor]:
        trunk.zero_grad()
        features = trunk.forward_features(images)
        features.square().sum().backward()
        return [features.detach(), *(weight.grad for weight in trunk.parameters() if weight.grad is not None)]

    expected = learned()
    before = [getattr(module, "inplace", None) for module in trunk.modules()]
    with without_needless_copies(trunk):
        for ours, theirs in zip(learned(), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12 * theirs.abs().max().item())
        kinds = {type(module) for module in trunk.modules() if getattr(module, "inplace", False)}
        assert kinds <= {nn.ReLU, nn.Hardsigmoid}
        squeezes = [module for module in trunk.modules() if "forward" in vars(module)]
    assert [getattr(module, "inplace", None) for module in trunk.modules()] == before
    assert bool(squeezes) is (name in ("mobilenetv3_small_050", "efficientnet_b0"))
    assert not any("forward" in vars(module) for module in trunk.modules())


def test_they_are_in_place_again_after_an_error() -> None:
    network = nn.Sequential(nn.SiLU(inplace=True), nn.SiLU())
    with pytest.raises(KeyError), without_needless_copies(network):
        raise KeyError
    assert [module.inplace for module in network] == [True, False]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")
@pytest.mark.parametrize(("given", "expected"), [({}, KERNELS), ({KERNELS_VARIABLE: "77"}, 77)])
def test_memory_that_was_freed_is_used_again(given: dict[str, str], expected: int) -> None:
    environment = {name: value for name, value in os.environ.items() if name != KERNELS_VARIABLE} | given
    run = subprocess.run([sys.executable, "-c", KEEP], env=environment, capture_output=True, text=True, check=True)
    kernels, faults = map(int, run.stdout.split())
    assert kernels == expected
    assert faults < 20 * 24414 / 100
