"""Where a network's sites stand in the ONNX graph that was made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from aml_edge.errors import ExportError
from aml_edge.quantization.graph import Site, SiteGraph, SiteKind

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

KINDS: Mapping[str, SiteKind] = {
    "Conv": SiteKind.CONVOLUTION,
    "Add": SiteKind.ADD,
    "Mul": SiteKind.MULTIPLY,
    "Sigmoid": SiteKind.SIGMOID,
    "ReduceMean": SiteKind.MEAN,
}
FUSED = {"Relu", "Clip"}
MOVING = {"Pad", "MaxPool", "Transpose", "Reshape", "Identity"}
"""They give values that they were given, or zeros."""
WHOLE_MAP = [2, 3]
WEIGHT_TOLERANCE = 1e-4
"""Relative: the exporter multiplies a weight with the ones of a folded batch normalisation."""


@dataclass(frozen=True, eq=False)
class SiteNode:
    """A site and what computes it.

    Args:
        site: of the network.
        node: computes it.
        activation: the ReLU or Clip that is fused into it, or None.
    """

    site: Site
    node: NodeProto
    activation: NodeProto | None

    @property
    def result(self) -> str:
        """The value that the site leaves."""
        return str((self.activation or self.node).output[0])


@dataclass(frozen=True, eq=False)
class SiteNodes:
    """All sites of a network in its ONNX graph.

    Args:
        nodes: one a site, in order.
        activations: value of the ONNX graph → name of the activation that it is, or is before a ReLU.
    """

    nodes: tuple[SiteNode, ...]
    activations: Mapping[str, str]


def match_sites(model: ModelProto, graph: SiteGraph) -> SiteNodes:
    """Returns where each site stands.

    Args:
        model: as PyTorch's exporter made it of `graph.network`.
        graph: with the sites.

    Raises:
        ExportError: the two do not correspond; both sides are named.
    """
    weights = {one.name: one for one in model.graph.initializer}
    takers: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            takers.setdefault(name, []).append(node)
    waiting = iter(graph.sites)
    matched: list[SiteNode] = []
    activations: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type in MOVING and node.input[0] in activations:
            activations[node.output[0]] = activations[node.input[0]]
        elif _is_site(node, weights):
            site = next(waiting, None)
            if site is None:
                _refuse(node, "no site is left")
            _require_same(node, site, graph, weights, activations)
            activation = _fused(node, takers) if site.result != site.operator else None
            one = SiteNode(site, node, activation)
            activations |= {node.output[0]: site.name, one.result: site.name}
            matched.append(one)
    left = next(waiting, None)
    if left is not None:
        raise ExportError(f"the site '{left.name}' ({left.kind}) has no node in the ONNX graph.{NEXT_STEP}")
    return SiteNodes(tuple(matched), activations)


NEXT_STEP = (
    " The integers of one would be given to another, so the file is not written; report it with the versions of torch "
    "and onnxscript, or choose another precision."
)


def _is_site(node: NodeProto, weights: Mapping[str, object]) -> bool:
    """Returns whether a node is one that sites are about: sums and products of activations, means of whole maps."""
    if node.op_type in ("Add", "Mul"):
        return not any(name in weights for name in node.input)
    if node.op_type == "ReduceMean":
        return len(node.input) > 1 and _axes(weights.get(node.input[1])) == WHOLE_MAP
    return node.op_type in KINDS


def _axes(stored: object) -> list[int]:
    from onnx import TensorProto, numpy_helper

    if not isinstance(stored, TensorProto):
        return []
    return [int(axis) % 4 for axis in np.atleast_1d(numpy_helper.to_array(stored))]


def _require_same(
    node: NodeProto, site: Site, graph: SiteGraph, weights: Mapping[str, object], activations: dict[str, str]
) -> None:
    """Refuses a node that is not a site's; adds what the site takes and no site makes to the activations."""
    if KINDS[node.op_type] is not site.kind:
        _refuse(node, f"the site '{site.name}' is a {site.kind}")
    taken = [name for name in node.input if name and name not in weights]
    sites = {one.name for one in graph.sites}
    made_by_none = [name for name in dict.fromkeys(site.inputs) if name not in {*sites, *activations.values()}]
    unknown = [name for name in dict.fromkeys(taken) if name not in activations]
    activations.update(zip(unknown, made_by_none, strict=False))
    found = sorted(activations.get(name, name) for name in taken)
    if found != sorted(site.inputs):
        _refuse(node, f"the site '{site.name}' takes {' and '.join(site.inputs)}, it {' and '.join(found)}")
    if site.kind is SiteKind.CONVOLUTION and not _has_weight(node, graph, site, weights):
        _refuse(node, f"the site '{site.name}' has another weight")


def _has_weight(node: NodeProto, graph: SiteGraph, site: Site, weights: Mapping[str, object]) -> bool:
    from onnx import TensorProto, numpy_helper

    stored = weights.get(node.input[1])
    if not isinstance(stored, TensorProto):
        return False
    theirs, ours = numpy_helper.to_array(stored), graph.state(site.weight).detach().numpy()
    return theirs.shape == ours.shape and bool(np.allclose(theirs, ours, rtol=WEIGHT_TOLERANCE, atol=0))


def _fused(node: NodeProto, takers: Mapping[str, list[NodeProto]]) -> NodeProto | None:
    """Returns the ReLU or Clip that alone takes a node's result; None where the exporter left none."""
    found = takers.get(node.output[0], [])
    return found[0] if len(found) == 1 and found[0].op_type in FUSED else None


def _refuse(node: NodeProto, why: str) -> NoReturn:
    raise ExportError(f"the node '{node.name}' ({node.op_type}) of the ONNX graph meets no site: {why}.{NEXT_STEP}")
