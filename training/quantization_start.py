"""`quantization_aware`: from a trained student and its training images to one that learns as its int8 file computes.

What post-training quantization does of some of the images (ranges, their equalisation, correction of biases) is where
the training starts.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from aml_edge.errors import ImageBatchError, ImageName, QuantizationError
from aml_edge.image_loading import LoadedImage, UnreadableImage, load_each
from aml_edge.index.images import encode_image_hashes
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.networks.deployable import DeployableStudent
from aml_edge.pixels import Pixels
from aml_edge.preprocessing import Preprocessing
from aml_edge.progress import Progress
from aml_edge.quantization.calibration import DEFAULT_COUNT, FEWEST_IMAGES
from aml_edge.quantization.post_training import observed_for_quantization
from aml_edge.quantization_record import CalibrationRecord, Draw, QuantizationMethod
from aml_edge.training.batches import LOADING_WORKERS
from aml_edge.training.quantization_aware import QuantizationAwareStudent
from aml_edge.training.training_set import TrainingSet


def quantization_aware(
    start: StudentCheckpoint, images: TrainingSet, data: Path, *, seed: int, progress: Progress
) -> QuantizationAwareStudent:
    """Returns a student prepared for integers on training images drawn by lot; the same seed gives the same.

    Args:
        start: trained, its preprocessing that of the file; left as it is.
        images: to draw from.
        data: where they came from, for the record.
        seed: of the draw.
        progress: where the work is announced.

    Raises:
        QuantizationError: there are too few distinct images, or an activation is not finite.
        ImageBatchError: images cannot be read; all of them are listed.
    """
    drawn, calibration = _calibration(images, start.preprocessing, data, seed=seed, progress=progress)
    network = DeployableStudent(start.student, start.preprocessing)
    post_training = observed_for_quantization(network, drawn, progress=progress)
    record = replace(post_training.record(QuantizationMethod.TRAINING, calibration), trained_from=start.weights_sha256)
    return QuantizationAwareStudent(start.student, post_training.quantized(), record)


def _calibration(
    images: TrainingSet, preprocessing: Preprocessing, data: Path, *, seed: int, progress: Progress
) -> tuple[list[Pixels], CalibrationRecord]:
    """Returns distinct images drawn by lot, in the order of the training set, and what a manifest says of them."""
    count = min(DEFAULT_COUNT, len(images.items))
    rows = np.sort(np.random.default_rng(seed).permutation(len(images.items))[:count])
    items = [images.items[row] for row in rows]
    distinct: dict[bytes, tuple[str, LoadedImage]] = {}
    failures: list[tuple[ImageName, str]] = []
    with progress.task("reading calibration images", count) as task:
        for item, loaded in zip(
            items, load_each(items, preprocessing, workers=LOADING_WORKERS, hashed=True), strict=True
        ):
            task.advance()
            if isinstance(loaded, UnreadableImage):
                failures.append((loaded.path, loaded.reason))
            else:
                distinct.setdefault(loaded.pixels.tobytes(), (item.path.name, loaded))
    if failures:
        raise ImageBatchError(failures, count)
    if len(distinct) < FEWEST_IMAGES:
        raise QuantizationError(
            f"`data` is {data}, of which {len(distinct)} distinct images were drawn to calibrate; fewer than "
            f"{FEWEST_IMAGES} do not show how far activations go: train on more images."
        )
    listed = sorted((name, loaded.sha256 or "") for name, loaded in distinct.values())
    content = encode_image_hashes([name for name, _ in listed], [sha256 for _, sha256 in listed])
    record = CalibrationRecord(str(data), len(distinct), seed, Draw.RANDOM, hashlib.sha256(content).hexdigest())
    return [loaded.pixels for _, loaded in distinct.values()], record
