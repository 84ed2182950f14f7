"""`aml-edge eval`: the rows that were asked for, with numbers worked out apart, and how wrong input ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from aml_edge.datasets.image_source import image_source
from aml_edge.datasets.loading import load_test_set
from aml_edge.datasets.synthetic.writing import SyntheticReport
from aml_edge.embedder import Embeddings, FakeEmbedder
from aml_edge.index import open_index
from aml_edge.index.building import IndexOptions, build_index
from aml_edge.networks import released
from aml_edge.networks.checkpoints import StudentCheckpoint, TeacherCheckpoint, save_student
from aml_edge.networks.foreign import read_published_whitening
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.networks.whitening import Whitening
from aml_edge.pixels import Box
from aml_edge.preprocessing import Preprocessing
from aml_edge.ranking import evaluate_revisited
from aml_edge.runtimes.checkpoint_embedders import teacher_embedder
from aml_edge.scales import PUBLISHED_SCALES, SINGLE_SCALE
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
    dataset = load_test_set(synthetic.test_root)
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


@pytest.fixture(scope="module")
def distractors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of thirty images of noise, made as the other one was."""
    folder, generator = tmp_path_factory.mktemp("distractors"), np.random.default_rng(0)
    (folder / "images").mkdir()
    for number in range(30):
        colour = generator.integers(0, 256, 3)
        Image.fromarray(np.tile(colour.astype(np.uint8), (64, 64, 1))).save(folder / "images" / f"far{number}.png")
    return build_index(ToyTeacher(SPACE, Preprocessing(64)), image_source(folder / "images"), folder / "ix").path


def test_distractors_follow_the_index_and_a_row_without_them_is_said(
    command_line: CommandLine, synthetic: SyntheticReport, index: Path, distractors: Path, runs: Path, toy_file: Path
) -> None:
    arguments = ("eval", "--index", index, "--dataset", synthetic.test_root, "--student", "first")
    ended = command_line(*arguments, "--artifact", toy_file, "--distractors", distractors, "--json", "with.json")
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert f"distractors: {distractors}, 64 px, native fit, scale 1, no whitening, 30 images" in lines
    assert (
        "student → student: on the data set's own 26 images alone, since no index of the distractors was made as its "
        "database is."
    ) in lines
    assert sum("+ 30" in line for line in lines) == 2
    report = json.loads((runs.parent / "with.json").read_text())
    assert [(row["queries"], row["database"], row["distractors"]) for row in report["rows"]] == [
        ("student", "student", 0),
        ("student", "teacher", 30),
        ("file", "teacher", 30),
    ]
    assert [(one["path"], one["count"]) for one in report["distractors"]] == [(str(distractors), 30)]
    dataset = load_test_set(synthetic.test_root)
    queries = np.stack([toy_row(item.path, item.box) for item in dataset.query_items])
    database = np.concatenate([open_index(path).embeddings for path in (index, distractors)])
    expected = evaluate_revisited(queries @ database.T, dataset.ground_truth).medium.mean_average_precision
    assert report["rows"][2]["report"]["medium"]["mean_average_precision"] == pytest.approx(expected, abs=0.01)
    usual = command_line(*arguments, "--artifact", toy_file)
    assert "distractors" not in usual.out


def test_distractors_that_fit_no_index_are_refused_before_any_work(
    command_line: CommandLine, synthetic: SyntheticReport, index: Path, tmp_path: Path, toy_file: Path
) -> None:
    other = build_index(ToyTeacher(SPACE, Preprocessing(32)), image_source(synthetic.test_root), tmp_path / "ix").path
    arguments = ("eval", "--dataset", synthetic.test_root, "--artifact", toy_file, "--index", index)
    ended = command_line(*arguments, "--distractors", other)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        f"error: the index {other} saw its images otherwise than the index {index} (image_side_px 32, not 64); one "
        "database is made in one way: build one of them again as the other.\n"
    )
    ended = command_line(*arguments, "--distractors", index)
    assert (ended.code, ended.out) == (1, "")
    assert f"the index {index} holds 26 images that an index before it holds too (" in ended.err


