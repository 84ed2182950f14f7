"""Post-training quantization: calibration images prepare a student's weights for integers, and choose the integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aml_edge.networks.deployable import DeployableStudent
from aml_edge.pixels import Pixels
from aml_edge.progress import Progress
from aml_edge.quantization.bias_correction import bias_corrected
from aml_edge.quantization.dead_channels import with_biases_that_fit
from aml_edge.quantization.equalisation import equalised
from aml_edge.quantization.graph import HEAD, SiteGraph, site_graph
from aml_edge.quantization.observation import observe, quantization_of
from aml_edge.quantization.quantization import Quantization


@dataclass(frozen=True)
class PostTrainingOptions:
    """How a network is quantized after training.

    Args:
        activation_bits: 8 or 16.
        equalise: ranges across layers.
        correct_bias: of the layers that compute in integers.
        float_stem: leave the first block in floating point: an image's own 256 steps do not fit the integers of its
            normalised values, and the first convolution in floating point took no longer.
        float_head: leave what follows the adaptor in floating point.
        float_blocks: others to leave in floating point.
    """

    activation_bits: int = 8
    equalise: bool = True
    correct_bias: bool = True
    float_stem: bool = True
    float_head: bool = True
    float_blocks: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class QuantizedStudent:
    """A network with weights that were prepared for integers, and how it is stored in them.

    Args:
        graph: its `network` is what a converter takes; `FakeQuantizedNetwork` computes what the file will.
        quantization: which blocks compute in integers, and how each activation is stored.
    """

    graph: SiteGraph
    quantization: Quantization


def quantize_post_training(
    network: DeployableStudent,
    images: Sequence[Pixels],
    options: PostTrainingOptions | None = None,
    progress: Progress | None = None,
) -> QuantizedStudent:
    """Returns a network prepared for integers by what calibration images show; the same images give the same.

    Args:
        network: left as it is.
        images: (H, W, 3) uint8 each, of one square side.
        options: how.
        progress: where the passes are announced.

    Raises:
        QuantizationError: an activation is not finite, or a block to leave in floating point is not in the network.
    """
    options = options or PostTrainingOptions()
    graph = site_graph(network, images[0].shape[0])
    observations = observe(graph, images, progress)
    if options.equalise:
        graph = equalised(graph, observations)
        observations = observe(graph, images, progress)
    blocks = set(options.float_blocks)
    blocks |= {HEAD} if options.float_head else set()
    blocks |= {graph.blocks[0]} if options.float_stem else set()
    quantization = quantization_of(graph, observations, activation_bits=options.activation_bits).with_float(blocks)
    if options.correct_bias:
        graph = bias_corrected(graph, quantization, observations)
    return QuantizedStudent(with_biases_that_fit(graph, quantization), quantization)
