"""`aml-edge whitening`: what is learned and said, how wrong input ends, and the way from a teacher's index to eval."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aml_edge.datasets.image_source import image_source
from aml_edge.datasets.loading import load_test_set
from aml_edge.datasets.sfm import load_sfm
from aml_edge.datasets.synthetic.writing import SyntheticReport
from aml_edge.image_loading import embed_items
from aml_edge.index import TeacherIndex, open_index
from aml_edge.index.building import build_index
from aml_edge.networks import released
from aml_edge.networks.checkpoints import StudentCheckpoint, TeacherCheckpoint, save_student
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.networks.whitening_file import load_student_whitening, load_whitening
from aml_edge.networks.whitening_learning import learn_whitening, pca_whitening
from aml_edge.preprocessing import Preprocessing
from aml_edge.ranking import evaluate_revisited
from aml_edge.runtimes.checkpoint_embedders import student_embedder, teacher_embedder

CommandLine = Callable[..., Any]
PREPROCESSING = Preprocessing(48)


@pytest.fixture(scope="module")
def index(synthetic: SyntheticReport, tiny_teacher: TeacherCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The tiny teacher's, of the training images."""
    folder = tmp_path_factory.mktemp("indexes") / "train"
    return build_index(teacher_embedder(tiny_teacher, PREPROCESSING), image_source(synthetic.train_root), folder)


@pytest.fixture(scope="module")
def student(tiny_teacher: TeacherCheckpoint) -> StudentCheckpoint:
    """A student that was never trained, of the tiny teacher."""
    network = Student(StudentSpec("mobilenetv2_035", 1280), seed=3).eval()
    return StudentCheckpoint(network, "mine", tiny_teacher.space(), PREPROCESSING, trained=True)


@pytest.fixture
def workplace(student: StudentCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with the student's run."""
    save_student(student, tmp_path / "runs" / "mine")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def similarities(whitening: Any, queries: Any, database: Any) -> Any:
    """Of rows that are whitened here, in float64: y = P(x − m), L2-normalised."""
    mean, projection = whitening.mean.double().numpy(), whitening.projection.double().numpy()
    both = [(rows.astype(np.float64) - mean) @ projection.T for rows in (queries, database)]
    queries, database = (rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-6) for rows in both)
    return queries @ database.T


def test_a_teacher_s_is_learned_from_its_index(
    command_line: CommandLine,
    synthetic: SyntheticReport,
    index: TeacherIndex,
    tiny_teacher: TeacherCheckpoint,
    tmp_path: Path,
) -> None:
    out, report = tmp_path / "new" / "w.safetensors", tmp_path / "report.json"
    ended = command_line(
        "whitening", "--index", index.path, "--data", synthetic.train_root, "--out", out, "--json", report
    )
    assert (ended.code, ended.err) == (0, "")
    found = load_whitening(out)
    data = load_sfm(synthetic.train_root)
    rows = index.embeddings[index.rows_of(data.ids)]
    expected = learn_whitening(rows, data.query_rows, data.positive_rows)
    assert found.whitening.sha256 == expected.sha256
    pairs = len(data.query_rows)
    numbers = json.loads(report.read_text())
    assert (numbers["path"], numbers["dimension_before"], numbers["dimension"]) == (str(out), 1280, 1280)
    assert numbers["fingerprint"] == found.space.fingerprint
    assert numbers["space"] == found.space.to_json()
    assert numbers["whitening"] == {
        "whitening_sha256": expected.sha256,
        "kind": "learned",
        "network": "tiny",
        "weights_sha256": tiny_teacher.space().weights_sha256,
        "space": tiny_teacher.space().to_json(),
        "dataset": "synth",
        "rows": 6,
        "pairs": pairs,
        "regularisation": 1e-10,
    }
    lines = ended.out.splitlines()
    assert lines[0].startswith(f"covariances: {3 * pairs + 6}/{3 * pairs + 6}, ")
    assert lines[1:] == [
        str(out),
        "whitening     learned, 1280-D to 1280-D",
        f"SHA-256       {expected.sha256}",
        f"learned from  {pairs} pairs of 6 images of synth",
        f"follows       teacher 'tiny' ({tiny_teacher.space().weights_sha256[:8]})",
        f"space         {found.space.describe()}",
        f"fingerprint   {found.space.fingerprint}",
        "images that match differ in fewer directions than the embeddings have: 1e-10 was added to their covariance, "
        "as published. Compare with no whitening, with a larger --regularisation, and with more images.",
    ]