def test_a_folder_of_classes_is_judged_by_its_own_measures(
    command_line: CommandLine, toy_file: Path, tmp_path: Path
) -> None:
    """Each image asks all others; the four reds and the four blues find each other first."""
    for name, colour in (("red", (200, 20, 20)), ("blue", (20, 20, 200))):
        (tmp_path / "classes" / name).mkdir(parents=True)
        for number in range(4):
            picture = np.tile(np.array(colour, np.uint8) + np.uint8(number), (64, 64, 1))
            Image.fromarray(picture).save(tmp_path / "classes" / name / f"{number}.png")
    build_index(ToyTeacher(SPACE, Preprocessing(64)), image_source(tmp_path / "classes"), tmp_path / "ix")
    arguments = ("--index", tmp_path / "ix", "--dataset", tmp_path / "classes", "--artifact", toy_file)
    ended = command_line("eval", *arguments, "--json", tmp_path / "report.json")
    assert (ended.code, ended.err) == (0, "")
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["protocol"], report["queries"], report["database_images"]) == ("recall@k", 8, 8)
    (row,) = report["rows"]
    measures = {one["name"]: one["mean"] for one in row["report"]["measures"]}
    assert measures == {"recall@1": 1.0, "recall@2": 1.0, "recall@4": 1.0, "recall@8": 1.0, "MAP@R": 1.0}
    assert row["interval"] == {"low": 1.0, "high": 1.0}
    (line,) = [line for line in ended.out.splitlines() if line.startswith("file → teacher")]
    assert line.split()[3:] == ["8", "100.0", "[100.0,", "100.0]", "100.0", "100.0", "100.0", "100.0"]


def test_a_subset_that_is_not_there_is_one_line(
    command_line: CommandLine, synthetic: SyntheticReport, index: Path, toy_file: Path
) -> None:
    arguments = ("--index", index, "--dataset", synthetic.test_root, "--artifact", toy_file)
    ended = command_line("eval", *arguments, "--subset", "public")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: `subset` is 'public', but ")


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


