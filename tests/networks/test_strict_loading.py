"""Loading weights: everything right, or nothing changed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from aml_edge.errors import CheckpointError
from aml_edge.networks.strict_loading import listed, load_strictly


@pytest.fixture
def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4))


@pytest.fixture
def weights() -> dict[str, Tensor]:
    """Weights that fit, none of them as they were."""
    other = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4))
    other(torch.randn(8, 3, 2, 2))
    return {key: value.clone() for key, value in other.state_dict().items()}


def refusal(network: nn.Module, weights: dict[str, Tensor]) -> str:
    """Returns the message, after checking that the network was left alone."""
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_strictly(network, weights, source="some file")
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    return str(caught.value)


def test_loads_every_weight(network: nn.Module, weights: dict[str, Tensor]) -> None:
    load_strictly(network, weights, source="some file")
    assert network.state_dict().keys() == weights.keys()
    assert all(torch.equal(value, weights[key]) for key, value in network.state_dict().items())
    assert weights["1.num_batches_tracked"].item() == 1


def test_a_counter_may_be_missing_and_becomes_zero(network: nn.Module, weights: dict[str, Tensor]) -> None:
    network(torch.randn(8, 3, 2, 2))
    del weights["1.num_batches_tracked"]
    load_strictly(network, weights, source="some file")
    assert network.state_dict()["1.num_batches_tracked"].item() == 0


def test_missing_and_left_over_keys_are_listed(network: nn.Module, weights: dict[str, Tensor]) -> None:
    weights["2.weight"] = weights.pop("1.weight")
    assert refusal(network, weights) == (
        "some file does not fit the network: missing 1 (1.weight); left over 1 (2.weight)."
    )


def test_no_weights_at_all_are_refused(network: nn.Module) -> None:
    assert refusal(network, {}) == (
        "some file does not fit the network: missing 5 (0.weight, 1.weight, 1.bias, 1.running_mean, 1.running_var); "
        "left over none."
    )


def test_a_wrong_shape_is_named(network: nn.Module, weights: dict[str, Tensor]) -> None:
    weights["0.weight"] = torch.zeros(4, 3, 3, 3)
    assert refusal(network, weights) == (
        "some file does not fit the network: 0.weight is (4, 3, 3, 3), it must be (4, 3, 1, 1)."
    )


def test_whole_numbers_are_no_weights(network: nn.Module, weights: dict[str, Tensor]) -> None:
    weights["1.bias"] = torch.zeros(4, dtype=torch.int64)
    assert refusal(network, weights) == "some file holds 1.bias as torch.int64; it must be torch.float32."


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_values_that_are_not_finite_are_refused(network: nn.Module, weights: dict[str, Tensor], value: float) -> None:
    weights["1.running_var"][2] = value
    assert refusal(network, weights) == "some file holds NaN or Inf in 1.running_var; it cannot be used."


ODD: dict[str, Callable[[], Tensor]] = {
    "meta": lambda: torch.zeros(4, device="meta"),
    "sparse": lambda: torch.zeros(4).to_sparse(),
    "expanded": lambda: torch.zeros(1).expand(4),
    "complex": lambda: torch.zeros(4, dtype=torch.complex64),
    "quantised": lambda: torch.quantize_per_tensor(torch.zeros(4), 1.0, 0, torch.qint8),
}


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_what_is_no_plain_tensor_is_refused(
    network: nn.Module, weights: dict[str, Tensor], make: Callable[[], Tensor]
) -> None:
    weights["1.bias"] = make()
    assert refusal(network, weights) == (
        "some file holds 1.bias as something else than plain numbers; get or save it again."
    )


def test_other_float_types_are_cast(network: nn.Module, weights: dict[str, Tensor]) -> None:
    load_strictly(network, {key: value.double() for key, value in weights.items() if "num" not in key}, source="file")
    assert network.state_dict()["0.weight"].dtype == torch.float32
    assert torch.equal(network.state_dict()["0.weight"], weights["0.weight"])


def test_long_lists_are_cut() -> None:
    assert listed([]) == "none"
    assert listed([f"k{number}" for number in range(8)]) == "8 (k0, k1, k2, k3, k4, k5, …)"
