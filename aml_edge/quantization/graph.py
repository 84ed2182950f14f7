"""A deployable student as a graph of ATen operators, and the sites in it that integers can compute.

A site is an operator with what a runtime fuses into it, such as a convolution and its ReLU. Each format makes its own
operators of the same sites, in the same order: a site is where PyTorch, TFLite, ONNX and Core ML meet.
"""

from __future__ import annotations

import copy
import itertools
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, fx

from aml_edge.networks.deployable import DeployableStudent
from aml_edge.quantization.aten_graph import aten, aten_graph, with_folded_batch_norms

INPUT = "input"
"""The name of the normalised image, the first activation."""
HEAD = "head"
"""The block after the adaptor: GeM, whitening, L2."""
NORMALISE, STUDENT, TRUNK = "normalise", "student.", "backbone.trunk."


class SiteKind(StrEnum):
    """What a site computes."""

    CONVOLUTION = "convolution"
    ADD = "add"
    MULTIPLY = "multiply"
    SIGMOID = "sigmoid"
    MEAN = "mean"


@dataclass(frozen=True)
class Site:
    """An operator that integers can compute, and the activation that it makes, which has the site's name.

    Args:
        name: unique, e.g. ``"blocks.1.0.conv_dw"`` or ``"blocks.1.0:add"``.
        kind: what it computes.
        block: the part of the network that it belongs to, e.g. ``"conv_stem"``, ``"blocks.1.0"``, ``"adaptor"``.
        operator: name of the graph's node.
        result: name of the node whose value the site leaves: `operator`, or the ReLU that is fused into it.
        inputs: names of the activations that it takes.
        weight, bias: names in the network's state, of a convolution.
    """

    name: str
    kind: SiteKind
    block: str
    operator: str
    result: str
    inputs: tuple[str, ...]
    weight: str = ""
    bias: str = ""


@dataclass(frozen=True, eq=False)
class SiteGraph:
    """A network as a graph, with its sites.

    Args:
        network: batch normalisations folded; what a converter takes. Its weights are the graph's.
        module: (B, H, W, 3) uint8 → (B, D) float32, B up to 64; SiLU is a product with a sigmoid.
        sites: in the order in which they run.
        activations: name of a node → name of the activation that it makes.
        moved: name of a node that pads or pools maximally → name of the activation whose values it gives.
        image_side_px: of the square image.
    """

    network: DeployableStudent
    module: fx.GraphModule
    sites: tuple[Site, ...]
    activations: Mapping[str, str]
    moved: Mapping[str, str]
    image_side_px: int

    @property
    def blocks(self) -> tuple[str, ...]:
        """The names of the blocks, in the order in which they run."""
        return tuple(dict.fromkeys(site.block for site in self.sites))

    def node(self, name: str) -> fx.Node:
        """Returns a node by its name."""
        nodes: Iterable[fx.Node] = self.module.graph.nodes
        return next(node for node in nodes if node.name == name)

    def state(self, name: str) -> Tensor:
        """Returns a weight or bias by its name in the network's state."""
        value: Tensor = operator.attrgetter(name)(self.module)
        return value

    def with_state(self, changed: Mapping[str, Tensor]) -> SiteGraph:
        """Returns a graph with some weights or biases replaced, by name; this one is left as it is."""
        network = copy.deepcopy(self.network)
        module = fx.GraphModule(self.module, self.module.graph)
        nodes: Iterable[Any] = module.graph.nodes
        parameters = dict(network.named_parameters())
        for path in {str(node.target) for node in nodes if node.op == "get_attr"} & parameters.keys():
            owner, _, name = path.rpartition(".")
            setattr(module.get_submodule(owner), name, parameters[path])
        with torch.no_grad():
            for name, value in changed.items():
                network.get_parameter(name).copy_(value)
        return replace(self, network=network, module=module)


_KINDS = {
    aten.conv2d.default: SiteKind.CONVOLUTION,
    aten.add.Tensor: SiteKind.ADD,
    aten.mul.Tensor: SiteKind.MULTIPLY,
    aten.sigmoid.default: SiteKind.SIGMOID,
    aten.mean.dim: SiteKind.MEAN,
}
_FUSED = {aten.relu.default, aten.hardtanh.default}
_FUSED_INTO = {SiteKind.CONVOLUTION, SiteKind.ADD}
_MOVING = {aten.pad.default, aten.constant_pad_nd.default, aten.max_pool2d.default}
"""They give each channel values that it had, or what pads them."""


