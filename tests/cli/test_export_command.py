"""`aml-edge export`: what it hands on, what it prints, what it says of a student without training."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from aml_edge.artifact import Format, Verdict
from aml_edge.cli.export import export
from aml_edge.datasets.image_source import image_source
from aml_edge.embedder import FakeEmbedder
from aml_edge.errors import MissingExtraError, UsageError
from aml_edge.exporters import EXPORTERS
from aml_edge.exporters.export_spec import ExportSpec
from aml_edge.formats import FORMATS, read_artifact
from aml_edge.index import TeacherIndex
from aml_edge.index.building import build_index
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.networks.deployable import DeployableStudent
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.networks.whitening import Whitening
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.quantization.post_training import QuantizedStudent
from aml_edge.space import EmbeddingSpace

CommandLine = Callable[..., Any]

app = typer.Typer()
app.command()(export)


def index_of(space: EmbeddingSpace, whitening: Whitening | None) -> TeacherIndex:
    return TeacherIndex(Path("an-index"), space, Preprocessing(), ("a.jpg",), np.zeros((1, 8), np.float32), whitening)


def resolving(students: Mapping[str | None, StudentCheckpoint]) -> Callable[..., StudentCheckpoint]:
    """Returns a stand-in for `resolve_student` that knows a few names."""
    return lambda name, *, space=None, progress=None: students[name]


@pytest.fixture
def checkpoint(monkeypatch: pytest.MonkeyPatch) -> StudentCheckpoint:
    """A student that `--student mine` finds, in place of one on disk."""
    torch.manual_seed(0)
    student = Student(StudentSpec("mobilenetv2_035", 16)).eval()
    space = EmbeddingSpace("toy teacher", "a" * 64, 16)
    found = StudentCheckpoint(student, "mine", space, Preprocessing(image_side_px=96), trained=True)
    monkeypatch.setattr("aml_edge.networks.released.resolve_student", resolving({"mine": found}))
    return found


@pytest.fixture
def specs(monkeypatch: pytest.MonkeyPatch) -> list[ExportSpec]:
    """Every spec that reached an exporter; each becomes an ONNX file of one transpose and 5000 half weights."""
    seen: list[ExportSpec] = []

    def write(network: DeployableStudent, spec: ExportSpec, path: Path, quantized: QuantizedStudent | None) -> None:
        seen.append(spec)
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1]) for name in ("image", "embedding")]
        weight = numpy_helper.from_array(np.ones(5000, np.float16), "weight")
        nodes = [helper.make_node("Transpose", ["image"], ["embedding"])]
        graph = helper.make_graph(nodes, "graph", values[:1], values[1:], initializer=[weight])
        path.write_bytes(helper.make_model(graph).SerializeToString())

    monkeypatch.setitem(EXPORTERS, Format.ONNX, replace(EXPORTERS[Format.ONNX], write=write))
    return seen


def run(*arguments: str) -> Any:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def test_exports_what_was_asked_for(checkpoint: StudentCheckpoint, specs: list[ExportSpec], tmp_path: Path) -> None:
    arguments = ["--format", "onnx", "--precision", "fp16", "--image-size", "64", "--fit", "letterbox"]
    result = run(*arguments, "--student", "mine", "--out", str(tmp_path), "--json", str(tmp_path / "report.json"))
    path = tmp_path / "mine-64px-letterbox-fp16.onnx"
    assert str(path) in result.output
    assert "operators 1, transposes 1; weights float16 0.01 M;" in result.output
    (report,) = json.loads((tmp_path / "report.json").read_text())
    assert report["path"] == str(path)
    assert report["size_bytes"] == path.stat().st_size
    assert report["census"]["transposes"] == 1
    assert report["manifest"]["verdict"] == "not run"
    assert read_artifact(path).manifest.preprocessing.fit is Fit.LETTERBOX


def test_size_is_the_student_s_own_unless_said(
    checkpoint: StudentCheckpoint, specs: list[ExportSpec], tmp_path: Path
) -> None:
    run("--format", "onnx", "--student", "mine", "--out", str(tmp_path))
    assert [spec.image_side_px for spec in specs] == [96]


def test_whitening_of_the_index_goes_into_the_file(
    checkpoint: StudentCheckpoint, specs: list[ExportSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whitening = Whitening(torch.zeros(16), torch.eye(8, 16))
    space = replace(checkpoint.space, dimension=8, whitening_sha256=whitening.sha256)
    monkeypatch.setattr("aml_edge.index.open_index", {Path("an-index"): index_of(space, whitening)}.__getitem__)
    run("--format", "onnx", "--student", "mine", "--index", "an-index", "--out", str(tmp_path), "--image-size", "64")
    assert read_artifact(tmp_path / "mine-whitened-64px-letterbox-fp32.onnx").manifest.space == space


def test_an_untrained_student_is_said_to_be_one(
    checkpoint: StudentCheckpoint, specs: list[ExportSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    untrained = replace(checkpoint, name="efficientnet_b3-untrained", trained=False)
    monkeypatch.setattr("aml_edge.networks.released.resolve_student", resolving({None: untrained}))
    result = run("--format", "onnx", "--image-size", "64", "--out", str(tmp_path))
    assert "efficientnet_b3-untrained has random weights: its files are good for sizes and speeds only" in result.output
    assert (tmp_path / "efficientnet_b3-untrained-64px-letterbox-fp32.onnx").exists()


def test_all_means_all(
    checkpoint: StudentCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, specs: list[ExportSpec]
) -> None:
    only_name_differs = {model_format: EXPORTERS[Format.ONNX] for model_format in Format}
    monkeypatch.setattr("aml_edge.exporters.EXPORTERS", only_name_differs)
    monkeypatch.setattr("aml_edge.exporters.export.EXPORTERS", only_name_differs)
    monkeypatch.setattr("aml_edge.exporters.export.FORMATS", {one: FORMATS[Format.ONNX] for one in Format})
    run("--format", "all", "--student", "mine", "--out", str(tmp_path), "--image-size", "64")
    assert [spec.format for spec in specs] == [Format.ONNX, Format.TFLITE, Format.COREML]


def test_a_missing_extra_is_said_before_any_conversion(
    checkpoint: StudentCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, specs: list[ExportSpec]
) -> None:
    absent = replace(EXPORTERS[Format.TFLITE], tools=("no-such-converter",))
    monkeypatch.setitem(EXPORTERS, Format.TFLITE, absent)
    with pytest.raises(MissingExtraError, match=r"pip install 'aml-edge\[tflite\]'"):
        run("--format", "all", "--student", "mine", "--out", str(tmp_path))
    assert specs == []


def test_native_fit_is_refused(checkpoint: StudentCheckpoint, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`fit` is 'native'"):
        run("--format", "onnx", "--student", "mine", "--fit", "native", "--out", str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch, lively_file: Path) -> Callable[[bytes], None]:
    """Makes every conversion to ONNX give the lively student's file, or the bytes that are handed in."""

    def give(model: bytes) -> None:
        def write(network: DeployableStudent, spec: ExportSpec, path: Path, quantized: QuantizedStudent | None) -> None:
            path.write_bytes(model)

        monkeypatch.setitem(EXPORTERS, Format.ONNX, replace(EXPORTERS[Format.ONNX], write=write))

    give(lively_file.read_bytes())
    return give


