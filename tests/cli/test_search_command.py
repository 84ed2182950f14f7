"""`aml-edge search`: the nearest first, by a file or by a student, and how wrong input ends."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aml_edge.datasets.image_source import image_source
from aml_edge.embedder import Embeddings, FakeEmbedder
from aml_edge.index.building import IndexOptions, build_index
from aml_edge.networks import released
from aml_edge.networks.checkpoints import StudentCheckpoint, save_student
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.space import EmbeddingSpace

CommandLine = Callable[..., Any]
SPACE = EmbeddingSpace("toy", "0" * 64, 3)
COLOURS = {"red": (250, 10, 20), "green": (10, 240, 20), "blue": (20, 10, 230), "rose": (240, 90, 100)}


class MeanEmbedder(FakeEmbedder):
    """Says what the toy file says."""

    def embed(self, images: Any) -> Embeddings:
        rows = np.stack([np.asarray(image, np.float64).mean(axis=(0, 1)) + 1 for image in images])
        embeddings: Embeddings = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return embeddings


def cosine(left: tuple[int, int, int], right: tuple[int, int, int]) -> float:
    products = [(a + 1) * (b + 1) for a, b in zip(left, right, strict=True)]
    return sum(products) / math.hypot(*(a + 1 for a in left)) / math.hypot(*(b + 1 for b in right))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("search")
    (root / "colours").mkdir()
    for name, colour in COLOURS.items():
        Image.new("RGB", (30, 40), colour).save(root / "colours" / f"{name}.png")
    embedder = MeanEmbedder(SPACE, Preprocessing(40, Fit.SQUASH))
    return build_index(embedder, image_source(root / "colours"), root / "ix").path


@pytest.fixture
def query(tmp_path: Path) -> Path:
    path = tmp_path / "query [1].png"
    Image.new("RGB", (50, 50), (200, 150, 40)).save(path)
    return path


def test_a_file_finds_the_nearest_first(
    command_line: CommandLine, index: Path, toy_file: Path, query: Path, tmp_path: Path
) -> None:
    similarities = {f"{name}.png": cosine(colour, (200, 150, 40)) for name, colour in COLOURS.items()}
    expected = sorted(similarities, key=lambda name: -similarities[name])
    report = tmp_path / "report.json"
    ended = command_line("search", query, query, "--index", index, "--artifact", toy_file, "-k", 3, "--json", report)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[0] == f"queries by file {toy_file}, not run"
    assert ended.out.splitlines().count(str(query)) == 2
    (first, again) = json.loads(report.read_text())
    assert first == again
    assert first["image"] == str(query)
    assert [(one["rank"], one["id"]) for one in first["found"]] == list(enumerate(expected[:3], start=1))
    for one in first["found"]:
        assert one["similarity"] == pytest.approx(similarities[one["id"]], abs=1e-5)  # float32
    rows = [line.replace("│", " ").split() for line in ended.out.splitlines() if line.startswith("│")]
    assert rows == [[str(rank), name, f"{similarities[name]:.4f}"] for rank, name in enumerate(expected[:3], 1)] * 2


def test_no_more_is_found_than_there_is(command_line: CommandLine, index: Path, toy_file: Path, query: Path) -> None:
    ended = command_line("search", query, "--index", index, "--artifact", toy_file, "-k", 99, "--json", "-")
    (answer,) = json.loads(ended.out)
    assert len(answer["found"]) == len(COLOURS)
    assert "query [1].png" in ended.err


def test_a_student_asks_too_the_newest_run_s_where_none_is_named(
    command_line: CommandLine,
    index: Path,
    query: Path,
    toy_student: StudentCheckpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    save_student(toy_student, Path("runs") / "first")
    newest, named = (
        command_line("search", query, "--index", index, *student, "--json", "-")
        for student in ((), ("--student", "first"))
    )
    assert newest.code == 0, newest.err
    assert newest.out == named.out
    assert newest.err.startswith(f"queries by student toy ({toy_student.weights_sha256[:8]})\n")
    (answer,) = json.loads(newest.out)
    assert {one["id"] for one in answer["found"]} == {f"{name}.png" for name in COLOURS}
    found = [one["similarity"] for one in answer["found"]]
    assert found == sorted(found, reverse=True)


def test_scales_are_said_where_there_is_more_than_one_each(
    command_line: CommandLine,
    query: Path,
    toy_file: Path,
    toy_student: StudentCheckpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A student asks as the index was made; a file has one scale."""
    monkeypatch.chdir(tmp_path)
    save_student(toy_student, Path("runs") / "first")
    Path("colours").mkdir()
    Image.new("RGB", (30, 40), (9, 9, 99)).save("colours/blue.png")
    embedder = MeanEmbedder(SPACE, Preprocessing(40, Fit.SQUASH))
    build_index(embedder, image_source(Path("colours")), Path("ix"), IndexOptions(scales=(1.0, 0.5)))
    by_student = command_line("search", query, "--index", "ix", "--student", "first")
    assert by_student.out.splitlines()[0] == (
        f"queries by student toy ({toy_student.weights_sha256[:8]}), at scale 1, 0.5"
    )
    by_file = command_line("search", query, "--index", "ix", "--artifact", toy_file)
    assert by_file.out.splitlines()[0] == f"queries by file {toy_file}, not run, at scale 1; the index at 1, 0.5"


