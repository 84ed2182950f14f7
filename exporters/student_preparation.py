"""From a checkpoint to a student ready for integers: by calibration images, or by what training stored with it."""

from __future__ import annotations

from dataclasses import dataclass

from aml_edge.artifact import Artifact
from aml_edge.exporters.export_spec import ExportSpec
from aml_edge.exporters.preparation import PreparedStudent, prepare, prepared_by_training
from aml_edge.exporters.quantization.query_set import load_pixels_of
from aml_edge.exporters.simulation_agreement import measure_simulation, with_simulation
from aml_edge.image_loading import ImageItem
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.networks.deployable import DeployableStudent
from aml_edge.networks.whitening import Whitening
from aml_edge.progress import Progress, SilentProgress
from aml_edge.quantization.calibration import CalibrationOptions, calibration_images
from aml_edge.quantization.post_training import PostTrainingOptions
from aml_edge.quantization.stored import StoredQuantization
from aml_edge.runtimes.checkpoint_embedders import student_embedder


@dataclass(frozen=True)
class IntegerSettings:
    """What chooses a student's integers.

    Args:
        source: images and options, or what training stored.
        options: how it is quantized after training.
    """

    source: CalibrationOptions | StoredQuantization
    options: PostTrainingOptions


def prepare_student(
    checkpoint: StudentCheckpoint,
    spec: ExportSpec,
    whitening: Whitening | None,
    settings: IntegerSettings,
    progress: Progress | None = None,
) -> PreparedStudent:
    """Returns a student ready for the integers of a file.

    Args:
        checkpoint: the student.
        spec: of the file; its precision is a calibrated one.
        whitening: of the teacher's index, which the file computes too.
        settings: what chooses the integers.
        progress: where the work is announced.

    Raises:
        QuantizationError: too few images, an activation that is not finite, a block that the network has not, or
            integers that training chose for other bits or other images.
        ImageBatchError: calibration images cannot be read; all of them are listed.
    """
    progress = progress or SilentProgress()
    network = DeployableStudent(checkpoint.student, checkpoint.preprocessing, whitening)
    if isinstance(settings.source, StoredQuantization):
        return prepared_by_training(network, spec, settings.source, checkpoint.preprocessing)
    preprocessing = checkpoint.preprocessing.fitted(spec.fit, spec.image_side_px)
    embedder = student_embedder(checkpoint, preprocessing, whitening=whitening)
    calibration = calibration_images(settings.source, embedder, progress)
    return prepare(network, spec.precision, calibration, settings.options, progress)


def with_measured_simulation(
    artifact: Artifact, prepared: PreparedStudent, items: tuple[ImageItem, ...], progress: Progress | None = None
) -> Artifact:
    """Returns the artifact with how near it is to its simulation in its manifest, where there are images to say so.

    Args:
        artifact: the file.
        prepared: what it was made from.
        items: images to look at where no calibration images are at hand: training has none.
        progress: where the work is announced.

    Raises:
        ExportError: the file gives values that are not finite.
        MissingExtraError, RuntimeUnavailableError, ArtifactError: it cannot be run here, or not be written.
        ImageBatchError: images cannot be read; all of them are listed.
    """
    images = prepared.images or load_pixels_of(items, artifact.manifest.preprocessing, "reading images", progress)
    agreement = measure_simulation(artifact, prepared.quantized, images, progress)
    return artifact if agreement is None else with_simulation(artifact, agreement)