def test_pca_and_what_was_asked_for(
    command_line: CommandLine, synthetic: SyntheticReport, index: TeacherIndex, tmp_path: Path
) -> None:
    arguments = ("whitening", "--index", index.path, "--data", synthetic.train_root, "--dimension", 3)
    rows = index.embeddings[index.rows_of(load_sfm(synthetic.train_root).ids)]
    ended = command_line(*arguments, "--out", tmp_path / "pca", "--kind", "pca")
    assert (ended.code, ended.err) == (0, "")
    assert "learned from  6 images of synth" in ended.out.splitlines()
    assert load_whitening(tmp_path / "pca").whitening.sha256 == pca_whitening(rows, 3).sha256
    ended = command_line(*arguments, "--out", tmp_path / "learned", "--regularisation", 0.01)
    assert "images that match differ in fewer directions" not in ended.out
    found = load_whitening(tmp_path / "learned")
    assert (found.record.regularisation, found.whitening.dimension) == (0.01, 3)


def test_a_student_s_own_is_learned_from_the_images(
    command_line: CommandLine, synthetic: SyntheticReport, student: StudentCheckpoint, workplace: Path
) -> None:
    arguments = ("whitening", "--student", "mine", "--data", synthetic.train_root, "--image-size", 40)
    ended = command_line(*arguments, "--out", "w", "--json", "-")
    assert ended.code == 0, ended.err
    assert ended.err.splitlines()[0].startswith("embedding: 6/6, ")
    data = load_sfm(synthetic.train_root)
    rows = embed_items(student_embedder(student, replace(PREPROCESSING, image_side_px=40)), data.items)
    expected = learn_whitening(rows, data.query_rows, data.positive_rows)
    assert json.loads(ended.out)["whitening"]["whitening_sha256"] == expected.sha256
    assert load_student_whitening(Path("w"), student.weights_sha256, name="mine").sha256 == expected.sha256
    command_line(*arguments, "--out", "multi", "--scales", "1,0.5")
    assert load_whitening(Path("multi")).whitening.sha256 != expected.sha256


