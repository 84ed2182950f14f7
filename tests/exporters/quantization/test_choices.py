"""What each step of quantization is worth: numbers that the network and numpy give by themselves."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from aml_edge.exporters.quantization import choices
from aml_edge.exporters.quantization.choices import STEPS, measure_draws, measure_steps
from aml_edge.exporters.quantization.query_set import QuerySet
from aml_edge.ground_truth import QueryGroundTruth
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.networks.deployable import DeployableStudent
from aml_edge.preprocessing import Fit
from aml_edge.quantization.fake_quantized import FakeQuantizedNetwork
from aml_edge.quantization.post_training import quantize_post_training
from aml_edge.quantization_record import Draw

Images = list[npt.NDArray[np.uint8]]


@pytest.fixture
def network(checkpoint: StudentCheckpoint) -> DeployableStudent:
    """The lively student as a file computes it."""
    return DeployableStudent(checkpoint.student, checkpoint.preprocessing)


@pytest.fixture
def queries(network: DeployableStudent, photographs: Images) -> QuerySet:
    """Photographs that ask for themselves among what the student says of them."""
    with torch.inference_mode():
        database = network(torch.from_numpy(np.stack(photographs))).numpy()
    truth = tuple(QueryGroundTruth((place,), (), ()) for place in range(len(photographs)))
    return QuerySet(tuple(photographs), truth, database)


def test_each_step_is_measured_against_floating_point(
    network: DeployableStudent, queries: QuerySet, calibration_crops: Images
) -> None:
    images = calibration_crops[:16]

    found = dict(measure_steps(network, images, queries))

    assert list(found) == list(STEPS)
    default = quantize_post_training(network, images)
    with torch.inference_mode():
        batch = torch.from_numpy(np.stack(queries.images))
        rows = FakeQuantizedNetwork(default.graph, default.quantization)(batch).double().numpy()
    before = queries.database.astype(np.float64)
    mean = before.mean(0)
    left, right = before - mean, rows - mean
    cosines = (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)
    report = found["all (the default)"]
    assert report.mean == pytest.approx(cosines.mean(), abs=2e-3)
    assert report.smallest == pytest.approx(cosines.min(), abs=5e-3)
    assert report.pair_error == pytest.approx(np.abs(before @ before.T - rows @ rows.T).max(), abs=2e-3)
    scores = rows @ before.T
    ranks = (scores > scores.diagonal()[:, None]).sum(1)  # of each photograph among all, from 0
    precisions = np.where(ranks == 0, 1.0, 0.5 / (ranks + 1))  # trapezoid under one positive
    assert report.drop.points == pytest.approx(100 * (1 - precisions.mean()))
    assert report.drop.queries == len(queries.images)
    assert found["stem in integers too"].mean < report.mean


def test_each_draw_is_measured_with_every_seed(
    checkpoint: StudentCheckpoint, queries: QuerySet, calibration_crops: Images, tmp_path: Path
) -> None:
    for number, crop in enumerate(calibration_crops[:20]):
        Image.fromarray(crop).save(tmp_path / f"{number}.png")
    side = calibration_crops[0].shape[0]
    fitted = checkpoint.preprocessing.fitted(Fit.SQUASH, side)
    square = StudentCheckpoint(checkpoint.student, "toy", checkpoint.space, fitted, trained=True)

    found = list(measure_draws(square, tmp_path, queries, 2))

    assert [(count, draw) for count, draw, _ in found] == [
        (32, Draw.RANDOM),
        (32, Draw.DIVERSE),
        (128, Draw.RANDOM),
        (128, Draw.DIVERSE),
    ]
    assert {len(reports) for _, _, reports in found} == {2}
    # of 20 images all are drawn, by whatever seed
    assert len({report for _, _, reports in found for report in reports}) == 1


def test_a_number_of_seeds_below_one_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["choices", "--index", "i", "--dataset", "d", "--calibrate-on", "c", "--draws", "-1"]
    monkeypatch.setattr(sys, "argv", given)
    with pytest.raises(SystemExit) as ending:
        choices.main()
    assert ending.value.code == 2
    assert capsys.readouterr().err == "error: `draws` is -1; it is how many seeds are drawn by: 1 or more.\n"