def test_a_published_student_is_taken_to_be_of_the_index_s_teacher(
    command_line: CommandLine,
    index: Path,
    query: Path,
    toy_student: StudentCheckpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its file does not say whose it is."""
    monkeypatch.setattr(
        released, "resolve_student", lambda name, *, space, progress: replace(toy_student, name=name, space=space)
    )
    ended = command_line("search", query, "--index", index, "--student", "published", "--json", "-")
    assert ended.code == 0, ended.err
    assert len(json.loads(ended.out)[0]["found"]) == len(COLOURS)


def test_a_student_of_another_teacher_is_refused(
    command_line: CommandLine, index: Path, query: Path, toy_student: StudentCheckpoint, tmp_path: Path
) -> None:
    other = replace(toy_student, name="stranger", space=replace(SPACE, teacher="another"))
    save_student(other, tmp_path / "run")
    ended = command_line("search", query, "--index", index, "--student", tmp_path / "run")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == (
        "error: student 'stranger' lives in another (00000000), 3-D, no whitening, but the index "
        f"{index} in toy (00000000), 3-D, no whitening (different teacher); "
        "compare only what was made for the same teacher.\n"
    )


def test_a_file_of_another_space_is_refused(
    command_line: CommandLine, toy_file: Path, query: Path, index: Path, tmp_path: Path
) -> None:
    embedder = MeanEmbedder(replace(SPACE, weights_sha256="2" * 64), Preprocessing(40, Fit.SQUASH))
    build_index(embedder, image_source(index.parent / "colours"), tmp_path / "other")
    ended = command_line("search", query, "--index", tmp_path / "other", "--artifact", toy_file)
    assert ended.code == 1
    assert ended.err.startswith("error: the file toy.onnx lives in toy (00000000), 3-D, no whitening, but the index ")
    assert "(different weights_sha256)" in ended.err


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("bad.jpg", b"no image", "it is no image, or of a format that is not read"),
        ("empty.png", b"", "the file is empty"),
    ],
)
def test_an_image_that_cannot_be_read_is_named(
    command_line: CommandLine,
    index: Path,
    toy_file: Path,
    query: Path,
    tmp_path: Path,
    name: str,
    content: bytes,
    reason: str,
) -> None:
    path, report = tmp_path / name, tmp_path / "report.json"
    path.write_bytes(content)
    folder = tmp_path / "a folder"
    folder.mkdir()
    ended = command_line("search", query, path, folder, "--index", index, "--artifact", toy_file, "--json", report)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.splitlines() == [
        "error: 2 of 3 images cannot be read; remove or replace them:",
        f"  {path}: {reason}",
        f"  {folder}: Is a directory",
    ]
    assert not report.exists()


def test_images_that_are_not_there_are_all_named(
    command_line: CommandLine, index: Path, toy_file: Path, query: Path
) -> None:
    arguments = ("--index", index, "--artifact", toy_file)
    one = command_line("search", query, "gone.png", *arguments)
    assert (one.code, one.out, one.err) == (2, "", "error: gone.png does not exist; name image files.\n")
    two = command_line("search", "gone.png", query, "gone too.jpg", *arguments)
    assert (two.code, two.err) == (2, "error: gone.png, gone too.jpg do not exist; name image files.\n")


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (
            ("--artifact", "a.onnx", "--student", "b"),
            2,
            "`artifact` and `student` are both given, but one of them embeds a query; give one.",
        ),
        (
            ("--runtime", "onnx"),
            2,
            "`runtime` is 'onnx', but a student runs in PyTorch; give a file with --artifact.",
        ),
        (("--artifact", "gone.onnx"), 2, "gone.onnx does not exist; `aml-edge export` makes one."),
        (
            ("--student", "nope"),
            2,
            "`student` is 'nope'; it must be a student's file, a run's folder, the name of a run in runs, or "
            "aml:NAME as released.",
        ),
    ],
)
def test_wrong_usage_is_one_line(
    command_line: CommandLine, index: Path, query: Path, options: tuple[str, ...], code: int, said: str
) -> None:
    ended = command_line("search", query, "--index", index, *options)
    assert (ended.code, ended.out, ended.err) == (code, "", f"error: {said}\n")


@pytest.mark.parametrize(("value", "said"), [(math.nan, "that is not finite"), (2.0, "of length 3.464, not 1")])
def test_an_embedding_that_cannot_be_one_is_an_error_and_no_answer(
    command_line: CommandLine, index: Path, toy_file: Path, query: Path, tmp_path: Path, value: float, said: str
) -> None:
    damaged = tmp_path / "ix"
    shutil.copytree(index, damaged)
    np.load(damaged / "embeddings.npy", mmap_mode="r+")[2] = value  # of (3,), so 2·√3 long
    ended = command_line("search", query, "--index", damaged, "--artifact", toy_file)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == (
        f"error: the index {damaged} holds an embedding {said}, for red.png; `aml-edge index verify {damaged}` finds "
        "all of them: copy the index again, or build it again.\n"
    )


def test_a_missing_index_is_said_first(command_line: CommandLine, tmp_path: Path) -> None:
    ended = command_line("search", "gone.png", "--index", tmp_path, "--student", "nope")
    assert ended.err.startswith(f"error: {tmp_path} holds no index")


@pytest.mark.parametrize("k", [0, -1, "many"])
def test_k_counts_images(command_line: CommandLine, k: object) -> None:
    assert command_line("search", "a.png", "--index", "ix", "-k", k).code == 2