def site_graph(network: DeployableStudent, image_side_px: int) -> SiteGraph:
    """Returns the graph of a network whose batch normalisations are folded into its convolutions.

    Args:
        network: left as it is; the graph has weights of its own.
        image_side_px: of the square image that the graph takes.
    """
    network = with_folded_batch_norms(network, image_side_px)
    module = aten_graph(network, image_side_px)
    sites, activations, moved = _sites(module)
    return SiteGraph(network, module, sites, activations, moved, image_side_px)


def _sites(module: fx.GraphModule) -> tuple[tuple[Site, ...], dict[str, str], dict[str, str]]:
    sites: list[Site] = []
    activations: dict[str, str] = {}
    moved: dict[str, str] = {}
    fused: set[str] = set()
    block = HEAD
    nodes: Iterable[Any] = module.graph.nodes
    for node in nodes:
        if node.op != "call_function" or node.name in fused or not _is_activation(node):
            continue
        known, path, kind = activations | moved, _path(node), _kind(node)
        if node.target in _MOVING and node.args[0].name in known:
            moved[node.name] = known[node.args[0].name]
            continue
        if path == INPUT:
            activations = {node.name: INPUT}  # the last of what normalises makes the image
            continue
        block = _block(path, kind, block)
        name = _unused(path if kind is SiteKind.CONVOLUTION else f"{path}:{kind or _operation(node)}", known.values())
        result = _fused_activation(node) if kind in _FUSED_INTO else node
        fused.add(result.name)
        activations[result.name] = name
        if kind is not None:
            inputs = tuple(known[one.name] for one in _nodes(node) if one.name in known)
            weight, bias = (str(one.target) for one in _nodes(node)[1:3]) if kind is SiteKind.CONVOLUTION else ("", "")
            sites.append(Site(name, kind, block, node.name, result.name, inputs, weight, bias))
    return tuple(sites), activations, moved


def _nodes(node: Any) -> list[fx.Node]:
    return [one for one in node.args if isinstance(one, fx.Node)]


def _is_activation(node: Any) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.is_floating_point()


def _kind(node: Any) -> SiteKind | None:
    """Returns what a node computes where integers can: sums and products of activations, means of whole maps."""
    kind: SiteKind | None = _KINDS.get(node.target)
    if kind in (SiteKind.ADD, SiteKind.MULTIPLY) and (
        [one.op for one in _nodes(node)] != ["call_function"] * 2 or node.kwargs
    ):
        return None
    if kind is SiteKind.MEAN and [axis % 4 for axis in node.args[1]] != [2, 3]:
        return None
    return kind


def _fused_activation(node: fx.Node) -> fx.Node:
    """Returns the ReLU or ReLU6 that alone takes a node's value, or the node itself."""
    users = list(node.users)
    return users[0] if len(users) == 1 and users[0].target in _FUSED else node


def _path(node: Any) -> str:
    """Returns the module that a node belongs to, from the trunk on, e.g. ``"blocks.1.0.conv_dw"``."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    path = str(stack[-1][0]) if stack else ""
    if path == NORMALISE:
        return INPUT
    if path.startswith(STUDENT):
        return path.removeprefix(STUDENT).removeprefix(TRUNK)
    return HEAD


def _block(path: str, kind: SiteKind | None, before: str) -> str:
    """Returns the block of a path: up to its last number, else a convolution's first part, else the one before."""
    parts = path.split(".")
    numbers = [place for place, part in enumerate(parts[:3]) if part.isdecimal()]
    if numbers:
        return ".".join(parts[: numbers[-1] + 1])
    return parts[0] if kind is SiteKind.CONVOLUTION or path == HEAD else before


def _unused(name: str, names: Iterable[str]) -> str:
    """Returns the name, with a number where another activation has it."""
    taken = set(names)
    numbered = (name if number == 1 else f"{name}:{number}" for number in itertools.count(1))
    return next(one for one in numbered if one not in taken)


def _operation(node: Any) -> str:
    return str(getattr(node.target, "_opname", node.name))
