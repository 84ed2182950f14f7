"""`continuation_of`: the rest of a network from a block on, so that what comes before it is computed once for all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, fx

from aml_edge.quantization.aten_graph import aten
from aml_edge.quantization.fake_quantized import FakeQuantizedNetwork
from aml_edge.quantization.graph import SiteGraph
from aml_edge.quantization.quantization import Quantization


@dataclass(frozen=True, eq=False)
class Continuation:
    """A network from an activation on.

    Args:
        activation: the one that it takes, by its name; None where it takes the images, as the whole network does.
        network: (B, …) of that activation → (B, D).
    """

    activation: str | None
    network: FakeQuantizedNetwork


def continuation_of(graph: SiteGraph, quantization: Quantization, block: str, shared: SiteGraph) -> Continuation:
    """Returns a network from a block on, or from an earlier place where one activation alone leads on.

    Args:
        graph: the network.
        quantization: of it, or of its other blocks too.
        block: the only one whose weights are taken from `graph`.
        shared: the same network in floating point, whose weights all other blocks have; none is copied.
    """
    nodes: list[Any] = list(graph.module.graph.nodes)
    own = {name for site in graph.sites if site.block == block for name in (site.weight, site.bias)}
    start, entrance = _start(graph, nodes, block)
    if entrance is None:
        return Continuation(None, FakeQuantizedNetwork(graph, quantization))
    rest = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {entrance: rest.placeholder(entrance.name)}
    needed = {taken for node in nodes[start:] for taken in node.all_input_nodes}
    for place, node in enumerate(nodes):
        if place >= start and node.op == "output":
            rest.output(copies[node.all_input_nodes[0]])
        elif place >= start or (node in needed and node.op == "get_attr"):
            copies[node] = rest.node_copy(node, lambda taken: copies[taken])
        elif node in needed and node.target is aten.sym_size.int:  # the number of images, which is the activation's too
            copies[node] = rest.call_function(node.target, (copies[entrance], 0))
    weights: Mapping[str, Tensor] = {
        str(node.target): (graph if str(node.target) in own else shared).state(str(node.target))
        for node in copies
        if node.op == "get_attr"
    }
    return _continuation(graph, quantization, fx.GraphModule(dict(weights), rest), entrance.name)


def _continuation(graph: SiteGraph, quantization: Quantization, module: fx.GraphModule, entrance: str) -> Continuation:
    nodes: Iterable[fx.Node] = module.graph.nodes
    names = {node.name for node in nodes}
    left = replace(
        graph,
        module=module,
        sites=tuple(site for site in graph.sites if site.operator in names),
        activations={node: name for node, name in graph.activations.items() if node in names},
        moved={node: name for node, name in graph.moved.items() if node in names},
    )
    float_blocks = quantization.float_blocks.intersection(left.blocks)
    network = FakeQuantizedNetwork(left, quantization.with_float(float_blocks))
    return Continuation(graph.activations[entrance], network)


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
