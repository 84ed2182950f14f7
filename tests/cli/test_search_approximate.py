"""`aml-edge search --ann`: what an approximate index finds, with cosines of the rows, and what it does not find."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aml_edge.approximate.approximate_index import ApproximateIndex
from aml_edge.artifact import Artifact
from aml_edge.index import open_index
from aml_edge.search import TopK

Run = Callable[..., Any]


@pytest.fixture
def index(blob_index: Path, workplace: Path, command_line: Run) -> Path:
    """A copy of the index of 24 images, with two structures."""
    copied = Path(shutil.copytree(blob_index, workplace / "ix"))
    assert command_line("index", "approximate", copied, "--ann", "SQ4", "--ann", "IVF12,Flat:nprobe=1").code == 0
    return copied


@pytest.fixture
def exact(command_line: Run, artifact: Artifact, index: Path, blobs: Path) -> dict[str, dict[str, float]]:
    """The cosine of every image to each query."""
    ended = command_line(
        "search", blobs / "jpg", "--index", index, "--artifact", artifact.path, "-k", 24, "--json", "-"
    )
    return {
        answer["image"]: {one["id"]: one["similarity"] for one in answer["found"]} for answer in json.loads(ended.out)
    }


def test_finds_what_the_structure_finds_with_the_rows_cosines(
    command_line: Run, artifact: Artifact, index: Path, blobs: Path, exact: dict[str, dict[str, float]]
) -> None:
    query = blobs / "jpg" / "query_0.jpg"
    arguments = ("search", query, "--index", index, "--artifact", artifact.path, "-k", 5, "--json", "report.json")
    ended = command_line(*arguments, "--ann", "SQ4")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[0].endswith("; found and ranked by SQ4, cosines exact")
    (answer,) = json.loads(Path("report.json").read_text())
    assert [one["rank"] for one in answer["found"]] == [1, 2, 3, 4, 5]
    for one in answer["found"]:
        assert one["similarity"] == pytest.approx(exact[str(query)][one["id"]], abs=1e-6)


def test_lists_that_are_short_give_few_answers(
    command_line: Run, artifact: Artifact, index: Path, blobs: Path, exact: dict[str, dict[str, float]]
) -> None:
    arguments = ("search", blobs / "jpg", "--index", index, "--artifact", artifact.path, "--json", "report.json")
    ended = command_line(*arguments, "-k", 24, "--ann", "IVF12,Flat")
    assert (ended.code, ended.err) == (0, "")
    assert "; found and ranked by IVF12,Flat:nprobe=1, cosines exact" in ended.out
    opened, answers = open_index(index), json.loads(Path("report.json").read_text())
    rows = np.array([[exact[one["image"]][name] for name in opened.ids] for one in answers])  # (Q, M) cosines
    assert all(0 < len(one["found"]) < 24 for one in answers)
    for one, cosines in zip(answers, rows, strict=True):
        found = [opened.ids.index(name) for name in (image["id"] for image in one["found"])]
        assert cosines[found].tolist() == sorted(cosines[found].tolist(), reverse=True)  # Flat lists know the rows


def test_a_query_that_finds_nothing_is_said_to(
    command_line: Run, artifact: Artifact, index: Path, blobs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(self: ApproximateIndex, queries: Any, k: int) -> TopK:
        return TopK(np.full((len(queries), k), -1), np.full((len(queries), k), -np.inf, np.float32))

    monkeypatch.setattr(ApproximateIndex, "search", nothing)
    arguments = ("--index", index, "--artifact", artifact.path, "--ann", "SQ4", "-k", 2, "--json", "report.json")
    ended = command_line("search", blobs / "jpg", *arguments)  # a line for each of many
    assert ended.code == 0
    assert f"{blobs / 'jpg' / 'query_0.jpg'}  –" in ended.out.splitlines()
    assert json.loads(Path("report.json").read_text())[0]["found"] == []
    alone = command_line("search", blobs / "jpg" / "query_0.jpg", *arguments)  # a table
    assert alone.code == 0


@pytest.mark.parametrize(
    ("ann", "said"),
    [
        ("Flat", "`ann` is 'Flat', which the index ix does not have (it has IVF12,Flat; SQ4); make it: "),
        ("SQ4:nprobe=2", "`ann` is 'SQ4:nprobe=2', whose parameters FAISS does not take: "),
        ("../SQ4", "`ann` is '../SQ4'; it must be a string of FAISS's index factory"),
    ],
)
def test_wrong_usage(command_line: Run, artifact: Artifact, index: Path, blobs: Path, ann: str, said: str) -> None:
    ended = command_line("search", blobs, "--index", "ix", "--artifact", artifact.path, "--ann", ann)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"error: {said}")
