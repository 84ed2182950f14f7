"""`aml-edge verify --ann`: what approximation costs beside what the export costs; judged only where it is asked for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aml_edge.artifact import Artifact, Verdict
from aml_edge.formats import read_artifact

Run = Callable[..., Any]


@pytest.fixture
def index(blob_index: Path, workplace: Path, command_line: Run) -> Path:
    """A copy of the index of 24 images, with two structures."""
    copied = Path(shutil.copytree(blob_index, workplace / "ix"))
    assert command_line("index", "approximate", copied, "--ann", "Flat", "--ann", "IVF8,Flat").code == 0
    return copied


def test_reports_approximation_beside_the_export(
    command_line: Run, artifact: Artifact, index: Path, blobs: Path
) -> None:
    ended = command_line(
        *("verify", artifact.path, "--index", index, "--dataset", blobs, "--json", "report.json"),
        *("--ann", "Flat", "--ann", "IVF8,Flat"),
    )
    assert ended.code == 0, ended.out + ended.err
    titles = (
        "5  Operators",
        "6  Approximate search, Flat, beside exact search by the file",
        "asked for 24 of 24 images; what is not returned counts as never found; [95 % over queries]",
        "share of the first 10 that is found",
        "6  Approximate search, IVF8,Flat:nprobe=1, beside exact search by the file",
        "VERIFIED",
    )
    places = [ended.out.index(title) for title in titles]
    assert places == sorted(places)
    (verification,) = json.loads(Path("report.json").read_text())
    report = verification["report"]
    flat, lists = report["approximation"]
    file = report["retrieval"]["medium"]["artifact"]
    assert [one["ann"] for one in (flat, lists)] == ["Flat", "IVF8,Flat:nprobe=1"]
    assert flat["measures"][1]["name"] == "medium mAP"
    assert flat["measures"][1]["exact"] == pytest.approx(file, abs=1e-12)
    assert flat["measures"][1]["difference"] == 0
    assert flat["queries"] == 30
    assert flat["found"] == [{"k": 10, "mean": 1.0, "smallest": 1.0}]
    assert lists["found"][0]["mean"] < 1
    assert not [check for check in verification["checks"] if check["key"].startswith("ann")]
    assert read_artifact(artifact.path).manifest.verdict is Verdict.VERIFIED


def test_images_without_ground_truth_are_searched_with_too(
    command_line: Run, artifact: Artifact, index: Path, blobs: Path
) -> None:
    ended = command_line("verify", artifact.path, "--index", index, "--images", blobs, "--ann", "Flat")
    assert ended.code == 0, ended.out + ended.err
    section = " ".join(ended.out[ended.out.index("6  Approximate search") :].split())
    assert "share of the first 10 that is found 1.0000 1.0000" in section
    assert "returned" not in section


def test_a_tolerance_judges_it(command_line: Run, artifact: Artifact, index: Path, blobs: Path) -> None:
    arguments = ("verify", artifact.path, "--index", index, "--dataset", blobs, "--ann")
    kept = command_line(*arguments, "Flat", "--ann-overlap", 0.99, "--ann-map-loss-points", 0)
    assert kept.code == 0, kept.out + kept.err
    assert kept.out.count("mean ≥ 0.99 kept") == 2  # of the file, and of this
    assert kept.out.count("≥ 0 kept") == 3  # easy, medium, hard
    note = read_artifact(artifact.path).manifest.verdict_reason or ""
    assert note.endswith(", tolerance ann_map_loss_points set to 0, tolerance ann_overlap set to 0.99")
    missed = command_line(*arguments, "IVF8,Flat", "--ann-overlap", 0.99)
    assert missed.code == 3
    assert "− mean share of the first 10 that IVF8,Flat:nprobe=1 finds: 0." in missed.out
    assert read_artifact(artifact.path).manifest.verdict is Verdict.FAILED


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--ann-overlap", 0.9], "`ann_overlap` is 0.9, but nothing is searched approximately; add --ann."),
        (["--ann-map-loss-points", 1], "`ann_map_loss_points` is 1, but nothing is searched approximately; add --ann."),
        (
            ["--ann", "Flat", "--ann-map-loss-points", 101],
            "`ann_map_loss_points` is 101; a tolerance of this kind lies",
        ),
        (["--ann", "SQ8"], "`ann` is 'SQ8', which the index ix does not have (it has Flat; IVF8,Flat); make it: "),
    ],
)
def test_wrong_usage(
    command_line: Run, artifact: Artifact, index: Path, blobs: Path, arguments: list[Any], said: str
) -> None:
    ended = command_line("verify", artifact.path, "--index", "ix", "--dataset", blobs, *arguments)
    assert ended.code == 2
    assert ended.err.startswith(f"error: {said}")
