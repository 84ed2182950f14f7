"""`Quantization`: which blocks of a network compute in integers, and how each activation is stored."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from aml_edge.errors import QuantizationError
from aml_edge.quantization.graph import HEAD, Site, SiteGraph
from aml_edge.quantization.tensors import TensorQuantization


@dataclass(frozen=True)
class Quantization:
    """Which blocks of a network compute in integers, and how each activation is stored.

    Args:
        activations: how each is stored, by its name in the graph.
        float_blocks: stay in floating point; all others compute in integers.
    """

    activations: Mapping[str, TensorQuantization]
    float_blocks: frozenset[str] = frozenset({HEAD})

    def with_float(self, blocks: Iterable[str]) -> Quantization:
        """Returns the same with these blocks, and no others, in floating point."""
        return replace(self, float_blocks=frozenset(blocks))

    def integer_sites(self, graph: SiteGraph) -> tuple[Site, ...]:
        """Returns the sites of a network that compute in integers.

        Raises:
            QuantizationError: the network has no such block, or nothing says how one of its activations is stored.
        """
        unknown = self.float_blocks.difference(graph.blocks)
        if unknown:
            raise QuantizationError(
                f"`float_blocks` has {', '.join(sorted(unknown))}, which the network has not; it has "
                f"{', '.join(graph.blocks)}."
            )
        sites = tuple(site for site in graph.sites if site.block not in self.float_blocks)
        for site in sites:
            for name in (*site.inputs, site.name):
                self.of(name)
        return sites

    def of(self, activation: str) -> TensorQuantization:
        """Returns how an activation is stored; raises `QuantizationError` where nothing says so."""
        if activation not in self.activations:
            raise QuantizationError(
                f"nothing says how the activation '{activation}' is stored; calibrate the network again."
            )
        return self.activations[activation]

    def to_json(self) -> dict[str, object]:
        """Returns the record as JSON values."""
        return {
            "activations": {name: stored.to_json() for name, stored in self.activations.items()},
            "float_blocks": sorted(self.float_blocks),
        }

    @classmethod
    def from_json(cls, record: object) -> Quantization:
        """Reads what `to_json` wrote; raises `QuantizationError` where it is anything else."""
        activations, blocks = (
            (record.get("activations"), record.get("float_blocks")) if isinstance(record, dict) else (None, None)
        )
        if not isinstance(activations, dict) or not isinstance(blocks, list):
            raise QuantizationError(
                f"{reprlib.repr(record)} is no quantization: it needs `activations` and `float_blocks`; quantize the "
                "student again."
            )
        if not all(isinstance(block, str) for block in blocks):
            raise QuantizationError(
                f"`float_blocks` is {reprlib.repr(blocks)}; it is a list of names of blocks; quantize the student "
                "again."
            )
        stored = {str(name): TensorQuantization.from_json(one) for name, one in activations.items()}
        return cls(stored, frozenset(blocks))
