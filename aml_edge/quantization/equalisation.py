"""Range equalisation across layers: channels of one activation are brought to one range, which one scale then fits.

Where convolutions make an activation and only convolutions and sums take it, each channel can be divided by a factor
where it is made and multiplied by it where it is taken, and nothing changes but rounding. Sums tie activations
together: all that meet in one get the same factors. A ReLU lets a positive factor through; ReLU6 and SiLU do not.

In a network of inverted residuals these are the narrow activations between blocks, whose few channels of wide range
leave the others few of the 256 steps.

Source: Nagel et al., "Data-free quantization through weight equalization and bias correction", ICCV 2019, section 4.1.
There ranges of weights are equalised; with one scale an output channel only those of activations are left to be.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from aml_edge.quantization.aten_graph import aten
from aml_edge.quantization.graph import HEAD, Site, SiteGraph, SiteKind
from aml_edge.quantization.observation import Observations

SMALLEST_FACTOR = 1e-3
"""Of the largest: a channel that hardly moves, or is dead, is not blown up beyond it."""


@dataclass(frozen=True)
class EqualisableGroup:
    """Activations that have to share their factors.

    Args:
        makers: sites whose results they are: convolutions and sums.
        takers: convolutions that take one of them; one that adds to what it takes is a maker as well.
    """

    makers: tuple[Site, ...]
    takers: tuple[Site, ...]


@dataclass(frozen=True, eq=False)
class Equalised:
    """A network after equalisation.

    Args:
        graph: computes what it did before.
        observations: of its activations: those of before, with the factors divided out.
    """

    graph: SiteGraph
    observations: Observations


def equalised(graph: SiteGraph, observations: Observations) -> Equalised:
    """Returns a network that computes the same, its ranges equalised.

    Args:
        graph, observations: of the network; left as they are.
    """
    changed: dict[str, Tensor] = {}
    observed = dict(observations)

    def current(name: str) -> Tensor:
        return changed.get(name, graph.state(name)).detach()

    for group in equalisable_groups(graph):
        factors = _factors(group, observations)
        for site in group.makers:
            observed[site.name] = observations[site.name].divided_by(factors)
            if site.kind is SiteKind.CONVOLUTION:
                changed[site.weight] = current(site.weight) / factors[:, None, None, None]
                changed[site.bias] = current(site.bias) / factors
        for site in group.takers:
            by_input = factors[None, :, None, None] if _groups_of(graph, site) == 1 else factors[:, None, None, None]
            changed[site.weight] = current(site.weight) * by_input
    return Equalised(graph.with_state(changed), observed)


def equalisable_groups(graph: SiteGraph) -> tuple[EqualisableGroup, ...]:
    """Returns the groups of activations whose channels can be given factors, in the order of their first one."""
    leaders = _leaders(graph)
    groups = []
    for leader in dict.fromkeys(leaders[site.name] for site in graph.sites):
        makers = tuple(site for site in graph.sites if leaders[site.name] == leader)
        names = {name for name, one in leaders.items() if one == leader}
        tied = {site.name for site in makers if site.kind is SiteKind.ADD}
        takers = tuple(site for site in graph.sites if not names.isdisjoint(site.inputs) and site.name not in tied)
        by_sites = len(names) == len(makers)  # not one that an operator of floating point makes
        passes = by_sites and all(_passes_factors(graph, site) for site in makers)
        if passes and takers and all(_takes_factors(graph, site) for site in takers) and _only_sites_take(graph, names):
            groups.append(EqualisableGroup(makers, takers))
    return tuple(groups)


def _factors(group: EqualisableGroup, observations: Observations) -> Tensor:
    """Returns (C,) factors that bring the widest of a channel's activations to the range of the widest channel."""
    ranges = [observations[site.name].largest for site in group.makers]
    shares = torch.stack([one / one.max().clamp(min=torch.finfo(one.dtype).tiny) for one in ranges])
    factors = shares.amax(0)
    return (factors / factors.max()).clamp(min=SMALLEST_FACTOR)


def _leaders(graph: SiteGraph) -> dict[str, str]:
    """Returns for each activation that a site makes or takes the first of those that sums tie to it."""
    leaders = {name: name for site in graph.sites for name in (*site.inputs, site.name)}

    def leader_of(name: str) -> str:
        while leaders[name] != name:
            name = leaders[name]
        return name

    for site in graph.sites:
        if site.kind is SiteKind.ADD and site.block != HEAD:
            first, *others = (leader_of(name) for name in (*site.inputs, site.name))
            for other in others:
                leaders[other] = first
    return {name: leader_of(name) for name in leaders}


def _passes_factors(graph: SiteGraph, site: Site) -> bool:
    linear = site.kind in (SiteKind.CONVOLUTION, SiteKind.ADD) and site.block != HEAD
    return linear and (site.result == site.operator or graph.node(site.result).target is aten.relu.default)


def _takes_factors(graph: SiteGraph, site: Site) -> bool:
    """Returns whether a site is a convolution over all channels at once, or over each alone."""
    if site.kind is not SiteKind.CONVOLUTION:
        return False
    groups = _groups_of(graph, site)
    return groups == 1 or graph.state(site.weight).shape[:2] == (groups, 1)


def _groups_of(graph: SiteGraph, site: Site) -> int:
    arguments = graph.node(site.operator).args
    groups = arguments[6] if len(arguments) > 6 else 1
    assert isinstance(groups, int)
    return groups


def _only_sites_take(graph: SiteGraph, names: set[str]) -> bool:
    """Returns whether nothing that is no site takes one of these activations."""
    made = {**graph.activations, **graph.moved}
    known = {node for site in graph.sites for node in (site.operator, site.result)} | graph.moved.keys()
    nodes: Iterable[fx.Node] = graph.module.graph.nodes
    return not any(
        made.get(taken.name) in names for node in nodes if node.name not in known for taken in node.all_input_nodes
    )
