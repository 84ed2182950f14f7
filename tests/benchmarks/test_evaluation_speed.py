"""Measuring evaluation: both ways find the same, rows are what they are said to be, and every figure is printed."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aml_edge.benchmarks import evaluation_speed, evaluation_turns
from aml_edge.benchmarks.evaluation_data import (
    NEAR,
    EvaluationSize,
    files_of,
    ground_truth_of,
    open_or_make,
    queries_of,
)
from aml_edge.benchmarks.evaluation_speed import describe, largest_difference
from aml_edge.benchmarks.evaluation_turns import OurTurn, UsualTurn, our_turn, usual_turn
from aml_edge.benchmarks.usual_evaluation import evaluate_usually
from aml_edge.index.joined import JoinedIndex
from aml_edge.index.record import IndexDtype
from aml_edge.index.verification import require_verified, verify_index
from aml_edge.progress import SilentProgress
from aml_edge.ranking import QueryGroundTruth, evaluate_revisited

SIZE = EvaluationSize(rows=2000, dimension=64)


@pytest.fixture(scope="module", params=["float32", "float16"])
def index(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> JoinedIndex:
    dtype: IndexDtype = request.param
    return open_or_make(tmp_path_factory.mktemp("rows"), SIZE, dtype, SilentProgress())


def test_both_indexes_are_whole_and_are_made_once(index: JoinedIndex, progress: Any) -> None:
    assert [len(index.first.ids), index.distractors] == [1000, 1000]
    for part in (index.first, *index.others):
        require_verified(verify_index(part.path))
    before = [file.stat().st_mtime_ns for file in files_of(index)]
    dtype: IndexDtype = "float16" if index.first.embeddings.dtype == np.float16 else "float32"
    again = open_or_make(index.first.path.parent, SIZE, dtype, progress)
    assert [file.stat().st_mtime_ns for file in files_of(again)] == before
    assert progress.announced == []


def test_what_answers_a_query_is_planted(index: JoinedIndex) -> None:
    rows, truth = index.checked_embeddings[:], ground_truth_of(SIZE)
    assert len(truth) == len(queries_of(SIZE)) == 70
    similarities = queries_of(SIZE) @ rows.T
    assert rows.shape == (2000, 64)
    for row, one in zip(similarities, truth, strict=True):
        easy, hard = row[list(one.easy)].mean(), row[list(one.hard)].mean()
        assert easy > hard > row[1000:].mean()
        assert easy == pytest.approx(np.mean(NEAR["easy"]) * 0.75, abs=0.2)
    report = evaluate_revisited(similarities, truth)
    assert 0.05 < report.hard.mean_average_precision < report.easy.mean_average_precision < 0.999


def test_both_ways_find_the_same(index: JoinedIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_turns, "REPEATS", 1)
    monkeypatch.setattr(evaluation_turns, "BLOCK_ROWS", 300)
    ours, usual = our_turn(index, SIZE, 1 << 16), usual_turn(index, SIZE)
    assert largest_difference(ours, usual) < 1e-3  # products are rounded otherwise, so that neighbours may swap
    assert ours.whole_s > 0 and ours.product_s > 0 and usual.beyond_s == usual.sort_s + usual.loop_s


def test_the_usual_way_is_right_too() -> None:
    """Exact products, no ties: AP by both ways to the last digits."""
    generator = np.random.default_rng(0)
    scores = np.stack([generator.permutation(200) for _ in range(4)]).astype(np.float32)
    rows = [generator.permutation(200)[:60].tolist() for _ in scores]
    truth = [QueryGroundTruth(tuple(one[:20]), tuple(one[20:40]), tuple(one[40:])) for one in rows]
    truth[3] = replace(truth[3], hard=())
    found = evaluate_usually(np.eye(4, dtype=np.float32), np.ascontiguousarray(scores.T), truth)
    report = evaluate_revisited(scores, truth)
    for measured, expected in zip(found.average_precisions, (report.easy, report.medium, report.hard), strict=True):
        assert measured == pytest.approx(expected.average_precisions, abs=1e-12, nan_ok=True)
    assert math.isnan(found.average_precisions[2][3])


OURS = OurTurn(((0.5,),) * 3, 1.0, 1.25, 1.5, 1.75, 0.25, 2.0, 0.25, 4.0, 5.0, 500_000_000)
USUAL = UsualTurn(((0.5,), (0.5,), (0.75,)), 3.0, 1.0, 4.0, 1.0, 9_000_000_000)


def test_every_figure_is_said() -> None:
    text = describe([OURS, replace(OURS, whole_s=1.75, beyond_s=0.5)], [USUAL, USUAL], EvaluationSize(10**6, 2048), 4)
    assert text.splitlines() == [
        "ours: reading and product 1.25 (1.25 to 1.25) s, with ranks and measures 1.62 (1.50 to 1.75) s; beyond the "
        "product 0.38 (0.25 to 0.50) s, and 0.50 (0.50 to 0.50) s the first time, which checks every row; peak 0.50 GB",
        "usual: loading 3.00 (3.00 to 3.00) s, product 1.00 (1.00 to 1.00) s; sort 4.00 (4.00 to 4.00) s and loop "
        "1.00 (1.00 to 1.00) s beyond it; peak 9.00 GB",
        "beyond the product, ours is 15.0 (10.0 to 20.0) times as fast, the first time 10.0 (10.0 to 10.0)",
        "bounds: product alone 1.00 s, of which ours is 1.62 times; plain reading 2.00 s (4.1 GB/s, 25% of it from "
        "the disk)",
        "from the disk: plain reading 4.00 s (2.0 GB/s), ours 5.00 s, 1.25 times that",
        "AP of the two ways differ by at most 0.2",
    ]
    unknown = replace(OURS, from_disk=None, cold_reading_s=None, cold_whole_s=None, peak_bytes=None)
    text = describe([unknown], [USUAL], EvaluationSize(10**6, 2048), 2)
    assert "peak not known" in text
    assert "plain reading 2.00 s (2.0 GB/s, where from is not known)" in text
    assert "from the disk:" not in text


def test_the_command_takes_turns_in_processes_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "--folder",
        str(tmp_path),
        "--rows",
        "600",
        "--dimension",
        "16",
        "--rounds",
        "1",
        "--dtypes",
        "float16",
    ]
    ways: list[Sequence[str]] = []
    run = subprocess.run

    def watched(command: Sequence[str], **options: Any) -> Any:
        ways.append(command[command.index("--way") + 1])
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", watched)
    monkeypatch.setattr("sys.argv", ["evaluation_speed", *arguments])
    evaluation_speed.main()
    printed = capsys.readouterr().out.splitlines()
    assert ways == ["ours", "usual"]
    assert printed[0].startswith("70 queries × 600 × 16, ")
    assert printed[2] == "float16"
    assert printed[3].startswith("ours: reading and product ")
    assert {path.name for path in tmp_path.iterdir()} == {"first-600x16-float16", "distractors-600x16-float16"}
