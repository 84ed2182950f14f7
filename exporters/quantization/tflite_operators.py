"""Which operator of a TFLite file computes which site of a student's graph.

Both were made of one network by different programs. They are taken in their order, and every pair has to agree in what
it computes, in its shape, in its weights and in which activations it takes; where one does not, nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from aml_edge.errors import ExportError
from aml_edge.formats.flatbuffer import Flatbuffer
from aml_edge.formats.tflite_graph import TfliteOperator, TfliteSubgraph, TfliteTensor, read_subgraphs
from aml_edge.formats.tflite_metadata import IDENTIFIER
from aml_edge.quantization.aten_graph import aten
from aml_edge.quantization.graph import INPUT, Site, SiteGraph, SiteKind

OPERATORS = {
    SiteKind.CONVOLUTION: ("CONV_2D", "DEPTHWISE_CONV_2D"),
    SiteKind.ADD: ("ADD",),
    SiteKind.MULTIPLY: ("MUL",),
    SiteKind.SIGMOID: ("LOGISTIC",),
    SiteKind.MEAN: ("MEAN",),
}
MOVING = ("PAD", "PADV2", "MAX_POOL_2D", "RESHAPE", "TRANSPOSE")
"""They give values that they were given, or constants."""
HARD_SIGMOID_SHIFT, HARD_SIGMOID_HIGH = 3.0, 6.0
"""A hard sigmoid is a sixth of its argument plus the first, cut off at zero and the second."""
ROUNDING = 1e-6
"""Of one multiplication in single precision, relative, and some room."""


@dataclass(frozen=True)
class TfliteSites:
    """Where a student's sites stand in a TFLite file.

    Args:
        subgraph: of the file.
        operators: number of the tensor that each site's operator gives → the site.
        activations: number of a tensor → name of the activation that it holds, moved or not.
        moving: operators that only move such an activation.
        hard_sigmoids: numbers of the tensors that hold a site's result with 3 added, cut off at 0 and 6: the converter
            puts the first half of a hard sigmoid into the convolution before it.
        image_scale: what the file's normalised image is of the network's; where the deviation is one for all channels,
            the converter divides the first weights by it and not the image.
    """

    subgraph: TfliteSubgraph
    operators: Mapping[int, Site]
    activations: Mapping[int, str]
    moving: tuple[TfliteOperator, ...]
    hard_sigmoids: frozenset[int]
    image_scale: float


def find_sites(model: bytes, graph: SiteGraph) -> TfliteSites:
    """Returns where the sites of a graph stand in the file that was converted from its network, in floating point.

    Raises:
        ExportError: an operator is not the one of its site; both are named.
    """
    (subgraph,) = read_subgraphs(Flatbuffer(model).root(IDENTIFIER))
    computing = [one for one in subgraph.operators if _computes(subgraph, one)]
    if len(computing) != len(graph.sites):
        raise _differs(f"it has {len(computing)} operators that could be the network's {len(graph.sites)} sites")
    found = _Found(subgraph, graph)
    for site, operator in zip(graph.sites, computing, strict=True):
        found.add(site, operator)
    moving = [one for one in subgraph.operators if one.name in MOVING and found.origin(one.inputs[0]) in found.names]
    moved = {one.outputs[0]: found.names[found.origin(one.inputs[0])] for one in moving}
    names, hard_sigmoids = {**found.names, **moved}, frozenset(found.hard_sigmoids)
    return TfliteSites(subgraph, found.sites, names, tuple(moving), hard_sigmoids, found.image_scale)


def site_shape(shape: Iterable[object]) -> tuple[int, ...]:
    """Returns the shape in a file, channels last and of one image, of a value of the graph."""
    _, *others = shape
    sizes = [int(str(size)) for size in others]
    return (1, *sizes[1:], sizes[0]) if len(sizes) == 3 else (1, *sizes)


class _Found:
    """Adds up which tensor holds which activation."""

    def __init__(self, subgraph: TfliteSubgraph, graph: SiteGraph) -> None:
        self.names: dict[int, str] = {}
        self.sites: dict[int, Site] = {}
        self.hard_sigmoids: set[int] = set()
        self.image_scale = 1.0
        self._subgraph, self._graph = subgraph, graph
        self._moved = {one.outputs[0]: one.inputs[0] for one in subgraph.operators if one.name in MOVING}

    def origin(self, tensor: int) -> int:
        """Returns the tensor whose values are moved into this one, or this one."""
        while tensor in self._moved:
            tensor = self._moved[tensor]
        return tensor

    def add(self, site: Site, operator: TfliteOperator) -> None:
        """Takes down that an operator computes a site; raises `ExportError` where it does not."""
        result = self._subgraph.tensors[operator.outputs[0]]
        shape = site_shape(self._graph.node(site.result).meta["val"].shape)
        if operator.name not in OPERATORS[site.kind] or result.shape != shape:
            raise _differs(
                f"where '{site.name}' computes '{site.kind}' of {list(shape)}, it has a {operator.name} of "
                f"{list(result.shape)} ('{result.name}')"
            )
        if site.kind is SiteKind.CONVOLUTION:
            self._require_weights(site, operator, result)
            self._require_bias(site, operator, result)
        self._add_inputs(site, operator)
        self.sites[operator.outputs[0]] = site
        self.names[operator.outputs[0]] = site.name

    def _add_inputs(self, site: Site, operator: TfliteOperator) -> None:
        """Names what an operator takes; of what no site makes, the graph's order says which it is."""
        origins = [self.origin(tensor) for tensor in operator.inputs[: len(site.inputs)]]
        left = list(site.inputs)
        for origin in origins:
            name = self.names.get(origin)
            if name is not None and name not in left:
                raise _differs(f"'{site.name}' takes {' and '.join(site.inputs)}, its {operator.name} '{name}'")
            if name is not None:
                left.remove(name)
        for origin in origins:
            if origin not in self.names:
                self.names[origin] = left.pop(0)

    def _require_weights(self, site: Site, operator: TfliteOperator, result: TfliteTensor) -> None:
        stored = self._subgraph.given(operator, 1)
        channels_last = (1, 2, 3, 0) if operator.name == "DEPTHWISE_CONV_2D" else (0, 2, 3, 1)
        expected = np.ascontiguousarray(self._graph.state(site.weight).detach().permute(*channels_last).numpy())
        same = stored is not None and stored.content == expected.tobytes()
        if not same and stored is not None and site.inputs == (INPUT,) and len(stored.content) == expected.nbytes:
            weights, largest = np.frombuffer(stored.content, expected.dtype), int(np.abs(expected).argmax())
            self.image_scale = float(expected.ravel()[largest] / weights[largest])
            same = np.allclose(weights * self.image_scale, expected.ravel(), rtol=ROUNDING, atol=0)
        if not same:
            raise _differs(f"the weights of '{site.name}' are not those of its {operator.name} ('{result.name}')")

    def _require_bias(self, site: Site, operator: TfliteOperator, result: TfliteTensor) -> None:
        stored, expected = self._subgraph.given(operator, 2), self._graph.state(site.bias).detach().numpy()
        values = np.zeros_like(expected) if stored is None else np.frombuffer(stored.content, expected.dtype)
        if np.array_equal(values, expected):
            return
        users = [user.target for user in self._graph.node(site.result).users]
        raised = expected + np.float32(HARD_SIGMOID_SHIFT)
        if users != [aten.hardsigmoid.default] or not np.array_equal(values, raised):
            raise _differs(f"the biases of '{site.name}' are not those of its {operator.name} ('{result.name}')")
        self.hard_sigmoids.add(operator.outputs[0])


def _computes(subgraph: TfliteSubgraph, operator: TfliteOperator) -> bool:
    """Returns whether an operator could be a site's: sums and products of activations, not with constants."""
    if operator.name in ("ADD", "MUL"):
        return not any(subgraph.tensors[number].constant for number in operator.inputs)
    return any(operator.name in names for names in OPERATORS.values())


def _differs(how: str) -> ExportError:
    return ExportError(
        f"the TFLite file does not compute what the network does: {how}; nothing can say which integers it needs. "
        "Export it in fp32, or report the backbone and the converter's version."
    )
