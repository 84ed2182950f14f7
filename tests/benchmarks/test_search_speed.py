"""The speed of searching: who is timed and how often, and that all find the same; times are the machine's."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from aml_edge.benchmarks import search_speed
from aml_edge.benchmarks.latency import summarise
from aml_edge.benchmarks.search_speed import SearchCase, SearchSpeed, measure_search_speed, numpy_top_k


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_all_are_timed_each_round_and_agree(tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_speed, "SAMPLE_ROWS", 64)
    speed = measure_search_speed(SearchCase(200, 8, dtype, 3, 5), 2, tmp_path)
    assert list(speed.reports) == [
        "top_k",
        "top_k, rows checked",
        "torch.topk(q @ d.T)",
        "numpy blocks",
        "q @ d.T alone",
    ]
    assert {report.runs for report in speed.reports.values()} == {2}
    assert speed.agreement == 1
    rows = np.load(tmp_path / "database.npy")
    assert (rows.shape, str(rows.dtype)) == ((200, 8), dtype)
    assert np.linalg.norm(rows.astype(np.float64), axis=1) == pytest.approx(np.ones(200), abs=1e-3)  # half precision


def test_numpy_sorts_whole_numbers_with_ties_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_speed, "NUMPY_BLOCK_VALUES", 40)
    generator = np.random.default_rng(0)
    queries, database = (generator.integers(-1, 2, (count, 3)).astype(np.float32) for count in (4, 50))
    products = queries @ database.T
    expected = [sorted(range(50), key=lambda row: (-values[row], row))[:7] for values in products]
    assert numpy_top_k(queries, database, 7).tolist() == expected


def test_the_command_prints_milliseconds(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[tuple[SearchCase, int]] = []

    def measured(case: SearchCase, rounds: int, folder: Path) -> SearchSpeed:
        asked.append((case, rounds))
        return SearchSpeed({"top_k": summarise([1_000_000, 3_000_000, 3_500_000])}, 0.5)

    monkeypatch.setattr(search_speed, "measure_search_speed", measured)
    monkeypatch.setattr(sys, "argv", ["search_speed", "--rows", "9", "--queries", "1", "2", "--dtype", "float16"])
    search_speed.main()
    assert asked == [(SearchCase(9, 2048, "float16", queries, 10), 15) for queries in (1, 2)]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("9 × 2048, k 10; 15 rounds after one untimed, ")
    assert lines[1] == "float16, 1 queries; 50.00% of places as torch.topk has them"
    assert lines[2] == "  top_k                       3.0 (3.4)      1.0"
