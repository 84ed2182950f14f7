"""`QuantizationAwareStudent`: a student that learns while it computes as its int8 file will.

Activations, weights and biases are rounded to what integers hold, in training and in validation; the gradient passes
each rounding as if it were not there (straight through), and stops at an activation that is out of range. Ranges stay
those of the calibration, so what was trained with is what the file gets.

Source: Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference",
CVPR 2018, section 3. There ranges follow moving averages, and batch normalisations are folded anew in each step; here
both are fixed at the start.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from aml_edge.networks.pooling import GeM
from aml_edge.networks.student import Student
from aml_edge.quantization.fake_quantized import FakeQuantizedNetwork
from aml_edge.quantization.graph import STUDENT, SiteGraph
from aml_edge.quantization.post_training import QuantizedStudent
from aml_edge.quantization.unfolding import biases_without_place, unfolded
from aml_edge.quantization_record import QuantizationRecord

ADAPTOR_WEIGHT = f"{STUDENT}adaptor.weight"


class QuantizationAwareStudent(nn.Module):
    """A student in training, computed as its int8 file will compute it.

    Its backbone takes (B, H, W, 3) uint8 pixels and gives (B, D) embeddings, rows L2-normalised; its head changes
    nothing. GeM's power stays, and so does a bias that a student's file has no place for: it is zero.

    Args:
        student: what it starts from; left as it is.
        quantized: of this student, prepared by calibration; left as it is.
        record: what a manifest will say of its integers.
    """

    def __init__(self, student: Student, quantized: QuantizedStudent, record: QuantizationRecord) -> None:
        super().__init__()
        homeless = biases_without_place(student, quantized.graph)
        zeros = {name: torch.zeros_like(quantized.graph.state(name)) for name in homeless}
        self._graph = quantized.graph.with_state(zeros)
        self._start = (student,)  # in a tuple, so that it is no part of this network
        self.quantization, self.record = quantized.quantization, record
        self.dimension = student.dimension
        self.pool = GeM(float(student.pool.p.detach()), student.pool.eps)
        self.backbone = FakeQuantizedNetwork(self._graph, self.quantization)
        self.requires_grad_(False)
        for name in _names_of_weights(self._graph).difference(homeless):
            self._graph.state(name).requires_grad_()

    @property
    def adaptor_weight(self) -> nn.Parameter:
        """The adaptor's weight (D, C, 1, 1), which learns at a rate of its own."""
        weight = self._graph.state(ADAPTOR_WEIGHT)
        assert isinstance(weight, nn.Parameter)
        return weight

    def head(self, embeddings: Tensor) -> Tensor:
        """Returns the embeddings, which the backbone gives already."""
        return embeddings

    def forward(self, images: Tensor) -> Tensor:
        """Returns (B, D) embeddings of (B, H, W, 3) uint8 pixels, rows L2-normalised."""
        embeddings: Tensor = self.backbone(images)
        return embeddings

    def trained_student(self) -> Student:
        """Returns an ordinary student of the weights as they are now, in floating point, on the CPU.

        Folded again, its weights are bit for bit those that this network rounds.
        """
        weights = {name: self._graph.state(name).detach().cpu() for name in _names_of_weights(self._graph)}
        (student,) = self._start
        return unfolded(student, self._graph.with_state(weights))


def _names_of_weights(graph: SiteGraph) -> set[str]:
    """Returns the names of all weights and biases that the graph computes with."""
    nodes: Iterable[Any] = graph.module.graph.nodes
    used = {str(node.target) for node in nodes if node.op == "get_attr"}
    return used.intersection(name for name, _ in graph.module.named_parameters())
