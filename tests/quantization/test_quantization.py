"""Which blocks compute in integers, and the record of it."""

from __future__ import annotations

import json

import pytest

from aml_edge.errors import QuantizationError
from aml_edge.quantization.graph import HEAD
from aml_edge.quantization.post_training import QuantizedStudent
from aml_edge.quantization.quantization import Quantization
from aml_edge.quantization.tensors import TensorQuantization


def test_integer_sites_are_those_of_all_other_blocks(quantized: QuantizedStudent) -> None:
    graph = quantized.graph
    floating = {HEAD, "conv_stem", "blocks.3.1"}

    sites = quantized.quantization.with_float(floating).integer_sites(graph)

    assert [site.name for site in sites] == [site.name for site in graph.sites if site.block not in floating]
    assert quantized.quantization.float_blocks == {HEAD, "conv_stem"}  # left as it was


def test_refuses_a_block_that_the_network_has_not(quantized: QuantizedStudent) -> None:
    asked = quantized.quantization.with_float({"blocks.1.0", "layer9"})

    with pytest.raises(
        QuantizationError,
        match=r"^`float_blocks` has layer9, which the network has not; it has conv_stem, blocks\.0\.0",
    ):
        asked.integer_sites(quantized.graph)


def test_refuses_an_activation_of_which_nothing_is_known(quantized: QuantizedStudent) -> None:
    known = dict(quantized.quantization.activations)
    del known["blocks.1.1:add"]

    with pytest.raises(
        QuantizationError, match=r"^nothing says how the activation 'blocks\.1\.1:add' is stored; calibrate the network"
    ):
        Quantization(known).integer_sites(quantized.graph)


def test_record_comes_back_through_json(quantized: QuantizedStudent) -> None:
    record = json.loads(json.dumps(quantized.quantization.to_json()))

    assert Quantization.from_json(record) == quantized.quantization


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (None, r"^None is no quantization: it needs `activations` and `float_blocks`; quantize the student again\.$"),
        ([1], "is no quantization"),
        ({}, "is no quantization"),
        ({"activations": [], "float_blocks": []}, "is no quantization"),
        ({"activations": {}, "float_blocks": {}}, "is no quantization"),
        (
            {"activations": {}, "float_blocks": [1]},
            r"^`float_blocks` is \[1\]; it is a list of names of blocks",
        ),
        ({"activations": {}, "float_blocks": [[]]}, "is a list of names"),
        ({"activations": {"input": None}, "float_blocks": []}, r"^None does not say how a tensor is stored"),
    ],
)
def test_refuses_a_record_of_something_else(record: object, message: str) -> None:
    with pytest.raises(QuantizationError, match=message):
        Quantization.from_json(record)


def test_message_of_a_hostile_record_is_short_and_printable() -> None:
    with pytest.raises(QuantizationError) as raised:
        Quantization.from_json({"activations": ["\x1b[2J" * 1000] * 1000, "float_blocks": None})

    assert len(str(raised.value)) < 400
    assert "\x1b" not in str(raised.value)


def test_head_stays_in_floating_point_unless_said_otherwise() -> None:
    assert Quantization({"input": TensorQuantization(0.1, 0)}).float_blocks == {HEAD}
