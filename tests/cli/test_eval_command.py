"""`aml-edge eval`: the rows that were asked for, with numbers worked out apart, and how wrong input ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aml_edge.datasets.image_source import image_source
from aml_edge.datasets.revisited import load_revisited
from aml_edge.datasets.synthetic.writing import SyntheticReport
from aml_edge.embedder import Embeddings, FakeEmbedder
from aml_edge.index_building import build_index
from aml_edge.networks import released
from aml_edge.networks.checkpoints import StudentCheckpoint, TeacherCheckpoint, save_student
from aml_edge.pixels import Box
from aml_edge.preprocessing import Preprocessing
from aml_edge.ranking import evaluate_revisited
from aml_edge.runtimes.checkpoint_embedders import teacher_embedder
from aml_edge.space import EmbeddingSpace

CommandLine = Callable[..., Any]
SPACE = EmbeddingSpace("toy", "0" * 64, 3)
SIDE = 40


def toy_row(path: Path, box: Box | None = None) -> Any:
    """What the toy file says of an image, but for the rounding of resized pixels."""
    with Image.open(path) as image:
        cropped = image if box is None else image.crop(box)
        square = cropped.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        row = np.asarray(square, np.float64).mean(axis=(0, 1)) + 1
    return row / np.linalg.norm(row)


class ToyTeacher(FakeEmbedder):
    """The toy file's function on whole images, so that its index fits the file."""

    def embed(self, images: Any) -> Embeddings:
        rows = np.stack([np.asarray(image, np.float64).mean(axis=(0, 1)) + 1 for image in images])
        embeddings: Embeddings = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return embeddings


