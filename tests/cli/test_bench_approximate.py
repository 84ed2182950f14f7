"""`aml-edge bench --ann`: what approximation costs each row, and how long a search takes."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aml_edge.artifact import Artifact
from aml_edge.benchmarks.suite import BenchmarkSettings
from aml_edge.benchmarks.worker import LocalWorker

Run = Callable[..., Any]
QUICK = ("--quick", "--threads", "1", "--runtime", "onnxruntime")


@pytest.fixture(autouse=True)
def rows_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU, and no process for each row."""
    monkeypatch.setattr("aml_edge.benchmarks.rows.cuda_devices", tuple)
    in_process = functools.partial(BenchmarkSettings, start_worker=LocalWorker)
    monkeypatch.setattr("aml_edge.benchmarks.suite.BenchmarkSettings", in_process)


def test_says_what_approximation_costs_and_how_long_a_search_takes(
    command_line: Run, artifact: Artifact, blob_index: Path, blobs: Path, workplace: Path
) -> None:
    index = Path(shutil.copytree(blob_index, workplace / "ix"))
    assert command_line("index", "approximate", index, "--ann", "Flat", "--ann", "IVF8,Flat").code == 0
    arguments = ("bench", artifact.path, *QUICK, "--index", index, "--dataset", blobs, "--json", "report.json")
    ended = command_line(*arguments, "--ann", "Flat", "--ann", "IVF8,Flat:nprobe=2", "--markdown", "report.md")
    assert ended.code == 0, ended.out + ended.err
    report = json.loads(Path("report.json").read_text())
    assert [one["name"] for one in report["search"]["times"]] == ["exact", "Flat", "IVF8,Flat:nprobe=2"]
    assert [one["recall"] for one in report["search"]["times"]][:2] == [1, 1]
    for row in report["groups"][0]["rows"]:
        flat, lists = row["retrieval"]["approximation"]
        assert [one["difference"] for one in flat["measures"]] == [0, 0, 0]
        assert flat["measures"][1]["exact"] == row["retrieval"]["medium"]
        assert lists["ann"] == "IVF8,Flat:nprobe=2"
    assert "approximate − exact mAP, points [95 % over queries], asked for 24 of 24 images" in ended.out
    assert "search of the index, 24 × 32, 6 queries by turns, one a call" in ended.out
    assert "recall@10" in Path("report.md").read_text()


def test_an_approximate_index_belongs_to_an_index(command_line: Run, artifact: Artifact) -> None:
    ended = command_line("bench", artifact.path, *QUICK, "--ann", "Flat")
    assert (ended.code, ended.err) == (
        2,
        "error: `ann` is 'Flat', but no index is given that has it; add --index.\n",
    )


def test_a_missing_one_is_said_before_anything_is_measured(
    command_line: Run, artifact: Artifact, blob_index: Path, blobs: Path
) -> None:
    ended = command_line("bench", artifact.path, *QUICK, "--index", blob_index, "--dataset", blobs, "--ann", "SQ8")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"error: `ann` is 'SQ8', which the index {blob_index} does not have (it has none); ")
