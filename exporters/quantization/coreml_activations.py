"""A prepared student with the integers written out, for Core ML's converter: quantize, dequantize, int8 weights.

coremltools calibrates activations by running the model, which only a Mac can; here the ranges are ours, and the same
integers are computed as in every other format. Each integer operator stands between a `dequantize` of what it takes and
a `quantize` of what it makes: what Core ML's kernels for integers are recognised by.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx

from aml_edge.quantization.graph import Site, SiteGraph, SiteKind
from aml_edge.quantization.post_training import QuantizedStudent
from aml_edge.quantization.tensors import WEIGHT_LIMIT, TensorQuantization, fake_quantized_bias, weight_scales

_CHECKS = {"aten::_assert_tensor_metadata"}
"""They hold a graph to bytes as its input; Core ML gives an image as floating point."""


def with_integers(quantized: QuantizedStudent) -> fx.GraphModule:
    """Returns a network of (1, H, W, 3) pixels, 0 to 255 of any dtype, that computes what `FakeQuantizedNetwork` does.

    Args:
        quantized: of 8 bits; left as it is.
    """
    return _Writer(quantized).module


class _Writer:
    """Writes the integers into a copy of a graph."""

    def __init__(self, quantized: QuantizedStudent) -> None:
        import torch.ao.quantization.fx._decomposed  # noqa: F401  (it registers the operators)

        graph, sites = quantized.graph, quantized.quantization.integer_sites(quantized.graph)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.fx copies by calls that it deprecates
            self.module = copy.deepcopy(graph.module)
        self._nodes: dict[str, fx.Node] = {node.name: node for node in self._all()}
        self._stored = {name: quantized.quantization.of(held) for name, held in _held_names(graph, sites).items()}
        self._integers: dict[fx.Node, fx.Node] = {}
        assert all(stored.bits == 8 for stored in self._stored.values()), "Core ML has activations of 8 bits"
        self._drop_checks()
        for site in sites:
            self._store_result(site)
        for number, site in enumerate(sites):
            self._take_integers(site, number)
        self.module.graph.eliminate_dead_code()
        self.module.recompile()

    def _all(self) -> Iterable[Any]:
        return list(self.module.graph.nodes)

    def _drop_checks(self) -> None:
        for node in self._all():
            schema = getattr(node.target, "_schema", None)
            if node.op == "call_module" or (schema is not None and schema.name in _CHECKS):
                self.module.graph.erase_node(node)

    def _store_result(self, site: Site) -> None:
        """Rounds what a site makes where it is made; all that take it get what the integers hold."""
        result = self._nodes[site.result]
        with self.module.graph.inserting_after(result):
            integers = self._quantize(result, self._stored[site.result])
        with self.module.graph.inserting_after(integers):
            held = self._dequantize(integers, self._stored[site.result])
        result.replace_all_uses_with(held, delete_user_cb=lambda user: user is not integers)
        self._integers[held] = integers
        self._stored[held.name] = self._stored[site.result]

    def _take_integers(self, site: Site, number: int) -> None:
        """Gives a site what integers hold, and a convolution its weight as integers."""
        node = self._nodes[site.operator]
        arguments: list[Any] = list(node.args)
        with self.module.graph.inserting_before(node):
            balance = 1.0
            if site.kind is SiteKind.CONVOLUTION:
                taken = self._stored[arguments[0].name].scale
                weight, bias = (self._state(name) for name in (site.weight, site.bias))
                scales = weight_scales(weight)
                balance = _balance(taken, scales)
                arguments[1] = self._weight(weight, scales, balance, number)
                arguments[2] = self._constant(f"bias_{number}", fake_quantized_bias(bias, taken * scales))
            for place, argument in enumerate(arguments):
                if isinstance(argument, fx.Node) and argument.name in self._stored:
                    arguments[place] = self._dequantize(
                        self._integers_of(argument), self._stored[argument.name], balance
                    )
        node.args = tuple(arguments)

    def _integers_of(self, value: fx.Node) -> fx.Node:
        """Returns the integers of an activation: those that it was made from, or new ones where it was only moved."""
        if value not in self._integers:
            self._integers[value] = self._quantize(value, self._stored[value.name])
        return self._integers[value]

    def _quantize(self, value: fx.Node, stored: TensorQuantization) -> fx.Node:
        arguments = (value, stored.scale, stored.zero_point, stored.lowest, stored.highest, torch.int8)
        return self._call(torch.ops.quantized_decomposed.quantize_per_tensor.default, *arguments)

    def _dequantize(self, integers: fx.Node, stored: TensorQuantization, balance: float = 1.0) -> fx.Node:
        arguments = (integers, stored.scale / balance, stored.zero_point, stored.lowest, stored.highest, torch.int8)
        return self._call(torch.ops.quantized_decomposed.dequantize_per_tensor.default, *arguments)

    def _weight(self, weight: Tensor, scales: Tensor, balance: float, number: int) -> fx.Node:
        rounded = torch.fake_quantize_per_channel_affine(
            weight, scales, torch.zeros(len(scales), dtype=torch.int32), 0, -WEIGHT_LIMIT, WEIGHT_LIMIT
        )
        integers = (rounded / scales.reshape(-1, 1, 1, 1)).round().to(torch.int8)
        constants = (
            self._constant(f"weight_{number}", integers),
            self._constant(f"weight_scales_{number}", scales * balance),
            self._constant(f"weight_zeros_{number}", torch.zeros(len(scales), dtype=torch.int8)),
        )
        arguments = (*constants, 0, -WEIGHT_LIMIT, WEIGHT_LIMIT, torch.int8)
        return self._call(torch.ops.quantized_decomposed.dequantize_per_channel.default, *arguments)

    def _call(self, operator: Any, *arguments: Any) -> fx.Node:
        node: fx.Node = self.module.graph.call_function(operator, arguments)
        return node

    def _constant(self, name: str, value: Tensor) -> fx.Node:
        self.module.register_buffer(name, value)
        node: fx.Node = self.module.graph.get_attr(name)
        return node

    def _state(self, name: str) -> Tensor:
        owner, _, last = name.rpartition(".")
        value: Tensor = getattr(self.module.get_submodule(owner), last)
        return value.detach()


def _held_names(graph: SiteGraph, sites: Iterable[Site]) -> dict[str, str]:
    """Returns, for each node whose value some integer site takes or makes, the activation that it is."""
    taken = {name for site in sites for name in (*site.inputs, site.name)}
    return {node: name for node, name in {**graph.activations, **graph.moved}.items() if name in taken}


def _balance(scale: float, weight_scales: Tensor) -> float:
    """Returns the power of two that brings the scale of a convolution's input and those of its weight together.

    The one is divided by it and the others multiplied, so the results are the same to the bit. In half precision,
    though, a scale below 6e-5 is no normal number, and hardware may take it for zero: a channel would be lost.
    """
    middle = float(weight_scales.median())
    return 2.0 ** round(math.log2(scale / middle) / 2)