@pytest.fixture(scope="module")
def index(synthetic: SyntheticReport, tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = image_source(synthetic.test_root)
    return build_index(ToyTeacher(SPACE, Preprocessing(64)), source, tmp_path_factory.mktemp("eval") / "ix").path


@pytest.fixture
def runs(tmp_path: Path, toy_student: StudentCheckpoint, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with one run."""
    monkeypatch.chdir(tmp_path)
    save_student(toy_student, tmp_path / "runs" / "first")
    return tmp_path / "runs"


def test_a_published_student_is_taken_to_be_of_the_index_s_teacher(
    command_line: CommandLine,
    synthetic: SyntheticReport,
    index: Path,
    toy_student: StudentCheckpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its file does not say whose it is."""
    monkeypatch.setattr(
        released, "resolve_student", lambda name, *, space, progress: replace(toy_student, name=name, space=space)
    )
    ended = command_line(
        "eval", "--index", index, "--dataset", synthetic.test_root, "--student", "published", "--json", "-"
    )
    assert ended.code == 0, ended.err
    assert [(row["queries"], row["database"]) for row in json.loads(ended.out)["rows"]] == [
        ("student", "student"),
        ("student", "teacher"),
    ]


def test_a_file_is_evaluated_against_the_index(
    command_line: CommandLine, synthetic: SyntheticReport, index: Path, toy_file: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    ended = command_line(
        "eval", "--index", index, "--dataset", synthetic.test_root, "--artifact", toy_file, "--json", report
    )
    assert (ended.code, ended.err) == (0, "")
    dataset = load_revisited(synthetic.test_root)
    queries = np.stack([toy_row(item.path, item.box) for item in dataset.query_items])
    database = np.stack([toy_row(item.path) for item in dataset.database_items])
    expected = evaluate_revisited(queries @ database.T, dataset.ground_truth)
    assert f"file: {toy_file}, 40 px, squash fit, not run" in ended.out.splitlines()
    numbers = json.loads(report.read_text())
    assert (numbers["dataset"], numbers["database_images"]) == ("synth", 26)
    assert numbers["indexes"][0]["space_fingerprint"] == SPACE.fingerprint
    (row,) = numbers["rows"]
    assert (row["queries"], row["database"]) == ("file", "teacher")
    # Resized by another filter, so near ties change places.
    medium = row["report"]["medium"]["mean_average_precision"]
    assert medium == pytest.approx(expected.medium.mean_average_precision, abs=0.01)
    lines = [line.split() for line in ended.out.splitlines() if " medium " in line]
    assert lines[0][:2] == ["medium", "2"]
    assert lines[0][2] == f"{100 * medium:.1f}"


def test_a_student_has_two_rows_and_the_newest_run_is_taken(
    command_line: CommandLine, synthetic: SyntheticReport, index: Path, runs: Path, toy_student: StudentCheckpoint
) -> None:
    ended = command_line("eval", "--index", index, "--dataset", synthetic.test_root)
    assert ended.code == 0, ended.err
    assert [line.split(":")[0] for line in ended.out.splitlines()[:3]] == [
        "queries, student",
        "database, student",
        "student",
    ]
    assert f"student: toy ({toy_student.weights_sha256[:8]}), 64 px, native fit" in ended.out.splitlines()
    assert "student → student" in ended.out
    assert "student → teacher" in ended.out
    assert "file" not in ended.out


def test_all_of_them_in_one_table(
    command_line: CommandLine,
    synthetic: SyntheticReport,
    tiny_teacher: TeacherCheckpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The teacher's own queries on its own database: as if one network embedded both."""
    monkeypatch.setattr(released, "resolve_teacher", lambda name, *, progress: {"tiny": tiny_teacher}[name])
    build_index(teacher_embedder(tiny_teacher, Preprocessing(48)), image_source(synthetic.test_root), tmp_path / "ix")
    arguments = ("--index", tmp_path / "ix", "--dataset", synthetic.test_root, "--teacher", "tiny", "--json", "-")
    ended = command_line("eval", *arguments)
    assert ended.code == 0, ended.err
    (row,) = json.loads(ended.out)["rows"]
    assert (row["queries"], row["database"]) == ("teacher", "teacher")
    assert "teacher → teacher" in ended.err


def test_a_size_is_the_student_s(
    command_line: CommandLine, synthetic: SyntheticReport, index: Path, runs: Path
) -> None:
    arguments = ("eval", "--index", index, "--dataset", synthetic.test_root, "--student", "first", "--json", "-")
    usual, same, smaller = (
        json.loads(command_line(*arguments, *size).out)["rows"]
        for size in ((), ("--image-size", 64), ("--image-size", 32))
    )
    assert usual == same
    assert usual != smaller


def test_an_index_of_another_teacher_is_refused(
    command_line: CommandLine, synthetic: SyntheticReport, runs: Path, tmp_path: Path
) -> None:
    embedder = ToyTeacher(replace(SPACE, teacher="another"), Preprocessing(64))
    build_index(embedder, image_source(synthetic.test_root), tmp_path / "ix")
    report = tmp_path / "report.json"
    ended = command_line("eval", "--index", tmp_path / "ix", "--dataset", synthetic.test_root, "--json", report)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == (
        "error: student 'toy' lives in toy (00000000), 3-D, no whitening, but the index "
        f"{tmp_path / 'ix'} in another (00000000), 3-D, no whitening (different teacher); "
        "compare only what was made for the same teacher.\n"
    )
    assert not report.exists()


def test_the_training_set_s_index_lacks_the_images(
    command_line: CommandLine, synthetic: SyntheticReport, runs: Path, tmp_path: Path
) -> None:
    build_index(ToyTeacher(SPACE, Preprocessing(64)), image_source(synthetic.train_root), tmp_path / "ix")
    ended = command_line("eval", "--index", tmp_path / "ix", "--dataset", synthetic.test_root)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith(f"error: index {tmp_path / 'ix'} lacks 26 of 26 images (jpg/")
    assert ended.err.endswith("…); build it from the folder that holds all of them: `aml-edge index build`.\n")


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--student", "nope"), 2, "error: `student` is 'nope'; it must be "),
        (("--artifact", "gone.onnx"), 1, "error: gone.onnx does not exist; `aml-edge export` makes one.\n"),
        (("--teacher", "nope"), 2, "error: `teacher` is 'nope'; it must be "),
        (("--image-size", "0"), 2, "error: `image_side_px` is 0; an image has at least one pixel.\n"),
    ],
)
def test_wrong_input_is_one_line(
    command_line: CommandLine,
    synthetic: SyntheticReport,
    index: Path,
    runs: Path,
    options: tuple[str, str],
    code: int,
    said: str,
) -> None:
    ended = command_line("eval", "--index", index, "--dataset", synthetic.test_root, *options)
    assert (ended.code, ended.out) == (code, "")
    assert ended.err.startswith(said)
    assert ended.err.count("\n") == 1


def test_a_folder_of_another_layout_is_refused(
    command_line: CommandLine, synthetic: SyntheticReport, index: Path
) -> None:
    ended = command_line("eval", "--index", index, "--dataset", synthetic.train_root)
    assert ended.code == 1
    assert ended.err == (
        f"error: {synthetic.train_root} holds 0 files gnd_*.pkl; "
        "a data set in the revisited layout has one, beside jpg/.\n"
    )
