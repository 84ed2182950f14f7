"""`continuation_of`: a network from a block on, so that what comes before it is computed once for all blocks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from torch import fx

from aml_edge.quantization.aten_graph import aten
from aml_edge.quantization.fake_quantized import FakeQuantizedNetwork
from aml_edge.quantization.graph import SiteGraph
from aml_edge.quantization.post_training import QuantizedStudent


@dataclass(frozen=True, eq=False)
class Continuation:
    """A network from an activation on.

    Args:
        activation: the one that it takes, by its name; None where it takes the images, as the whole network does.
        network: (B, …) of that activation → (B, D).
    """

    activation: str | None
    network: FakeQuantizedNetwork


def continuation_of(whole: QuantizedStudent, block: str, in_float: SiteGraph) -> Continuation:
    """Returns a network with one block in integers, from that block on.

    It starts earlier where more than one activation leads into the block.

    Args:
        whole: the network with all blocks prepared for integers; how one is prepared does not depend on the others.
        block: the one in integers.
        in_float: the network in floating point, whose weights the other blocks have; none is copied.
    """
    nodes: list[Any] = list(whole.graph.module.graph.nodes)
    own = {name for site in whole.graph.sites if site.block == block for name in (site.weight, site.bias)}
    start, entrance = _start(whole.graph, nodes, block)
    rest = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {} if entrance is None else {entrance: rest.placeholder(entrance.name)}
    needed = {taken for node in nodes[start:] for taken in node.all_input_nodes}
    for place, node in enumerate(nodes):
        if node.op == "output":
            rest.output(copies[node.all_input_nodes[0]])
        elif node.op == "call_module":
            assert not node.users  # it checks the shape of the image
        elif place >= start or (node in needed and node.op == "get_attr"):
            copies[node] = rest.node_copy(node, lambda taken: copies[taken])
        elif node in needed and node.target is aten.sym_size.int:  # the number of images, which is the activation's too
            copies[node] = rest.call_function(node.target, (copies[entrance], 0))
    weights: dict[str, Any] = {
        str(node.target): (whole.graph if str(node.target) in own else in_float).state(str(node.target))
        for node in copies
        if node.op == "get_attr"
    }
    network = _network(whole, block, fx.GraphModule(weights, rest))
    return Continuation(None if entrance is None else whole.graph.activations[entrance.name], network)


def _network(whole: QuantizedStudent, block: str, module: fx.GraphModule) -> FakeQuantizedNetwork:
    nodes: Iterable[fx.Node] = module.graph.nodes
    names = {node.name for node in nodes}
    graph = replace(
        whole.graph,
        module=module,
        sites=tuple(site for site in whole.graph.sites if site.operator in names),
        activations={node: name for node, name in whole.graph.activations.items() if node in names},
        moved={node: name for node, name in whole.graph.moved.items() if node in names},
    )
    return FakeQuantizedNetwork(graph, whole.quantization.with_float(set(graph.blocks) - {block}))


def _start(graph: SiteGraph, nodes: list[Any], block: str) -> tuple[int, Any]:
    """Returns the first place of the rest, and the one activation that leads into it; None where there is none."""
    places = {node: place for place, node in enumerate(nodes)}
    first = next(site.operator for site in graph.sites if site.block == block)
    start = next(place for place, node in enumerate(nodes) if node.name == first)
    while start > 0:
        before = {taken for node in nodes[start:] for taken in node.all_input_nodes if places[taken] < start}
        leading = [node for node in before if node.op != "get_attr" and node.target is not aten.sym_size.int]
        if len(leading) == 1 and leading[0].name in graph.activations:
            return start, leading[0]
        start -= 1
    return 0, None
