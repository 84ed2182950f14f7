"""`aml-edge verify`: what it prints, what it writes into the files, and the code it ends with."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aml_edge.artifact import Artifact, Verdict
from aml_edge.formats import FORMATS, read_artifact, write_manifest
from aml_edge.networks.checkpoints import StudentCheckpoint, save_student
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.space import untrained_space

Run = Callable[..., Any]


@pytest.fixture
def stranger(lively_student: StudentCheckpoint) -> StudentCheckpoint:
    """A student of the same teacher with other weights."""
    student = Student(StudentSpec("mobilenetv2_035", 32)).eval()
    return replace(lively_student, student=student, name="stranger")


def test_a_faithful_file_is_verified(command_line: Run, artifact: Artifact, blob_index: Path, blobs: Path) -> None:
    ended = command_line("verify", artifact.path, "--index", blob_index, "--dataset", blobs, "--json", "report.json")
    assert ended.code == 0, ended.out + ended.err
    assert ended.err == ""
    titles = (
        str(artifact.path),
        "Asymmetric mAP",
        "Ranking of the teacher's index",
        "Embeddings, cosine of",
        "student–teacher (distillation)",
        "file–teacher (and export)",
        "NaN or infinite",
        "Operators",
        "weights float32",
        "VERIFIED",
    )
    places = [ended.out.index(title) for title in titles]
    assert places == sorted(places)
    assert re.search(r"medium, 6 .* [+-]0\.\d\d \[[+-]0\.\d\d, [+-]0\.\d\d\] ", ended.out)
    manifest = read_artifact(artifact.path).manifest
    assert manifest.verdict is Verdict.VERIFIED
    assert manifest.verdict_reason == "onnxruntime cpu, 30 images of toy"
    assert json.loads(artifact.sidecar_path.read_text())["verdict"] == "verified"
    (report,) = json.loads(Path("report.json").read_text())
    assert report["judgement"] == {"verdict": "verified", "reasons": [], "warnings": []}
    assert (report["report"]["images"], report["report"]["ranking"]["database_images"]) == (30, 24)
    assert report["report"]["teacher"]["images"] == 24
    assert report["report"]["agreement"]["non_finite"] == 0


def test_a_narrow_terminal_loses_no_figure(
    command_line: Run, artifact: Artifact, blob_index: Path, blobs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    ended = command_line("verify", artifact.path, "--index", blob_index, "--dataset", blobs)
    assert ended.code == 0, ended.out + ended.err
    assert "…" not in ended.out
    assert ended.out.count(" kept") >= 11


def test_json_on_standard_output_is_alone_there(
    command_line: Run, artifact: Artifact, blob_index: Path, blobs: Path
) -> None:
    ended = command_line("verify", artifact.path, "--index", blob_index, "--images", blobs, "--json", "-")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)[0]["judgement"]["verdict"] == "verified"
    assert "VERIFIED" in ended.err
    assert "not run: no ground truth" in ended.err


def test_a_file_that_left_the_space_ends_with_three(
    command_line: Run, broken_artifact: Artifact, artifact: Artifact, blob_index: Path, blobs: Path
) -> None:
    paths = (broken_artifact.path, artifact.path)
    ended = command_line("verify", *paths, "--index", blob_index, "--dataset", blobs, "--json", "report.json")
    assert ended.code == 3
    assert ended.err == (f"error: {broken_artifact.path} failed verification, for the reasons above; do not ship it.\n")
    assert ended.out.index("FAILED") < ended.out.index("VERIFIED")
    assert "smallest centred cosine" in ended.out
    manifest = read_artifact(broken_artifact.path).manifest
    assert manifest.verdict is Verdict.FAILED
    assert "smallest cosine: " in manifest.verdict_reason
    assert json.loads(broken_artifact.sidecar_path.read_text())["verdict"] == "failed"
    assert read_artifact(artifact.path).manifest.verdict is Verdict.VERIFIED
    verdicts = [one["judgement"]["verdict"] for one in json.loads(Path("report.json").read_text())]
    assert verdicts == ["failed", "verified"]


def test_a_file_that_was_changed_is_verified_anew(
    command_line: Run, artifact: Artifact, broken_model: bytes, blob_index: Path, blobs: Path
) -> None:
    """With the verdict that the whole file had in it."""
    arguments = ("verify", artifact.path, "--index", blob_index, "--dataset", blobs)
    assert command_line(*arguments).code == 0
    verified = read_artifact(artifact.path)
    assert verified.standing == "verified"
    artifact.path.write_bytes(broken_model)
    write_into(artifact, verified.manifest.dumps())
    assert read_artifact(artifact.path).standing == "changed since it was verified"
    assert command_line(*arguments).code == 3
    assert read_artifact(artifact.path).standing == "failed"
    write_into(artifact, verified.manifest.dumps())  # the broken file claims to be verified again
    searched = command_line(
        "search", blobs / "jpg" / "query_0.jpg", "--index", blob_index, "--artifact", artifact.path, "-k", 1
    )
    assert searched.out.splitlines()[0] == f"queries by file {artifact.path}, changed since it was verified"
    evaluated = command_line("eval", "--index", blob_index, "--dataset", blobs, "--artifact", artifact.path)
    assert f"file: {artifact.path}, 64 px, letterbox fit, changed since it was verified" in evaluated.out.splitlines()


def write_into(artifact: Artifact, text: str) -> None:
    FORMATS[artifact.manifest.format].write_manifest(artifact.path, text)


def unloadable(artifact: Artifact) -> Path:
    """A copy of a file whose manifest can be read, but ONNX Runtime knows no such operator."""
    path = artifact.path.with_name("unknown operator.onnx")
    path.write_bytes(artifact.path.read_bytes().replace(b"\x04Conv", b"\x04Konv"))
    assert read_artifact(path).manifest == artifact.manifest
    return path


def test_files_that_cannot_be_loaded_are_listed_and_the_others_verified(
    command_line: Run, artifact: Artifact, blob_index: Path, blobs: Path
) -> None:
    Path("no model.onnx").write_bytes(b"no model")
    refused = (Path("no model.onnx"), unloadable(artifact))
    paths = (refused[0], artifact.path, refused[1])
    ended = command_line("verify", *paths, "--index", blob_index, "--dataset", blobs, "--json", "report.json")
    assert ended.code == 1
    assert ended.err == (
        f"error: {refused[0]}, {refused[1]}: no verdict was written into it, for the reasons above; put that right, "
        "then verify it again.\n"
    )
    places = [
        ended.out.index(said)
        for said in (
            "no model.onnx is not an ONNX file",
            "VERIFIED",
            f"{refused[1]} cannot be loaded by ONNX Runtime: ",
        )
    ]
    assert places == sorted(places)
    assert read_artifact(artifact.path).standing == "verified"
    verification, first, second = json.loads(Path("report.json").read_text())
    assert (verification["path"], verification["judgement"]["verdict"]) == (str(artifact.path), "verified")
    assert [first["path"], second["path"]] == [str(path) for path in refused]
    assert second["error"].startswith(f"{refused[1]} cannot be loaded by ONNX Runtime: ")


def test_a_failure_outranks_files_that_cannot_be_loaded(
    command_line: Run, artifact: Artifact, broken_artifact: Artifact, blob_index: Path, blobs: Path
) -> None:
    Path("no model.onnx").write_bytes(b"no model")
    paths = ("no model.onnx", broken_artifact.path)
    ended = command_line("verify", *paths, "--index", blob_index, "--dataset", blobs)
    assert ended.code == 3
    assert ended.err == f"error: {broken_artifact.path} failed verification, for the reasons above; do not ship it.\n"
    assert "no model.onnx is not an ONNX file" in ended.out


def test_one_file_that_cannot_be_loaded_is_one_line(
    command_line: Run, artifact: Artifact, blob_index: Path, blobs: Path
) -> None:
    path = unloadable(artifact)
    ended = command_line("verify", path, "--index", blob_index, "--dataset", blobs)
    assert ended.code == 1
    assert ended.err.startswith(f"error: {path} cannot be loaded by ONNX Runtime: ")
    assert "no verdict" not in ended.out + ended.err


def test_a_file_that_does_not_exist_is_said_before_anything_runs(
    command_line: Run, artifact: Artifact, blob_index: Path, blobs: Path
) -> None:
    ended = command_line("verify", artifact.path, "gone.onnx", "--index", blob_index, "--dataset", blobs)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "error: gone.onnx does not exist; `aml-edge export` makes one.\n"
    assert read_artifact(artifact.path).manifest.verdict is Verdict.NOT_RUN


@pytest.mark.parametrize(("broken", "code"), [(False, 1), (True, 3)])
def test_a_report_is_printed_before_it_is_said_that_the_verdict_cannot_be_written(
    command_line: Run,
    artifact: Artifact,
    broken_model: bytes,
    blob_index: Path,
    blobs: Path,
    monkeypatch: pytest.MonkeyPatch,
    broken: bool,
    code: int,
) -> None:
    def refuse(_: Artifact) -> None:
        raise PermissionError(13, "Permission denied")

    if broken:
        artifact.path.write_bytes(broken_model)
    monkeypatch.setattr("aml_edge.exporters.verdicts.write_manifest", refuse)
    paths = (artifact.path, Path(shutil.copy(artifact.path, "another.onnx")))
    ended = command_line("verify", *paths, "--index", blob_index, "--dataset", blobs, "--json", "report.json")
    assert ended.code == code
    verdict = "failed" if broken else "verified"
    told = [
        f"the verdict '{verdict}' cannot be written into {path}: Permission denied; make the file and its folder "
        "writable, then verify again."
        for path in paths
    ]
    lines = ended.out.splitlines()
    marks = [place for place, line in enumerate(lines) if line.startswith(verdict.upper())]
    places = [lines.index(line) for line in told]
    assert marks[0] < places[0] < marks[1] < places[1]
    if not broken:
        assert ended.err == (
            f"error: {paths[0]}, {paths[1]}: no verdict was written into it, for the reasons above; put that right, "
            "then verify it again.\n"
        )
    found = json.loads(Path("report.json").read_text())
    assert [one["judgement"]["verdict"] for one in found] == [verdict, verdict]
    assert [one["manifest"]["verdict"] for one in found] == ["not run", "not run"]


def test_without_images_nothing_is_known(command_line: Run, artifact: Artifact, blob_index: Path) -> None:
    ended = command_line("verify", artifact.path, "--index", blob_index)
    assert ended.code == 1
    assert ended.err == (
        f"error: {artifact.path}: not verified, for the reasons above, so nothing is known of it; a file that was not "
        "verified has neither passed nor failed.\n"
    )
    assert "no images were named, and pixels made up prove nothing; name real ones with --dataset or" in ended.out
    assert "NOT RUN" in ended.out
    assert read_artifact(artifact.path).manifest.verdict is Verdict.NOT_RUN


def test_a_file_of_an_untrained_student_is_not_command_line(
    command_line: Run, artifact: Artifact, blob_index: Path, blobs: Path
) -> None:
    space = untrained_space(32, artifact.manifest.weights_sha256)
    write_manifest(Artifact(artifact.path, replace(artifact.manifest, space=space)))
    ended = command_line("verify", artifact.path, "--index", blob_index, "--dataset", blobs)
    assert ended.code == 1
    reason = "untrained: the student has random weights, so the file is good for sizes and speeds only"
    assert reason in ended.out
    manifest = read_artifact(artifact.path).manifest
    assert (manifest.verdict, manifest.verdict_reason) == (Verdict.NOT_RUN, reason)


def test_too_few_images_prove_nothing_and_leave_an_earlier_verdict(
    command_line: Run, artifact: Artifact, blob_index: Path, blobs: Path
) -> None:
    proven = replace(artifact.manifest, verdict=Verdict.VERIFIED, verdict_reason="proven")
    proven = write_manifest(Artifact(artifact.path, proven)).manifest
    few = Path("few")
    few.mkdir()
    for view in sorted((blobs / "jpg").glob("view_*.jpg"))[:15]:
        shutil.copy(view, few)
    ended = command_line("verify", artifact.path, "--index", blob_index, "--images", few)
    assert ended.code == 1
    assert "too few images: 15 distinct ones of 15, 16 are needed; name a folder with more" in ended.out
    assert read_artifact(artifact.path).manifest == proven


def test_a_student_that_no_run_has_is_one_clear_line(
    command_line: Run, artifact: Artifact, workplace: Path, blob_index: Path, blobs: Path
) -> None:
    shutil.rmtree(workplace / "runs")
    ended = command_line("verify", artifact.path, "--index", blob_index, "--dataset", blobs)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        f"error: the file mine.onnx was made from student 'mine' (weights {artifact.manifest.weights_sha256[:8]}), "
        "which no run in runs has; name it with --student.\n"
    )


def test_the_student_is_found_by_weights_among_others_and_not_by_name(
    command_line: Run, artifact: Artifact, workplace: Path, stranger: StudentCheckpoint, blob_index: Path, blobs: Path
) -> None:
    (workplace / "runs" / "mine").rename(workplace / "runs" / "yesterday")
    save_student(stranger, workplace / "runs" / "mine")
    assert command_line("verify", artifact.path, "--index", blob_index, "--dataset", blobs).code == 0


def test_a_student_that_is_named_must_be_the_file_s(
    command_line: Run, artifact: Artifact, workplace: Path, stranger: StudentCheckpoint, blob_index: Path, blobs: Path
) -> None:
    save_student(stranger, workplace / "elsewhere")
    ended = command_line("verify", artifact.path, "--index", blob_index, "--dataset", blobs, "--student", "elsewhere")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        f"error: the file mine.onnx was made from student 'mine' (weights {artifact.manifest.weights_sha256[:8]}), "
        f"but student 'stranger' has weights {stranger.weights_sha256[:8]}; name the one it was made from with "
        "--student, or export it again.\n"
    )
    (workplace / "runs" / "mine").rename(workplace / "kept")
    assert (
        command_line("verify", artifact.path, "--index", blob_index, "--dataset", blobs, "--student", "kept").code == 0
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"teacher": "another"}, "teacher"),
        ({"weights_sha256": "b" * 64}, "weights_sha256"),
        ({"dimension": 16}, "dimension"),
        ({"whitening_sha256": "c" * 64}, "whitening_sha256"),
    ],
)
def test_a_file_of_another_space_is_refused_with_both_sides_named(
    command_line: Run, artifact: Artifact, blob_index: Path, blobs: Path, change: dict[str, Any], field: str
) -> None:
    ours = artifact.manifest.space
    foreign = replace(ours, **change)
    write_manifest(Artifact(artifact.path, replace(artifact.manifest, space=foreign)))
    ended = command_line("verify", artifact.path, "--index", blob_index, "--dataset", blobs)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == (
        f"error: the file mine.onnx lives in {foreign.describe()}, but the index {blob_index} in {ours.describe()} "
        f"(different {field}); compare only what was made for the same teacher.\n"
    )
    assert read_artifact(artifact.path).manifest.verdict is Verdict.NOT_RUN


def test_one_stranger_among_the_files_is_refused_before_anything_runs(
    command_line: Run, artifact: Artifact, broken_artifact: Artifact, blob_index: Path, blobs: Path
) -> None:
    foreign = replace(artifact.manifest.space, teacher="another")
    write_manifest(Artifact(broken_artifact.path, replace(artifact.manifest, space=foreign)))
    ended = command_line("verify", artifact.path, broken_artifact.path, "--index", blob_index, "--dataset", blobs)
    assert (ended.code, ended.out) == (1, "")
    assert read_artifact(artifact.path).manifest.verdict is Verdict.NOT_RUN


def test_unreadable_images_are_all_listed_or_left_out_where_told_to(
    command_line: Run, artifact: Artifact, workplace: Path, blob_index: Path, blobs: Path
) -> None:
    images = Path(shutil.copytree(blobs / "jpg", workplace / "images"))
    (images / "empty.jpg").touch()
    (images / "cut.jpg").write_bytes((images / "view_00.jpg").read_bytes()[:300])
    ended = command_line("verify", artifact.path, "--index", blob_index, "--images", images)
    assert ended.code == 1
    assert "error: 2 of 32 images cannot be read; remove or replace them, or pass --skip-unreadable:\n" in ended.err
    assert all(f"  {images / name}: " in ended.err for name in ("empty.jpg", "cut.jpg"))
    assert read_artifact(artifact.path).manifest.verdict is Verdict.NOT_RUN
    ended = command_line("verify", artifact.path, "--index", blob_index, "--images", images, "--skip-unreadable")
    assert ended.code == 0, ended.out
    assert "note: 2 images could not be read and were left out" in ended.out
    assert read_artifact(artifact.path).manifest.verdict_reason == f"onnxruntime cpu, 30 images of {images}"


def test_tolerances_reach_the_judgement(command_line: Run, artifact: Artifact, blob_index: Path, blobs: Path) -> None:
    common = ("verify", artifact.path, "--index", blob_index, "--dataset", blobs)
    ended = command_line(*common, "--pair-error", 0)
    assert ended.code == 3
    assert re.search(r"− largest error of a pair's similarity: \d.*e-0\d, at most 0 is allowed", ended.out)
    reason = read_artifact(artifact.path).manifest.verdict_reason
    assert reason.endswith("(onnxruntime cpu, 30 images of toy, tolerance pair_error set to 0)")
    assert command_line(*common, "--cosine", 0.5).code == 0
    reason = read_artifact(artifact.path).manifest.verdict_reason
    assert reason == "onnxruntime cpu, 30 images of toy, tolerance cosine set to 0.5"


def test_a_tolerance_that_cannot_be_is_refused(
    command_line: Run, artifact: Artifact, blob_index: Path, blobs: Path
) -> None:
    ended = command_line("verify", artifact.path, "--index", blob_index, "--dataset", blobs, "--overlap", 1.5)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "error: `overlap` is 1.5; a tolerance of this kind lies between 0 and 1.\n"


@pytest.mark.parametrize(
    ("runtime", "message"),
    [
        ("litert", "`runtime` is 'litert', which does not run onnx files; onnxruntime, onnxruntime-precise would."),
        (
            "none",
            "`runtime` is 'none'; it must be one of onnxruntime, onnxruntime-precise, litert, litert-reference, "
            "tensorflow, coreml, mil.",
        ),
    ],
)
def test_a_runtime_that_cannot_run_the_file_is_refused(
    command_line: Run, artifact: Artifact, blob_index: Path, blobs: Path, runtime: str, message: str
) -> None:
    ended = command_line("verify", artifact.path, "--index", blob_index, "--dataset", blobs, "--runtime", runtime)
    assert (ended.code, ended.err.splitlines()[-1]) == (2, f"error: {message}")
    assert read_artifact(artifact.path).manifest.verdict is Verdict.NOT_RUN


def test_both_kinds_of_images_at_once_are_refused(
    command_line: Run, artifact: Artifact, blob_index: Path, blobs: Path
) -> None:
    ended = command_line("verify", artifact.path, "--index", blob_index, "--dataset", blobs, "--images", blobs)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (f"error: `dataset` is {blobs} and `images` is {blobs}; name one of them.\n")


@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        (("verify", "absent.onnx", "--index", "{index}"), "error: absent.onnx does not exist"),
        (("verify", "mine.onnx", "--index", "nowhere"), "error: nowhere"),
        (("verify", "mine.onnx", "--index", "{index}", "--dataset", "nowhere"), "error: nowhere is no folder; give"),
        (("verify", "mine.onnx", "--index", "{index}", "--images", "nowhere"), "error: nowhere is no folder"),
    ],
)
def test_what_cannot_be_found_is_one_line(
    command_line: Run, artifact: Artifact, blob_index: Path, arguments: tuple[str, ...], start: str
) -> None:
    ended = command_line(*(argument.format(index=blob_index) for argument in arguments))
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(start)
    assert ended.err.count("\n") == 1


def test_files_and_an_index_are_asked_for(command_line: Run) -> None:
    assert command_line("verify").code == 2
    assert command_line("verify", "mine.onnx").code == 2
