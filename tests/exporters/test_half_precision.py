"""Half precision must break a plain head and not the exported one."""

from __future__ import annotations

import copy

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from aml_edge.exporters.half_precision import HalfPrecisionEmbedder, record_head_range
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.networks.deployable import DeployableStudent
from aml_edge.networks.pooling import gem, l2_normalise
from aml_edge.networks.whitening import Whitening
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.space import EmbeddingSpace

Images = list[npt.NDArray[np.uint8]]
HALF_COSINE = 0.999
"""Some fifty layers, each result rounded to eleven bits; a head that overflowed or vanished is nowhere near."""


class PlainHeadStudent(DeployableStudent):
    """The same network with the head as the student has it, which is what a naive export would hold."""

    def head(self, features: Tensor) -> Tensor:
        return l2_normalise(gem(features, 3.0))


def scaled(checkpoint: StudentCheckpoint, factor: float, kind: type[DeployableStudent]) -> DeployableStudent:
    """Returns a network whose adaptor, and so whose features, are `factor` times as large: no change after L2."""
    student = copy.deepcopy(checkpoint.student)
    with torch.no_grad():
        student.adaptor.weight.mul_(factor)
    return kind(student, checkpoint.preprocessing)


def half_rows(network: DeployableStudent, space: EmbeddingSpace, images: Images) -> npt.NDArray[np.float32]:
    return HalfPrecisionEmbedder(network, space, Preprocessing(64, Fit.SQUASH)).embed(images)


def cosines(rows: npt.NDArray[np.float32], others: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Returns the cosine of each row with its counterpart; zero where a row is not finite or vanished."""
    left, right = rows.astype(np.float64), others.astype(np.float64)
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    usable = np.isfinite(lengths) & (lengths > 1e-3)
    return np.where(usable, (left * right).sum(axis=1) / np.where(usable, lengths, 1.0), 0.0)


@pytest.mark.parametrize("factor", [1.0, 10.0])
def test_the_exported_head_passes_at_any_scale(
    checkpoint: StudentCheckpoint, photographs: Images, student_rows: npt.NDArray[np.float32], factor: float
) -> None:
    rows = half_rows(scaled(checkpoint, factor, DeployableStudent), checkpoint.space, photographs)
    assert cosines(rows, student_rows).min() > HALF_COSINE


def test_a_plain_head_overflows_where_features_are_larger(
    checkpoint: StudentCheckpoint, photographs: Images, student_rows: npt.NDArray[np.float32]
) -> None:
    features_must_reach = 10 * 40.4  # x³ exceeds half precision above 40.3
    largest = record_head_range(
        DeployableStudent(checkpoint.student, checkpoint.preprocessing), photographs, Preprocessing(64, Fit.SQUASH)
    ).largest
    network = scaled(checkpoint, features_must_reach / largest, PlainHeadStudent)
    rows = half_rows(network, checkpoint.space, photographs)
    assert cosines(rows, student_rows).min() < 0.5


def test_a_plain_head_vanishes_where_features_are_smaller(
    checkpoint: StudentCheckpoint, photographs: Images, student_rows: npt.NDArray[np.float32]
) -> None:
    rows = half_rows(scaled(checkpoint, 0.01, PlainHeadStudent), checkpoint.space, photographs)
    assert cosines(rows, student_rows).min() < 0.9


def test_whitening_passes(
    checkpoint: StudentCheckpoint,
    whitening: Whitening,
    whitened_space: EmbeddingSpace,
    photographs: Images,
    whitened_rows: npt.NDArray[np.float64],
) -> None:
    network = DeployableStudent(checkpoint.student, checkpoint.preprocessing, whitening)
    rows = half_rows(network, whitened_space, photographs)
    # the common part of all embeddings, which held most of half's eleven bits, is gone
    assert cosines(rows, whitened_rows.astype(np.float32)).min() > 0.99


def test_weights_are_rounded_in_a_copy(checkpoint: StudentCheckpoint, photographs: Images) -> None:
    before = checkpoint.weights_sha256
    half_rows(DeployableStudent(checkpoint.student, checkpoint.preprocessing), checkpoint.space, photographs[:1])
    assert checkpoint.weights_sha256 == before


def test_head_range_is_that_of_the_features(checkpoint: StudentCheckpoint, photographs: Images) -> None:
    network = DeployableStudent(checkpoint.student, checkpoint.preprocessing)
    span = record_head_range(network, photographs, Preprocessing(64, Fit.SQUASH))
    with torch.inference_mode():
        features = torch.cat([network.features(torch.from_numpy(image)[None]) for image in photographs])
    assert span.largest == float(features.max())
    assert span.smallest_positive == float(features[features > 0].min())
    assert span.exponent == 3.0
    assert span.images == len(photographs)


@pytest.mark.parametrize(("factor", "plain_fits"), [(1.0, True), (10.0, False)])
def test_head_range_says_what_would_overflow(
    checkpoint: StudentCheckpoint, photographs: Images, factor: float, plain_fits: bool
) -> None:
    preprocessing = Preprocessing(64, Fit.SQUASH)
    network = DeployableStudent(checkpoint.student, checkpoint.preprocessing)
    at_limit = 40.0 / record_head_range(network, photographs, preprocessing).largest
    span = record_head_range(scaled(checkpoint, at_limit * factor, DeployableStudent), photographs, preprocessing)
    assert span.fits_half
    assert span.fits_half_when_raised is plain_fits