ONNX_OF_MINE = ("export", "--format", "onnx", "--student", "mine", "--image-size", "64")


def test_with_index_and_images_a_file_is_verified_at_the_end(
    command_line: CommandLine, workplace: Path, converted: object, blob_index: Path, blobs: Path
) -> None:
    ended = command_line(*ONNX_OF_MINE, "--index", blob_index, "--dataset", blobs, "--json", "report.json")
    assert ended.code == 0, ended.err
    assert "verified: medium mAP " in ended.out
    assert ended.out.rstrip().endswith("30 images in onnxruntime cpu")
    assert "not verified" not in ended.out
    path = Path("artifacts/mine-64px-letterbox-fp32.onnx")
    assert read_artifact(path).manifest.verdict is Verdict.VERIFIED
    assert json.loads(Path(f"{path}.json").read_text())["verdict"] == "verified"
    (report,) = json.loads(Path("report.json").read_text())
    assert report["manifest"]["verdict"] == report["verification"]["judgement"]["verdict"] == "verified"


def test_a_file_that_fails_at_the_end_stays_and_says_so(
    command_line: CommandLine,
    workplace: Path,
    converted: Callable[[bytes], None],
    broken_model: bytes,
    blob_index: Path,
    blobs: Path,
) -> None:
    converted(broken_model)
    ended = command_line(*ONNX_OF_MINE, "--index", blob_index, "--images", blobs)
    path = Path("artifacts/mine-64px-letterbox-fp32.onnx")
    assert ended.code == 3
    assert ended.err == f"error: {path} failed verification, for the reasons above; do not ship it.\n"
    assert "− smallest centred cosine: " in ended.out
    assert read_artifact(path).manifest.verdict is Verdict.FAILED


