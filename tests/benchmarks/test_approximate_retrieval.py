"""What a row's queries lose by approximate search, and how a report says it."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from aml_edge.approximate.building import build_approximate
from aml_edge.approximate.cost import ApproximationCost, FoundShare, MeasureCost
from aml_edge.approximate.searches import ApproximateSearches
from aml_edge.approximate.specification import ApproximateSpec
from aml_edge.artifact import Artifact
from aml_edge.benchmarks import search_tables, text_tables
from aml_edge.benchmarks.latency import LatencyReport
from aml_edge.benchmarks.markdown import format_markdown
from aml_edge.benchmarks.report import INCLUDES, BenchmarkReport
from aml_edge.benchmarks.retrieval import AnsweredQueries, GroundTruth, answer_queries
from aml_edge.benchmarks.search_latency import SearchReport, SearchTimes
from aml_edge.benchmarks.tables import render_benchmark
from aml_edge.bootstrap import Interval
from aml_edge.index import TeacherIndex
from aml_edge.progress import SilentProgress
from aml_edge.runtimes import open_artifact

OnnxFile = Callable[..., Artifact]
FLAT = ApproximateSpec("Flat")
COST = ApproximationCost(
    ann="IVF64,PQ16:nprobe=4",
    database_images=5000,
    depth=1000,
    queries=70,
    measures=(
        MeasureCost("easy mAP", 70, 0.5, 0.4875, -0.0125, Interval(-0.02, -0.0049)),
        MeasureCost("medium mAP", 70, 0.5, 0.5, 0.0, Interval(-0.001, 0.001)),
    ),
    found=(FoundShare(10, 0.9123, 0.5), FoundShare(100, 0.8, 0.3)),
)


@pytest.fixture
def on_disk(truth: GroundTruth, write_rows: Callable[..., TeacherIndex], tmp_path: Path) -> GroundTruth:
    """The same index as a folder with eleven images more, and a structure that finds everything."""
    far = np.array([[0, -np.cos(angle), -np.sin(angle)] for angle in np.linspace(0, 1, 11)], np.float32)
    rows = np.concatenate([truth.index.embeddings, far]).astype(np.float32)
    index = write_rows(tmp_path / "on disk", rows, teacher="toy teacher")
    build_approximate(index, FLAT)
    dataset = replace(truth.dataset, database_ids=index.ids[:4])
    return GroundTruth(index, dataset, ApproximateSearches((FLAT,)).open(index))


def answered(artifact: Artifact, truth: GroundTruth) -> AnsweredQueries:
    embedder = open_artifact(artifact, "onnxruntime", threads=1)
    try:
        return answer_queries(embedder, truth, SilentProgress(), "onnx")
    finally:
        embedder.close()


def test_a_structure_that_finds_everything_costs_nothing(
    onnx_file: OnnxFile, on_disk: GroundTruth, tmp_path: Path
) -> None:
    answer = answered(onnx_file(tmp_path / "a.onnx"), on_disk)
    (cost,) = answer.found.approximation
    assert [one.exact for one in cost.measures] == [answer.found.easy, answer.found.medium, answer.found.hard]
    assert [one.difference for one in cost.measures] == [0, 0, 0]
    assert [(one.k, one.mean) for one in cost.found] == [(10, 1.0)]
    first, second = (np.array(colour) / 255 + 1 for colour in ((200, 100, 0), (0, 100, 200)))
    assert answer.embeddings.shape == (2, 3)
    for row, colour in zip(answer.embeddings, (first, second), strict=True):
        assert float(row @ colour) > 0  # the file gives channel means plus one, in the order of the queries
    assert answer.embeddings[0, 0] > answer.embeddings[0, 2]
    assert answer.embeddings[1, 0] < answer.embeddings[1, 2]


def test_embeddings_that_are_not_finite_cost_nothing(onnx_file: OnnxFile, on_disk: GroundTruth, tmp_path: Path) -> None:
    answer = answered(onnx_file(tmp_path / "a.onnx", offset=math.nan), on_disk)
    assert answer.found.approximation == ()


@pytest.fixture
def searched(report: BenchmarkReport) -> BenchmarkReport:
    """The report with an approximate index."""
    (group,) = report.groups
    rows = tuple(
        row if row.retrieval is None else replace(row, retrieval=replace(row.retrieval, approximation=(COST,)))
        for row in group.rows[:3]
    )
    latency = LatencyReport(60, 1.0, 0.123, 0.456, 0.5, 0.1, 0.1)
    times = (SearchTimes("exact", 40_960_000, 2, 1.0, latency), SearchTimes(COST.ann, 400_000, 1, None, latency))
    search = SearchReport(5000, 2048, 70, 10, times)
    return replace(report, groups=(replace(group, rows=rows),), search=search, includes=INCLUDES)


def test_the_loss_is_a_line_for_each_row_and_index(searched: BenchmarkReport) -> None:
    (group,) = searched.groups
    table = search_tables.approximation_table(group)
    assert table is not None
    assert table.header == ("", "easy", "medium", "hard", "of 10")
    assert table.rows == (
        (
            "onnx fp32, onnxruntime, IVF64,PQ16:nprobe=4",
            "-1.25 [-2.00, -0.49]",
            "+0.00 [-0.10, +0.10]",
            "–",
            "0.912",
        ),
    )
    brief = search_tables.approximation_table(group, brief=True)
    assert brief is not None
    assert brief.rows[0][1:] == ("-1.25", "+0.00", "–", "0.912")
    assert search_tables.approximation_line(group, brief=True) == (
        "approximate − exact mAP, points, asked for 1000 of 5000 images"
    )
    assert search_tables.approximation_line(group) == (
        "approximate − exact mAP, points [95 % over queries], asked for 1000 of 5000 images"
    )


def test_searches_are_a_line_each(searched: BenchmarkReport) -> None:
    table = search_tables.search_table(searched)
    assert table is not None
    assert table.header == ("", "threads", "p50 ms", "p90", "recall@10", "MB")
    assert table.rows == (
        ("exact", "2", "0.12", "0.46", "1.000", "41.0"),
        ("IVF64,PQ16:nprobe=4", "1", "0.12", "0.46", "–", "0.4"),
    )
    assert search_tables.search_line(searched) == "search of the index, 5000 × 2048, 70 queries by turns, one a call"


def test_nothing_is_said_where_nothing_was_searched(report: BenchmarkReport, searched: BenchmarkReport) -> None:
    (group,) = report.groups
    assert (search_tables.approximation_table(group), search_tables.approximation_line(group)) == (None, None)
    assert (search_tables.search_table(report), search_tables.search_line(report)) == (None, None)
    names = [name for name, _ in text_tables.include_lines(searched)]
    assert {"mAP", "search"} < set(names)
    assert "search" not in [name for name, _ in text_tables.include_lines(replace(searched, search=None))]


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_shows_every_figure(searched: BenchmarkReport, width: int) -> None:
    console = Console(width=width, file=io.StringIO())
    console.print(render_benchmark(searched, width))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert all(len(line.rstrip()) <= width for line in lines)
    assert any("-1.25" in line and "0.912" in line for line in lines)
    assert any("exact" in line and "0.46" in line and "41.0" in line for line in lines)


def test_markdown_has_both_tables(searched: BenchmarkReport) -> None:
    text = format_markdown(searched)
    assert "| onnx fp32, onnxruntime, IVF64,PQ16:nprobe=4 | -1.25 [-2.00, -0.49] |" in text
    assert "| exact | 2 | 0.12 | 0.46 | 1.000 | 41.0 |" in text
