"""What counts as integer in an ONNX graph, on graphs made by onnx itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from onnx import GraphProto, NodeProto, helper, numpy_helper

from aml_edge.formats.onnx_integers import IntegerCounts, count_integers

make = helper.make_node
INT8 = np.ones((4, 3, 1, 1), np.int8)
FLOAT = INT8.astype(np.float32)


def graph_of(nodes: Sequence[NodeProto], weight: npt.NDArray[np.generic]) -> GraphProto:
    return helper.make_graph(nodes, "graph", [], [], [numpy_helper.from_array(weight, "stored")])


def widened(weight: str = "weight") -> NodeProto:
    return make("DequantizeLinear", ["stored", "scale", "zero"], [weight])


TAKEN = make("DequantizeLinear", ["integers", "s", "z"], ["x"])
GIVEN = make("QuantizeLinear", ["y", "s", "z"], ["more"])
CONVOLUTION = make("Conv", ["x", "weight", "bias"], ["y"])


@pytest.mark.parametrize("fused", [[], [make("Relu", ["y"], ["r"]), make("QuantizeLinear", ["r", "s", "z"], ["more"])]])
def test_between_widening_and_narrowing_it_is_integer(fused: list[NodeProto]) -> None:
    graph = graph_of([TAKEN, widened(), widened("bias"), CONVOLUTION, *(fused or [GIVEN])], INT8)
    counts = count_integers([graph])
    assert (counts.operators, counts.integer, counts.weight_only) == ({"Conv": 1}, 1, 0)


NOT_INTEGER = {
    "its result is taken in floats": ([TAKEN, widened(), CONVOLUTION, GIVEN, make("Exp", ["y"], ["e"])], INT8),
    "its result is not taken": ([TAKEN, widened(), CONVOLUTION], INT8),
    "it takes floats": ([widened(), CONVOLUTION, GIVEN], INT8),
    "two take what its ReLU gives": (
        [TAKEN, widened(), CONVOLUTION, make("Relu", ["y"], ["r"]), make("Exp", ["r"], ["e"])],
        INT8,
    ),
}


@pytest.mark.parametrize(("nodes", "weight"), NOT_INTEGER.values(), ids=NOT_INTEGER)
def test_else_only_its_weight_is(nodes: list[NodeProto], weight: npt.NDArray[np.generic]) -> None:
    counts = count_integers([graph_of(nodes, weight)])
    assert counts == IntegerCounts({}, 0, 0, 1, ())


def test_a_weight_may_be_widened_by_a_cast_and_a_product() -> None:
    cast, product = make("Cast", ["stored"], ["c"], to=1), make("Mul", ["c", "scale"], ["weight"])
    assert count_integers([graph_of([cast, product, CONVOLUTION], INT8)]) == IntegerCounts({}, 0, 0, 1, ())
    assert count_integers([graph_of([cast, product, CONVOLUTION], FLOAT)]) == IntegerCounts({}, 0, 0, 0, (0,))


@pytest.mark.parametrize("weight", [FLOAT, INT8.astype(np.int16)])
def test_a_weight_of_more_bits_is_none(weight: npt.NDArray[np.generic]) -> None:
    counts = count_integers([graph_of([TAKEN, widened(), CONVOLUTION, GIVEN], weight)])
    assert (counts.integer, counts.weight_only, counts.float_weights) == (0, 0, (0,))


def test_a_float_convolution_says_how_many_weights_it_has() -> None:
    nodes = [make("Conv", ["x", "stored"], ["y"]), make("Conv", ["y", "elsewhere"], ["z"]), make("Conv", [], ["w"])]
    assert count_integers([graph_of(nodes, FLOAT)]) == IntegerCounts({}, 0, 0, 0, (12, 0, 0))


def test_operators_that_are_integer_by_themselves() -> None:
    nodes = [
        make("QLinearConv", ["a"], ["b"]),
        make("QLinearAdd", ["b"], ["c"]),
        make("DynamicQuantizeLinear", ["c"], ["d", "e", "f"]),
        make("ConvInteger", ["d", "stored", "f"], ["g"]),
    ]
    counts = count_integers([graph_of(nodes, INT8)])
    assert counts == IntegerCounts({"QLinearConv": 1, "QLinearAdd": 1, "ConvInteger": 1}, 1, 1, 0, ())


def test_sums_and_products_of_what_is_widened() -> None:
    other = make("DequantizeLinear", ["others", "s", "z"], ["x2"])
    add, add_float = make("Add", ["x", "x2"], ["y"]), make("Add", ["x", "floats"], ["y"])
    assert count_integers([graph_of([TAKEN, other, add, GIVEN], INT8)]).operators == {"Add": 1}
    assert count_integers([graph_of([TAKEN, other, add_float, GIVEN], INT8)]).operators == {}


def test_graphs_and_functions_are_added_up() -> None:
    body = [make("QLinearConv", ["a"], ["b"]), make("Conv", ["a"], ["c"])]
    function = helper.make_function("ours", "f", ["a"], ["b"], body, [helper.make_opsetid("", 20)])
    counts = count_integers([graph_of([make("Conv", ["x", "stored"], ["y"])], FLOAT), function])
    assert counts == IntegerCounts({"QLinearConv": 1}, 1, 0, 0, (12, 0))


def test_damaged_names_are_no_operators_of_ours() -> None:
    """What is no UTF-8 comes out of protobuf as bytes."""
    content = graph_of(
        [make("Conv", ["x", "stored"], ["y"]), make("QLinearConv", ["a"], ["b"])], FLOAT
    ).SerializeToString()
    damaged = GraphProto.FromString(content.replace(b"QLinearConv", b"QLinearCon\xff"))
    assert count_integers([damaged]).float_weights == (12,)
