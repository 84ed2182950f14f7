"""`aml-edge eval --ann`: approximate rows beside the exact ones, what approximation costs, and how wrong input ends."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aml_edge.approximate.approximate_index import open_approximate
from aml_edge.approximate.specification import ApproximateSpec
from aml_edge.datasets.loading import load_test_set
from aml_edge.embedded_sides import embed_queries
from aml_edge.index import open_index
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.progress import SilentProgress
from aml_edge.runtimes.checkpoint_embedders import student_embedder

CommandLine = Callable[..., Any]


@pytest.fixture
def index(blob_index: Path, workplace: Path, command_line: CommandLine) -> Path:
    """A copy of the index of 24 images, with two structures."""
    copied = Path(shutil.copytree(blob_index, workplace / "ix"))
    ended = command_line("index", "approximate", copied, "--ann", "Flat", "--ann", "IVF8,Flat:nprobe=1")
    assert ended.code == 0
    return copied


def test_says_what_approximation_costs(
    command_line: CommandLine, blobs: Path, index: Path, lively_student: StudentCheckpoint, tmp_path: Path
) -> None:
    out = tmp_path / "report.json"
    ended = command_line(
        "eval", "--index", index, "--dataset", blobs, "--ann", "Flat", "--ann", "IVF8,Flat", "--json", out
    )
    assert (ended.code, ended.err) == (0, "")
    own, exact, flat, lists = json.loads(out.read_text())["rows"]
    assert own["approximation"] is exact["approximation"] is None
    assert flat["report"] == exact["report"]
    assert [one["difference"] for one in flat["approximation"]["measures"]] == [0, 0, 0]
    assert (flat["approximation"]["ann"], flat["approximation"]["depth"]) == ("Flat", 24)
    assert lists["approximation"]["ann"] == "IVF8,Flat:nprobe=1"

    data, opened = load_test_set(blobs), open_index(index)
    queries = embed_queries(
        student_embedder(lively_student, lively_student.preprocessing), data, name="", progress=SilentProgress()
    )
    found = open_approximate(opened, ApproximateSpec("IVF8,Flat")).search(queries, 24).rows.tolist()
    places = {row: place for place, row in enumerate(opened.rows_of(data.database_ids).tolist())}
    for query, (rows, truth) in enumerate(zip(found, data.ground_truth, strict=True)):
        kept = [places[row] for row in rows if row >= 0 and places[row] not in (*truth.hard, *truth.junk)]
        value = lists["report"]["easy"]["average_precisions"][query]
        rank = kept.index(truth.easy[0]) if truth.easy[0] in kept else None
        precision = 0 if rank is None else ((0 if rank else 1) + 1 / (rank + 1)) / 2
        assert value == pytest.approx(precision, abs=1e-12)

    lines = [" ".join(line.split()) for line in ended.out.splitlines()]
    for start in ("student → teacher easy 6 ", "IVF8,Flat:nprobe=1 medium 6 ", "Flat medium 6 "):
        assert any(line.startswith(start) for line in lines), start
    below = lines[lines.index("measure N exact approximate difference [95 %]") :]
    head = below.index("IVF8,Flat:nprobe=1")
    assert (below[head - 1], below[head + 1]) == ("student → teacher", "asked for 24 of 24")
    cost = lists["approximation"]["measures"][0]
    numbers = [f"{100 * cost[name]:.1f}" for name in ("exact", "approximate")]
    assert below[head + 2].split()[:6] == ["easy", "mAP", "6", *numbers, f"{100 * cost['difference']:+.1f}"]


def test_a_row_can_be_compared_with_the_exact_one(
    command_line: CommandLine, blobs: Path, index: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report.json"
    command_line("eval", "--index", index, "--dataset", blobs, "--ann", "IVF8,Flat", "--ann-depth", 3, "--json", out)
    approximate = "student -> teacher, IVF8,Flat:nprobe=1"
    ended = command_line("compare", out, out, "--row", "student -> teacher", "--against", approximate)
    assert ended.code == 0
    assert json.loads(out.read_text())["rows"][2]["approximation"]["depth"] == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--ann", "SQ8"], "`ann` is 'SQ8', which the index {index} does not have (it has Flat; IVF8,Flat); make it: "),
        (["--ann", "Flat", "--ann-depth", 0], "`ann_depth` is 0; a search returns at least one image."),
        (["--ann-depth", 5], "`ann_depth` is 5, but nothing is searched approximately; add --ann."),
        (["--ann", "Flat:"], "`ann` is 'Flat:'; parameters follow the colon, e.g. Flat:nprobe=16."),
        (["--ann", "IVF8,Flat:x=1"], "`ann` is 'IVF8,Flat:x=1', whose parameters FAISS does not take: "),
    ],
)
def test_wrong_usage_ends_before_anything_is_embedded(
    command_line: CommandLine, blobs: Path, index: Path, arguments: list[Any], said: str
) -> None:
    ended = command_line("eval", "--index", index, "--dataset", blobs, *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: " + said.format(index=index))


def test_an_approximate_index_belongs_to_an_index(command_line: CommandLine, blobs: Path, workplace: Path) -> None:
    ended = command_line("eval", "--dataset", blobs, "--ann", "Flat")
    assert (ended.code, ended.err) == (
        2,
        "error: `ann` is 'Flat', but no index is given that has it; add --index.\n",
    )