@pytest.fixture(scope="module")
def plain_indexes(
    synthetic: SyntheticReport, tiny_teacher: TeacherCheckpoint, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """At one scale and at three, without whitening."""
    folder, paths = tmp_path_factory.mktemp("indexes"), []
    for name, scales in (("single", SINGLE_SCALE), ("several", PUBLISHED_SCALES)):
        embedder = teacher_embedder(tiny_teacher, Preprocessing(48), scales=scales)
        options = IndexOptions(scales=scales)
        paths.append(build_index(embedder, image_source(synthetic.test_root), folder / name, options).path)
    return paths[0], paths[1]


@pytest.fixture
def place(
    tmp_path: Path, tiny_teacher: TeacherCheckpoint, student_of_tiny: StudentCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A working folder with a run and two whitenings; a teacher that answers to "tiny" and has a whitening too."""
    generator = torch.Generator().manual_seed(0)
    for name in ("teacher.pth", "student.pth"):
        torch.save(
            {"m": torch.rand(1280, 1, generator=generator), "P": torch.randn(8, 1280, generator=generator)},
            tmp_path / name,
        )
    came = Whitening(torch.rand(1280, generator=generator), torch.randn(8, 1280, generator=generator))
    teachers = {"tiny": replace(tiny_teacher, whitenings={"sfm/ss": came, "sfm/ms": came})}
    monkeypatch.setattr(released, "resolve_teacher", lambda name, **_: teachers[name])
    save_student(student_of_tiny, tmp_path / "runs" / "mine")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def student_of_tiny(tiny_teacher: TeacherCheckpoint) -> StudentCheckpoint:
    network = Student(StudentSpec("mobilenetv2_035", 1280), seed=5).eval()
    return StudentCheckpoint(network, "mine", tiny_teacher.space(), Preprocessing(48), trained=True)


def test_single_and_multi_scale_without_and_with_whitening_in_one_table(
    command_line: CommandLine, synthetic: SyntheticReport, plain_indexes: tuple[Path, Path], place: Path
) -> None:
    single, several = plain_indexes
    asking = ("--teacher", "tiny", "--student", "mine", "--json", "report.json")
    layers = ("--whitening", "teacher.pth", "--student-whitening", "student.pth")
    ended = command_line(
        "eval", "--index", single, "--index", several, "--dataset", synthetic.test_root, *asking, *layers
    )
    assert (ended.code, ended.err) == (0, "")
    report = json.loads((place / "report.json").read_text())
    shares = [list(SINGLE_SCALE), list(PUBLISHED_SCALES)]
    assert [
        (one["path"], one["scales"], one["image_side_px"], one["whitening_sha256"]) for one in report["indexes"]
    ] == [
        (str(single), shares[0], 48, None),
        (str(several), shares[1], 48, None),
    ]
    sha256 = {name: read_published_whitening(place / f"{name}.pth").sha256 for name in ("teacher", "student")}
    assert [
        (row["queries"], row["database"], row["query_scales"], row["database_scales"], row["whitening"])
        for row in report["rows"]
    ] == [
        (queries, database, scales, scales, whose)
        for queries, database in (("teacher", "teacher"), ("student", "student"), ("student", "teacher"))
        for scales in shares
        for whose in (None, database)
    ]
    for row in report["rows"]:
        assert row["whitening_sha256"] == sha256.get(row["whitening"])
        for setting in ("easy", "medium", "hard"):
            interval = row[f"{setting}_interval"]
            assert interval["low"] <= row["report"][setting]["mean_average_precision"] <= interval["high"]
    lines = ended.out.splitlines()
    assert f"index: {single}, 48 px, native fit, scale 1, no whitening" in lines
    assert f"index: {several}, 48 px, native fit, scales 1, 0.7071, 0.5, no whitening" in lines
    assert [line.split()[1:3] for line in lines if " easy " in line] == [
        [scales, whose]
        for database in ("teacher", "student", "teacher")
        for scales in ("1", "1,.71,.5")
        for whose in ("–", database)
    ]


def test_scales_that_are_named_twice_give_rows_for_each(
    command_line: CommandLine, synthetic: SyntheticReport, plain_indexes: tuple[Path, Path], place: Path
) -> None:
    arguments = ("--index", plain_indexes[0], "--dataset", synthetic.test_root, "--student", "mine", "--json", "-")
    ended = command_line("eval", *arguments, "--scales", "1", "--scales", "1,0.5", "--scales", "1.0")
    assert ended.code == 0, ended.err
    assert [
        (row["database"], row["query_scales"], row["database_scales"]) for row in json.loads(ended.out)["rows"]
    ] == [
        ("student", [1.0], [1.0]),
        ("student", [1.0, 0.5], [1.0, 0.5]),
        ("teacher", [1.0], [1.0]),
        ("teacher", [1.0, 0.5], [1.0]),
    ]
    assert [line.split()[:4] for line in ended.err.splitlines() if "→ teacher" in line] == [
        ["→", "teacher", "medium", "2"],
        ["→", "teacher", "→", "1"],  # the database's own, below those of the queries
    ]


def test_a_whitening_that_came_with_the_teacher_is_named_by_its_training_set(
    command_line: CommandLine, synthetic: SyntheticReport, plain_indexes: tuple[Path, Path], place: Path
) -> None:
    arguments = ("--index", plain_indexes[1], "--dataset", synthetic.test_root, "--teacher", "tiny", "--json", "-")
    for name in ("sfm", "sfm/ms"):
        ended = command_line("eval", *arguments, "--whitening", name)
        assert [row["whitening"] for row in json.loads(ended.out)["rows"]] == [None, "teacher"]


def scales_refused(given: str) -> str:
    return (
        f"error: `scales` is {given!r}; they must be numbers above 0, at most 4, each once: "
        "give 1,0.7071,0.5 or published.\n"
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        *((("--scales", given), scales_refused(given)) for given in ("0", "-1", "nan", "abc", "", "4.5", "1,1", "1,")),
        (
            ("--student-whitening", "nowhere.pth"),
            "error: `student_whitening` is 'nowhere.pth', which is no file; make one: `aml-edge whitening`.\n",
        ),
        (
            ("--teacher", "tiny", "--student-whitening", "student.pth"),
            "error: `student_whitening` is 'student.pth', but no student is evaluated; add --student.\n",
        ),
        (
            ("--whitening", "nope"),
            "error: `whitening` is 'nope'; it must be a whitening's file, or one that came with the teacher: name it "
            "with --teacher.\n",
        ),
        (
            ("--teacher", "tiny", "--whitening", "nope"),
            "error: `whitening` is 'nope'; it must be a whitening's file, or one that came with the teacher: sfm/ss, "
            "sfm/ms.\n",
        ),
    ],
)
def test_scales_and_whitenings_that_cannot_be_are_one_line(
    command_line: CommandLine,
    synthetic: SyntheticReport,
    plain_indexes: tuple[Path, Path],
    place: Path,
    options: tuple[str, ...],
    said: str,
) -> None:
    ended = command_line("eval", "--index", plain_indexes[0], "--dataset", synthetic.test_root, *options)
    assert (ended.code, ended.out, ended.err) == (2, "", said)


def test_a_file_has_one_scale(
    command_line: CommandLine, synthetic: SyntheticReport, index: Path, toy_file: Path
) -> None:
    arguments = ("--index", index, "--dataset", synthetic.test_root, "--artifact", toy_file)
    ended = command_line("eval", *arguments, "--scales", "published")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "error: `scales` are given, but a file sees an image at one scale; add --student or --teacher.\n"
    )


def test_a_whitened_index_is_not_whitened_again(
    command_line: CommandLine, synthetic: SyntheticReport, tiny_teacher: TeacherCheckpoint, place: Path
) -> None:
    layer = read_published_whitening(place / "teacher.pth")
    embedder = teacher_embedder(tiny_teacher, Preprocessing(48), whitening=layer)
    build_index(embedder, image_source(synthetic.test_root), place / "ix", IndexOptions(layer))
    arguments = ("--index", "ix", "--dataset", synthetic.test_root, "--student", "mine")
    ended = command_line("eval", *arguments, "--whitening", "teacher.pth")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        f"error: `whitening` is 'teacher.pth', but the index ix is whitened already ({layer.sha256[:8]}); "
        "leave it out, or give an index that was built without.\n"
    )
    said = command_line("eval", *arguments)
    assert said.code == 0, said.err
    assert f"index: ix, 48 px, native fit, scale 1, whitening {layer.sha256[:8]}" in said.out.splitlines()
    assert [line.split()[2] for line in said.out.splitlines() if " easy " in line] == ["–", "teacher"]


def test_indexes_that_cannot_be_told_apart_are_refused(
    command_line: CommandLine, synthetic: SyntheticReport, plain_indexes: tuple[Path, Path], place: Path
) -> None:
    single = plain_indexes[0]
    arguments = ("--index", single, "--index", single, "--dataset", synthetic.test_root)
    ended = command_line("eval", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        f"error: `index` is {single} and {single}, which have the same scales and whitening; "
        "rows could not be told apart: evaluate them one by one.\n"
    )


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
        (("--artifact", "gone.onnx"), 2, "error: gone.onnx does not exist; `aml-edge export` makes one.\n"),
        (("--teacher", "nope"), 2, "error: `teacher` is 'nope'; it must be "),
        (
            ("--artifact", "gone.onnx", "--image-size", "200"),
            2,
            "error: `image_size` is 200, but it is the student's, and none is evaluated: a file has one size, and the "
            "teacher that of its index; leave it out, or add --student.\n",
        ),
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
    assert ended.err == f"error: {synthetic.train_root} (SfM) has no queries; give a data set to test on.\n"


def test_a_student_trained_alone_needs_no_index(
    command_line: CommandLine, synthetic: SyntheticReport, index: Path, runs: Path
) -> None:
    beside = command_line(
        "eval", "--index", index, "--dataset", synthetic.test_root, "--student", "first", "--json", "-"
    )
    alone = command_line("eval", "--dataset", synthetic.test_root, "--student", "first", "--json", "-")
    assert alone.code == 0, alone.err
    report = json.loads(alone.out)
    assert report["indexes"] == []
    assert report["rows"] == json.loads(beside.out)["rows"][:1]
    assert "index:" not in alone.err


@pytest.mark.parametrize(("option", "value"), [("teacher", "gem:vgg16"), ("artifact", "a.onnx"), ("whitening", "w")])
def test_what_is_compared_with_an_index_needs_one(
    command_line: CommandLine, synthetic: SyntheticReport, runs: Path, option: str, value: str
) -> None:
    ended = command_line("eval", "--dataset", synthetic.test_root, f"--{option}", value)
    assert ended.code == 2
    assert f"`{option}` is '{value}', but no index is given to compare it with; add --index." in ended.err
