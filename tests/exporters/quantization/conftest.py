"""A lively student ready for any choice of blocks in integers, the same with one block that integers ruin, queries."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from aml_edge.exporters.quantization.analysis import QuantizationAnalysis, QuantizedPart
from aml_edge.exporters.quantization.drift import SiteDrift
from aml_edge.exporters.quantization.query_set import QuerySet
from aml_edge.exporters.quantization.sensitivity import EmbeddingError
from aml_edge.ground_truth import QueryGroundTruth
from aml_edge.map_drop import Drop
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.networks.deployable import DeployableStudent
from aml_edge.quantization.fake_quantized import FakeQuantizedNetwork
from aml_edge.quantization.post_training import PostTraining, observed_for_quantization

Images = list[npt.NDArray[np.uint8]]

RUINED = "blocks.3.1"
CALIBRATING, ASKING, NOISE = 24, 24, 25


@dataclass(frozen=True, eq=False)
class Ruined:
    """A network that one block in integers ruins, and queries that it answers in floating point."""

    post_training: PostTraining
    block: str
    queries: QuerySet


@pytest.fixture(scope="session")
def post_training(checkpoint: StudentCheckpoint, calibration_crops: Images) -> PostTraining:
    """The lively student, observed on crops: float stem and head by its options."""
    network = DeployableStudent(checkpoint.student, checkpoint.preprocessing)
    return observed_for_quantization(network, calibration_crops[:CALIBRATING])


@pytest.fixture(scope="session")
def ruined(checkpoint: StudentCheckpoint, calibration_crops: Images) -> Ruined:
    """A channel that is always 0 meets weights a thousand times the others, which leave these none of the 255 steps.

    In floating point they change nothing. A query is a crop with noise; the database is what the network itself, in
    floating point, says of the crops.
    """
    student = copy.deepcopy(checkpoint.student)
    norm = student.get_submodule(f"backbone.trunk.{RUINED}.bn2")
    projection = student.get_submodule(f"backbone.trunk.{RUINED}.conv_pwl")
    assert isinstance(norm, nn.BatchNorm2d) and isinstance(projection, nn.Conv2d)
    with torch.no_grad():
        norm.weight[0], norm.bias[0] = 0.0, -1.0  # and a ReLU6 follows
        projection.weight[:, 0] = 100.0
    network = DeployableStudent(student, checkpoint.preprocessing)
    observed = observed_for_quantization(network, calibration_crops[:CALIBRATING])
    generator = np.random.default_rng(0)
    noisy = [
        np.clip(crop + generator.integers(-NOISE, NOISE + 1, crop.shape), 0, 255).astype(np.uint8)
        for crop in calibration_crops[:ASKING]
    ]
    with torch.inference_mode():
        database = FakeQuantizedNetwork(observed.graph, None)(torch.from_numpy(np.stack(calibration_crops))).numpy()
    truth = tuple(QueryGroundTruth((number,), (), ()) for number in range(ASKING))
    return Ruined(observed, RUINED, QuerySet(tuple(noisy), truth, database))


@pytest.fixture
def small_analysis() -> QuantizationAnalysis:
    """Of a network of three blocks."""
    lost, gained = Drop(0.21, -0.1, 0.53, 60), Drop(-0.04, -0.2, 0.1, 60)
    stem = QuantizedPart("conv_stem", True, EmbeddingError(0.99, 0.999, 0.01, 0.001), lost, None)
    block = QuantizedPart(
        "blocks.0.0", False, EmbeddingError(0.98, 0.998, 0.02, 0.002), gained, Drop(1.0, 0.5, 1.5, 50)
    )
    head = QuantizedPart("head", False, EmbeddingError(1.0, 1.0, 0.0, 0.0), gained, None)
    whole = QuantizedPart("as exported", False, EmbeddingError(0.97, 0.995, 0.03, 0.004), lost, None)
    return QuantizationAnalysis(
        images=80,
        queries=60,
        blocks=(stem, block, head),
        exported=whole,
        everything=QuantizedPart("all blocks", False, whole.error, lost, None),
        drift=(
            SiteDrift("conv_stem", "conv_stem", 1.0, 1.0, 0.05, 0.0),
            SiteDrift("blocks.0.0.conv_pw", "blocks.0.0", 2.0, 2.1, 0.125, 0.05),
            SiteDrift("blocks.0.0.conv_dw", "blocks.0.0", 2.0, 2.1, 0.06, 0.125),
            SiteDrift("embedding", "head", 0.125, 0.125, 0.029, 0.06),
        ),
        drift_images=16,
    )
