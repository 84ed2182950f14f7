"""Fits measured on pictures whose embeddings are known: colours that a fit keeps, and colours that it cuts off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import Tensor, nn

from aml_edge.benchmarks import fits
from aml_edge.benchmarks.fits import fits_table, measure_fits
from aml_edge.datasets.retrieval_dataset import RetrievalDataset
from aml_edge.image_loading import ImageItem
from aml_edge.index import TeacherIndex
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.ranking import QueryGroundTruth
from aml_edge.space import EmbeddingSpace

SIDE = 32
SPACE = EmbeddingSpace("toy", "a" * 64, 3)
PREPROCESSING = Preprocessing(SIDE, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


class MeanColour(nn.Module):
    """Embeds an image as its mean colour, L2-normalised."""

    def forward(self, images: Tensor) -> Tensor:
        """Returns (B, 3) of (B, 3, H, W)."""
        means = images.mean((2, 3))
        rows: Tensor = means / means.norm(dim=1, keepdim=True)
        return rows


@pytest.fixture
def dataset(tmp_path: Path) -> RetrievalDataset:
    """One query, 96×32, red at both ends and a little blue in the middle: only a centre-crop takes it for blue."""
    picture = np.zeros((32, 96, 3), np.uint8)
    picture[..., 0] = 200
    picture[:, 32:64] = (0, 0, 200)
    Image.fromarray(picture).save(tmp_path / "query.png")
    items = tuple(ImageItem(tmp_path / f"{name}.png") for name in ("red", "blue"))
    truth = (QueryGroundTruth((0,), (), ()),)
    return RetrievalDataset("toy", tmp_path, (ImageItem(tmp_path / "query.png"),), items, ("red", "blue"), truth)


@pytest.fixture
def index(tmp_path: Path) -> TeacherIndex:
    rows = np.array([[1, 0, 0], [0, 0, 1]], np.float32)
    return TeacherIndex(tmp_path, SPACE, PREPROCESSING, ("red", "blue"), rows, None)


def test_only_the_fit_that_cuts_the_ends_off_finds_the_wrong_image(
    dataset: RetrievalDataset, index: TeacherIndex
) -> None:
    student = StudentCheckpoint(MeanColour(), "toy", SPACE, PREPROCESSING, trained=True)  # type: ignore[arg-type]
    reports = {report.fit: report for report in measure_fits(student, index, dataset, SIDE)}
    assert list(reports) == list(Fit)
    # the positive second of two: precision goes from 0 to 1/2, so the trapezoid has an area of 1/4
    maps = {fit: report.report.medium.mean_average_precision for fit, report in reports.items()}
    assert maps == {Fit.NATIVE: 1.0, Fit.SQUASH: 1.0, Fit.LETTERBOX: 1.0, Fit.CENTER_CROP: 0.25}
    assert reports[Fit.CENTER_CROP].medium_loss == 0.75
    assert reports[Fit.CENTER_CROP].medium_loss_interval.low == 0.75  # of one query, each resample is that query
    assert reports[Fit.SQUASH].medium_loss == 0


def test_table_says_points_and_leaves_natives_own_loss_out(dataset: RetrievalDataset, index: TeacherIndex) -> None:
    student = StudentCheckpoint(MeanColour(), "toy", SPACE, PREPROCESSING, trained=True)  # type: ignore[arg-type]
    lines = fits_table(measure_fits(student, index, dataset, SIDE)).splitlines()
    assert lines[2] == "| native | 100.0 | 100.0 | – | – |"
    assert lines[5] == "| center-crop | 25.0 | 25.0 | – | 75.0 [75.0, 75.0] |"


def test_command_prints_the_table(
    dataset: RetrievalDataset,
    index: TeacherIndex,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    student = StudentCheckpoint(MeanColour(), "toy", SPACE, PREPROCESSING, trained=True)  # type: ignore[arg-type]
    found = {("mine", index.space): student}
    monkeypatch.setattr(fits, "resolve_student", lambda name, *, space: found[name, space])
    monkeypatch.setattr(fits, "open_index", lambda path: index)
    monkeypatch.setattr(fits, "load_test_set", lambda path: dataset)
    monkeypatch.setattr("sys.argv", ["fits", "--student", "mine", "--index", "i", "--dataset", "d"])
    fits.main()
    assert capsys.readouterr().out.startswith("student toy at 32 px, 1 queries of toy, asymmetric mAP\n\n| fit |")