def test_images_that_cannot_be_read_are_said_before_a_file_is_replaced(
    command_line: CommandLine, workplace: Path, converted: object, blob_index: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "empty.png").touch()
    ended = command_line(*ONNX_OF_MINE, "--index", blob_index, "--images", tmp_path / "bad")
    assert ended.code == 1
    assert "empty.png: the file is empty" in ended.err
    assert not Path("artifacts").exists()


def test_a_tolerance_can_be_replaced(
    command_line: CommandLine, workplace: Path, converted: object, blob_index: Path, blobs: Path
) -> None:
    ended = command_line(*ONNX_OF_MINE, "--index", blob_index, "--images", blobs, "--norm-error", "0")
    assert ended.code == 3, ended.err  # no norm in float32 is one to the last bit in every row
    assert "at most 0 is allowed" in ended.out


def test_images_that_prove_nothing_end_with_one(
    command_line: CommandLine, workplace: Path, converted: object, blob_index: Path, blobs: Path
) -> None:
    Path("few").mkdir()
    for number in range(3):
        shutil.copy(blobs / "jpg" / f"view_{number:02}.jpg", "few")
    ended = command_line(*ONNX_OF_MINE, "--index", blob_index, "--images", "few")
    assert ended.code == 1
    assert "not run: too few images: 3 distinct ones of 3" in ended.out
    assert read_artifact(Path("artifacts/mine-64px-letterbox-fp32.onnx")).manifest.verdict is Verdict.NOT_RUN


def test_without_images_the_command_that_verifies_is_said(
    command_line: CommandLine, workplace: Path, converted: object, blob_index: Path, blobs: Path
) -> None:
    ended = command_line(*ONNX_OF_MINE, "--index", blob_index)
    assert ended.code == 0, ended.err
    said = ended.out.splitlines()[-1].removeprefix("not verified; to do so: aml-edge ")
    arguments = shlex.split(said)
    assert arguments[-2:] == ["--dataset", "DIR"]
    assert command_line(*arguments[:-1], blobs).code == 0


@pytest.mark.parametrize("given", ["dataset", "images"])
def test_images_without_an_index_are_refused_before_any_conversion(
    command_line: CommandLine, workplace: Path, specs: list[ExportSpec], blobs: Path, given: str
) -> None:
    ended = command_line(*ONNX_OF_MINE, f"--{given}", blobs)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        f"error: `{given}` is given without `index`; a file is verified against an index: add --index.\n"
    )
    assert specs == []


def test_an_index_of_another_teacher_is_refused_before_any_conversion(
    command_line: CommandLine, workplace: Path, specs: list[ExportSpec], blobs: Path, tmp_path: Path
) -> None:
    other = FakeEmbedder(EmbeddingSpace("another teacher", "b" * 64, 32), Preprocessing(64))
    index = build_index(other, image_source(blobs), tmp_path / "other").path
    ended = command_line(*ONNX_OF_MINE, "--index", index, "--dataset", blobs)
    assert ended.code == 1
    assert "student 'mine' lives in toy teacher (aaaaaaaa), 32-D, no whitening, but the index" in ended.err
    assert "in another teacher (bbbbbbbb), 32-D, no whitening" in ended.err
    assert specs == []
    assert not Path("artifacts").exists()
