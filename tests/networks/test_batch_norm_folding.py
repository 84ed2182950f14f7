"""Folding changes where numbers stand, not what comes out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from aml_edge.networks.batch_norm_folding import fold_batch_norms


class Small(nn.Module):
    """Two convolutions with batch normalisation, one that stands alone, and an adaptor without."""

    def __init__(self, *, bias: bool, affine: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, bias=bias)
        self.first_norm = nn.BatchNorm2d(8, affine=affine)
        self.second = nn.Conv2d(8, 8, 3, groups=8, bias=bias)
        self.second_norm = nn.BatchNorm2d(8, affine=affine)
        self.lonely_norm = nn.BatchNorm2d(8)
        self.adaptor = nn.Conv2d(8, 4, 1, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        middle = self.first_norm(self.first(image)).relu()
        rows: Tensor = self.adaptor(self.lonely_norm(self.second_norm(self.second(middle)).relu()))
        return rows


def small(*, bias: bool, affine: bool) -> Small:
    torch.manual_seed(0)
    network = Small(bias=bias, affine=affine)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.2, 3.0)
            if module.affine:
                nn.init.uniform_(module.weight, -2.0, 2.0)
                nn.init.normal_(module.bias)
    return network.eval()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_output_stays(bias: bool, affine: bool) -> None:
    network = small(bias=bias, affine=affine)
    image = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        folded = fold_batch_norms(network, image)
        assert torch.allclose(folded(image), network(image), atol=1e-5)


def test_normalisations_after_a_convolution_become_identities() -> None:
    folded = fold_batch_norms(small(bias=False, affine=True), torch.randn(1, 3, 12, 12))
    probe = torch.randn(1, 8, 4, 4)
    with torch.no_grad():
        assert torch.equal(folded.first_norm(probe), probe)
        assert torch.equal(folded.second_norm(probe), probe)
        assert not torch.allclose(folded.lonely_norm(probe), probe, atol=0.1)


def test_the_network_given_is_left_alone() -> None:
    network = small(bias=False, affine=True)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fold_batch_norms(network, torch.randn(1, 3, 12, 12))
    assert network.first.bias is None
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
