"""`PreparedStudent`: a student made ready for integers, with what the manifest of its file says of that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from aml_edge.artifact import Precision
from aml_edge.errors import QuantizationError
from aml_edge.exporters.export_spec import ExportSpec
from aml_edge.networks.deployable import DeployableStudent
from aml_edge.pixels import Pixels
from aml_edge.preprocessing import Preprocessing
from aml_edge.progress import Progress
from aml_edge.quantization.calibration import CalibrationSet
from aml_edge.quantization.dead_channels import with_biases_that_fit
from aml_edge.quantization.graph import site_graph
from aml_edge.quantization.post_training import (
    PostTraining,
    PostTrainingOptions,
    QuantizedStudent,
    observed_for_quantization,
)
from aml_edge.quantization.stored import StoredQuantization
from aml_edge.quantization_record import QuantizationMethod, QuantizationRecord, SearchRecord


@dataclass(frozen=True, eq=False)
class PreparedStudent:
    """A student ready for a file in integers.

    Args:
        quantized: what is exported.
        record: what the manifest says of it.
        images: that showed the ranges, (H, W, 3) uint8 each; none of a student that training prepared.
        post_training: from which other blocks can be chosen; None where training chose.
    """

    quantized: QuantizedStudent
    record: QuantizationRecord
    images: tuple[Pixels, ...] = ()
    post_training: PostTraining | None = None

    def with_chosen(self, blocks: Mapping[str, str], search: SearchRecord | None = None) -> PreparedStudent:
        """Returns the student with some more blocks in floating point.

        Args:
            blocks: name → why it stays.
            search: that chose them.
        """
        assert self.post_training is not None, "training has chosen the blocks"
        reasons = {**self.record.float_blocks, **blocks}
        record = replace(self.record, float_blocks=reasons, search=search)
        return replace(self, quantized=self.post_training.quantized(reasons), record=record)


def activation_bits(precision: Precision) -> int:
    """Returns the bits of an activation in a file of a calibrated precision."""
    return 16 if precision is Precision.INT8_INT16 else 8


def prepare(
    network: DeployableStudent,
    precision: Precision,
    calibration: CalibrationSet,
    options: PostTrainingOptions | None = None,
    progress: Progress | None = None,
) -> PreparedStudent:
    """Returns a student prepared by what calibration images show.

    Args:
        network: what the file computes, whitening included; left as it is.
        precision: a calibrated one, which says the bits of activations, whatever the options say.
        calibration: the images.
        options: how it is quantized.
        progress: where the passes are announced.

    Raises:
        QuantizationError: an activation is not finite, or the network has no such block.
    """
    options = replace(options or PostTrainingOptions(), activation_bits=activation_bits(precision))
    post_training = observed_for_quantization(network, calibration.images, options, progress)
    record = post_training.record(QuantizationMethod.POST_TRAINING, calibration.record)
    return PreparedStudent(post_training.quantized(), record, calibration.images, post_training)


def prepared_by_training(
    network: DeployableStudent, spec: ExportSpec, stored: StoredQuantization, trained_at: Preprocessing
) -> PreparedStudent:
    """Returns a student that was trained for its integers: its own weights, and the integers that were stored with it.

    Args:
        network: what the file computes, whitening included; left as it is.
        spec: of the file; its precision is a calibrated one.
        stored: with the student.
        trained_at: the student's own preprocessing.

    Raises:
        QuantizationError: it was trained for other bits, on images of another side or fit, or what is stored is not of
            this network.
    """
    bits = stored.record.activation_bits
    if bits != activation_bits(spec.precision):
        trained_for = Precision.INT8 if bits == 8 else Precision.INT8_INT16
        raise QuantizationError(
            f"`precision` is '{spec.precision}', but the student was trained for activations of {bits} bits; export it "
            f"as '{trained_for}', or quantize a student that was trained in floating point."
        )
    if (spec.image_side_px, spec.fit) != (trained_at.image_side_px, trained_at.fit):
        raise QuantizationError(
            f"`image_side_px` is {spec.image_side_px} and `fit` is '{spec.fit}', but the student was trained for its "
            f"integers at {trained_at.image_side_px} px and '{trained_at.fit}', which they hold for; export it so, or "
            "quantize a student that was trained in floating point."
        )
    graph = site_graph(network, spec.image_side_px)
    fitted = with_biases_that_fit(graph, stored.quantization)
    return PreparedStudent(QuantizedStudent(fitted, stored.quantization), stored.record)
