"""A deployable student as a graph of ATen operators: batch norms folded, nothing in place, SiLU taken apart."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import fx, nn

from aml_edge.networks.deployable import DeployableStudent

MOST_IMAGES = 64
"""In one run of a graph."""

aten = torch.ops.aten


def with_folded_batch_norms(network: DeployableStudent, image_side_px: int) -> DeployableStudent:
    """Returns a copy whose batch normalisations are folded and whose convolutions all have a bias, zero if need be."""
    folded = network.folded(image_side_px)
    for convolution in folded.modules():
        if isinstance(convolution, nn.Conv2d) and convolution.bias is None:
            convolution.bias = nn.Parameter(torch.zeros(convolution.out_channels))
    return folded


def aten_graph(network: DeployableStudent, image_side_px: int) -> fx.GraphModule:
    """Returns (B, H, W, 3) uint8 → (B, D) float32 as a graph of operators, B from 1 to `MOST_IMAGES`.

    PyTorch's own decompositions would write the same operators, in four times the time.

    Args:
        network: its batch normalisations folded; the graph has its parameters, not copies.
        image_side_px: of the square image that the graph takes.
    """
    image = torch.zeros(2, image_side_px, image_side_px, 3, dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1, max=MOST_IMAGES)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch.export deprecates its own calls
        module = torch.export.export(network, (image,), dynamic_shapes=({0: batch},)).module()
    assert isinstance(module, fx.GraphModule)
    nodes: Iterable[Any] = list(module.graph.nodes)
    for node in nodes:
        if node.target is aten._assert_tensor_metadata.default:
            module.graph.erase_node(node)  # it says that the image is on the CPU, where the graph was made
        elif _is_identity(module, node):
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
        elif isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable:
            _write_nowhere(node)
        if node.target is aten.silu.default:
            _take_apart(module.graph, node)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def _is_identity(module: fx.GraphModule, node: Any) -> bool:
    """Returns whether a node gives what it is given: a batch normalisation that was folded, a cast to its own type."""
    if node.target is aten.to.dtype:
        return bool(node.args[0].meta["val"].dtype == node.meta["val"].dtype)
    if node.target is not aten.batch_norm.default:
        return False
    values = [None if one is None else operator.attrgetter(str(one.target))(module) for one in node.args[1:5]]
    neutral = (1, 0, 0, 1 - node.args[7])  # scale, shift, mean, variance
    return all(one is None or bool((one == other).all()) for one, other in zip(values, neutral, strict=True))


def _write_nowhere(node: Any) -> None:
    """Makes an operator that overwrites its input one that does not: what came after it takes its result."""
    packet = str(node.target._schema.name).removeprefix("aten::").removesuffix("_")
    node.target = getattr(getattr(aten, packet), node.target._overloadname)
    before = set()
    for other in node.graph.nodes:
        before.add(other)
        if other is node:
            break
    node.args[0].replace_all_uses_with(node, delete_user_cb=lambda user: user not in before)


def _take_apart(graph: fx.Graph, node: Any) -> None:
    """Writes a SiLU as a product with a sigmoid, as integers compute it."""
    with graph.inserting_before(node):
        sigmoid = graph.call_function(aten.sigmoid.default, (node.args[0],))
    sigmoid.meta = dict(node.meta)
    node.target, node.args = aten.mul.Tensor, (node.args[0], sigmoid)