def test_learned_built_and_evaluated_the_teacher_s_whitening_is_on_both_sides(
    command_line: CommandLine,
    synthetic: SyntheticReport,
    index: TeacherIndex,
    tiny_teacher: TeacherCheckpoint,
    student: StudentCheckpoint,
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From a teacher's index of the training images to the mAP of a student's queries, by four commands."""
    monkeypatch.setattr(released, "resolve_teacher", lambda name, **_: tiny_teacher)
    root = synthetic.test_root
    for arguments in (
        ("whitening", "--index", index.path, "--data", synthetic.train_root, "--dimension", 4, "--out", "w"),
        (
            "index",
            "build",
            "--teacher",
            "tiny",
            "--images",
            root,
            "--whitening",
            "w",
            "--out",
            "ix",
            "--image-size",
            48,
        ),
    ):
        ended = command_line(*arguments)
        assert ended.code == 0, ended.err
    whitening = load_whitening(Path("w"))
    assert open_index(Path("ix")).space == whitening.space
    ended = command_line(
        "eval", "--index", "ix", "--dataset", root, "--student", "mine", "--teacher", "tiny", "--json", "-"
    )
    assert ended.code == 0, ended.err

    dataset = load_test_set(root)
    database = embed_items(teacher_embedder(tiny_teacher, PREPROCESSING), dataset.database_items)
    for row, embedder in (
        (("teacher", "teacher"), teacher_embedder(tiny_teacher, PREPROCESSING)),
        (("student", "teacher"), student_embedder(student, PREPROCESSING)),
    ):
        queries = embed_items(embedder, dataset.query_items)
        expected = evaluate_revisited(similarities(whitening.whitening, queries, database), dataset.ground_truth)
        plain = evaluate_revisited(queries @ database.T, dataset.ground_truth)
        assert abs(plain.medium.mean_average_precision - expected.medium.mean_average_precision) > 0.01
        (said,) = [one for one in json.loads(ended.out)["rows"] if (one["queries"], one["database"]) == row]
        assert said["report"]["medium"]["mean_average_precision"] == pytest.approx(
            expected.medium.mean_average_precision, abs=1e-3
        )


def test_a_student_s_whitening_is_refused_for_the_teacher_s_index(
    command_line: CommandLine,
    synthetic: SyntheticReport,
    tiny_teacher: TeacherCheckpoint,
    student: StudentCheckpoint,
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(released, "resolve_teacher", lambda name, **_: tiny_teacher)
    command_line("whitening", "--student", "mine", "--data", synthetic.train_root, "--out", "w")
    ended = command_line(
        "index", "build", "--teacher", "tiny", "--images", synthetic.test_root, "--whitening", "w", "--out", "ix"
    )
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == (
        f"error: the whitening w was learned for student 'mine' ({student.weights_sha256[:8]}), not for teacher 'tiny' "
        f"({tiny_teacher.space().weights_sha256[:8]}); learn one from that network's own embeddings: "
        "`aml-edge whitening`.\n"
    )
    assert not Path("ix").exists()


def test_a_file_is_not_replaced_unless_asked(
    command_line: CommandLine, synthetic: SyntheticReport, index: TeacherIndex, tmp_path: Path
) -> None:
    out = tmp_path / "w"
    out.write_text("precious")
    arguments = ("whitening", "--index", index.path, "--data", synthetic.train_root, "--out", out)
    ended = command_line(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (f"error: `out` is {out}, which is there already; name another file, or pass --overwrite.\n")
    assert out.read_text() == "precious"
    assert command_line(*arguments, "--overwrite").code == 0
    assert load_whitening(out).record.dataset == "synth"
    ended = command_line(*arguments[:-1], tmp_path, "--overwrite")
    assert ended.err == f"error: `out` is {tmp_path}, which is a folder; name a file in it.\n"


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ((), 2, "give `--index` for a teacher's whitening or `--student` for a student's own; one of the two.\n"),
        (("--index", "IX", "--student", "mine"), 2, "give `--index` for a teacher's whitening or `--student` for a"),
        (("--index", "nowhere"), 2, "nowhere holds no index (index.json is not there); make one: "),
        (("--student", "nobody"), 2, "`student` is 'nobody'; it must be "),
        (("--index", "IX", "--image-size", "40"), 2, "`--image-size` and `--scales` are the student's, and `--index` "),
        (("--index", "IX", "--scales", "1"), 2, "`--image-size` and `--scales` are the student's, and `--index` was "),
        (("--student", "mine", "--scales", "0"), 2, "`scales` is '0'; "),
        (("--student", "mine", "--image-size", "0"), 2, "`image_side_px` is 0; an image has at least one pixel.\n"),
        (("--index", "IX", "--dimension", "0"), 2, "`dimension` is 0; embeddings of 1280 values are whitened to 1 to "),
        (("--index", "IX", "--dimension", "1281"), 2, "`dimension` is 1281; embeddings of 1280 values are whitened to"),
        (("--index", "IX", "--regularisation", "-1"), 2, "`regularisation` is -1.0; it must be a number of at least 0"),
        (("--index", "IX", "--kind", "pca"), 2, "`dimension` is 1280, but the 6 rows vary in 5 directions only; ask "),
        (("--index", "IX", "--kind", "pca", "--regularisation", "1"), 2, "`regularisation` is 1.0 and `kind` 'pca'; "),
        (("--index", "IX", "--data", "TEST"), 1, "TEST does not say which of its images match; a learned whitening "),
        (("--index", "IX", "--data", "TEST", "--kind", "pca"), 1, "index IX lacks 26 of 26 images (jpg/"),
        (("--index", "IX", "--data", "nowhere"), 2, "nowhere is no folder; give the folder that holds the images.\n"),
    ],
)
def test_wrong_input_is_one_line_and_nothing_is_written(
    command_line: CommandLine,
    synthetic: SyntheticReport,
    index: TeacherIndex,
    workplace: Path,
    options: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    paths = {"IX": str(index.path), "TEST": str(synthetic.test_root)}
    given = tuple(paths.get(option, option) for option in options)
    data = () if "--data" in given else ("--data", synthetic.train_root)
    ended = command_line("whitening", *given, *data, "--out", "w")
    for name, path in paths.items():
        said = said.replace(name, path)
    assert ended.code == code
    assert ended.err.startswith(f"error: {said}")
    assert ended.err.count("\n") == 1
    assert not Path("w").exists()
