"""`FakeQuantizedNetwork`: computes in PyTorch what a file in integers computes, up to the rounding of its kernels.

Every activation that integers hold is rounded to them where it is made, every weight and bias before it is used. An
operator that stays in floating point gets what the integers hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, fx, nn

from aml_edge.quantization.graph import Site, SiteGraph
from aml_edge.quantization.quantization import Quantization
from aml_edge.quantization.tensors import fake_quantized_bias, fake_quantized_weight, weight_scales

Watch = Callable[[str, Tensor], None]
"""Is told the name and the value of each activation, in the order in which they are made."""


class FakeQuantizedNetwork(nn.Module):
    """A graph that computes as an integer file would; without a quantization, as it is.

    Args:
        graph: shared, not copied: its weights are this module's.
        quantization: None for floating point.

    Raises:
        QuantizationError: the quantization is not one of this network.
    """

    def __init__(self, graph: SiteGraph, quantization: Quantization | None) -> None:
        super().__init__()
        self.module = graph.module
        self.graph, self.quantization = graph, quantization
        sites = () if quantization is None else quantization.integer_sites(graph)
        self._integer = {site.operator: site for site in sites}

    def forward(self, images: Tensor, watch: Watch | None = None) -> Tensor:
        """Returns (B, D) embeddings of (B, H, W, 3) uint8 pixels, rows L2-normalised."""
        embeddings: Tensor = _Interpreter(self.graph, self.quantization, self._integer, watch).run(images)
        return embeddings


class _Interpreter(fx.Interpreter):
    """Runs a graph node by node, and rounds what integers hold."""

    def __init__(
        self, graph: SiteGraph, quantization: Quantization | None, integer: Mapping[str, Site], watch: Watch | None
    ) -> None:
        super().__init__(graph.module)
        self._names = {**graph.activations, **graph.moved}
        self._activations, self._watch = graph.activations, watch
        self._quantization, self._integer = quantization, integer
        self._held = {site.name for site in integer.values()}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        name = self._activations.get(n.name)
        if name is None:
            return value
        if self._quantization is not None and name in self._held:
            value = self._quantization.of(name).fake_quantized(value)
        if self._watch is not None:
            self._watch(name, value)
        return value

    def fetch_args_kwargs_from_env(self, n: fx.Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
        arguments, options = super().fetch_args_kwargs_from_env(n)
        site = self._integer.get(n.name)
        if site is None or self._quantization is None:
            return arguments, options
        rounded = [self._held_input(argument, value) for argument, value in zip(n.args, arguments, strict=True)]
        if site.weight:
            weight, bias = arguments[1:3]
            rounded[1] = fake_quantized_weight(weight)
            rounded[2] = fake_quantized_bias(bias, self._quantization.of(site.inputs[0]).scale * weight_scales(weight))
        return tuple(rounded), options

    def _held_input(self, argument: object, value: Any) -> Any:
        """Returns an activation as integers hold it, anything else as it is."""
        name = self._names.get(argument.name) if isinstance(argument, fx.Node) else None
        if name is None or name in self._held or self._quantization is None:
            return value
        return self._quantization.of(name).fake_quantized(value)
