"""Post-training quantization: calibration images prepare a student's weights for integers, and choose the integers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from aml_edge.errors import QuantizationError
from aml_edge.networks.deployable import DeployableStudent
from aml_edge.pixels import Pixels
from aml_edge.progress import Progress
from aml_edge.quantization.bias_correction import bias_corrected
from aml_edge.quantization.clipping import clipped_ranges
from aml_edge.quantization.dead_channels import with_biases_that_fit
from aml_edge.quantization.equalisation import equalised
from aml_edge.quantization.graph import HEAD, SiteGraph, site_graph
from aml_edge.quantization.observation import ActivationRange, Observations, observe, quantization_of
from aml_edge.quantization.quantization import Quantization
from aml_edge.quantization_record import CalibrationRecord, QuantizationMethod, QuantizationRecord

WHY_HEAD = "GeM and L2 take powers and divide by small numbers, for which 256 steps are too few"
WHY_STEM = "an image's own 256 steps do not fit those of its normalised values, and floating point took no longer"
WHY_ASKED = "asked for"
CLIPPED_BITS = 8


@dataclass(frozen=True)
class PostTrainingOptions:
    """How a network is quantized after training.

    Args:
        activation_bits: 8 or 16.
        equalise: ranges across layers.
        correct_bias: of the layers that compute in integers.
        clip: leave the rarest values of an activation out of its range; of 8 bits only, since 16 have steps to spare.
        float_stem: leave the first block in floating point: an image's own 256 steps do not fit the integers of its
            normalised values, and the first convolution in floating point took no longer.
        float_head: leave what follows the adaptor in floating point.
        float_blocks: others to leave in floating point.
    """

    activation_bits: int = 8
    equalise: bool = True
    correct_bias: bool = True
    clip: bool = True
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


@dataclass(frozen=True, eq=False)
class PostTraining:
    """A network that was observed and equalised: from it, any choice of blocks is quantized without more images.

    Args:
        graph: the network in floating point, equalised where the options say so.
        observations: of `graph`.
        options: how it is quantized.
        ranges: of activations, by name, where they are not all that was observed.
    """

    graph: SiteGraph
    observations: Observations
    options: PostTrainingOptions
    ranges: Mapping[str, ActivationRange] = field(default_factory=dict)

    @property
    def float_blocks(self) -> frozenset[str]:
        """The blocks that the options leave in floating point."""
        stem = {self.graph.blocks[0]} if self.options.float_stem else set()
        head = {HEAD} if self.options.float_head else set()
        return self.options.float_blocks | stem | head

    def record(self, method: QuantizationMethod, calibration: CalibrationRecord) -> QuantizationRecord:
        """Returns what a manifest says of the network in integers: each block in floating point, in run order, and why.

        Args:
            method: how it goes on from here.
            calibration: the images that it was observed on.
        """
        by_default = {HEAD: WHY_HEAD} if self.options.float_head else {}
        by_default |= {self.graph.blocks[0]: WHY_STEM} if self.options.float_stem else {}
        blocks = [block for block in self.graph.blocks if block in self.float_blocks]
        return QuantizationRecord(
            method=method,
            calibration=calibration,
            float_blocks={block: by_default.get(block, WHY_ASKED) for block in blocks},
            equalised=self.options.equalise,
            bias_corrected=self.options.correct_bias,
            activation_bits=self.options.activation_bits,
            clipped=bool(self.ranges),
        )

    def quantized(self, float_blocks: Iterable[str] | None = None) -> QuantizedStudent:
        """Returns the network prepared for integers in all blocks but some.

        Args:
            float_blocks: these and no others stay in floating point; None for those of the options.

        Raises:
            QuantizationError: the network has no such block.
        """
        blocks = self.float_blocks if float_blocks is None else float_blocks
        bits = self.options.activation_bits
        everywhere = quantization_of(self.graph, self.observations, ranges=self.ranges, activation_bits=bits)
        quantization = everywhere.with_float(blocks)
        graph = self.graph
        if self.options.correct_bias:
            graph = bias_corrected(graph, quantization, self.observations)
        return QuantizedStudent(with_biases_that_fit(graph, quantization), quantization)


def observed_for_quantization(
    network: DeployableStudent,
    images: Sequence[Pixels],
    options: PostTrainingOptions | None = None,
    progress: Progress | None = None,
) -> PostTraining:
    """Returns a network after all that needs images; the same images give the same.

    Args:
        network: left as it is.
        images: (H, W, 3) uint8 each, of one square side.
        options: how it will be quantized.
        progress: where the passes are announced.

    Raises:
        QuantizationError: there is no image, they are not of one square, or an activation is not finite.
    """
    if not images:
        raise QuantizationError("`images` is empty; ranges are seen on images: give some to calibrate on.")
    side = images[0].shape[0]
    odd = next((image.shape for image in images if image.shape != (side, side, 3)), None)
    if odd is not None:
        raise QuantizationError(
            f"`images` has one of shape {odd}; all calibration images are of one square, as the file takes it, here "
            f"{(side, side, 3)}: fit them first."
        )
    options = options or PostTrainingOptions()
    graph = site_graph(network, side)
    observations: Observations = observe(graph, images, progress)
    if options.equalise:
        after = equalised(graph, observations)
        graph, observations = after.graph, after.observations
    clips = options.clip and options.activation_bits == CLIPPED_BITS
    ranges = clipped_ranges(graph, observations, images, progress) if clips else {}
    return PostTraining(graph, observations, options, ranges)


def quantize_post_training(
    network: DeployableStudent,
    images: Sequence[Pixels],
    options: PostTrainingOptions | None = None,
    progress: Progress | None = None,
) -> QuantizedStudent:
    """Returns a network prepared for integers by what calibration images show.

    Args:
        network, images, options, progress: as of `observed_for_quantization`.

    Raises:
        QuantizationError: an activation is not finite, or a block to leave in floating point is not in the network.
    """
    return observed_for_quantization(network, images, options, progress).quantized()
