"""`aml-edge bench`: what it measures when it is told and when it is not, and what it says of wrong input."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner, Result

from aml_edge.artifact import Artifact, Format, Manifest, Precision, Verdict
from aml_edge.benchmarks.suite import BenchmarkSettings
from aml_edge.benchmarks.worker import LocalWorker
from aml_edge.cli import app as app_module
from aml_edge.cli.bench import bench
from aml_edge.datasets.retrieval_dataset import RetrievalDataset
from aml_edge.errors import AmlEdgeError, ExportError, UsageError
from aml_edge.exporters import EXPORTERS
from aml_edge.exporters.export_spec import ExportSpec
from aml_edge.formats import write_manifest
from aml_edge.image_loading import ImageItem
from aml_edge.index import TeacherIndex
from aml_edge.networks.checkpoints import StudentCheckpoint, save_student
from aml_edge.networks.deployable import DeployableStudent
from aml_edge.networks.released import untrained_student
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.quantization.post_training import QuantizedStudent
from aml_edge.ranking import QueryGroundTruth
from aml_edge.runtimes.fixed_input import thread_count
from aml_edge.space import EmbeddingSpace

SIDE = 32
CORES = thread_count(None)
SPACE = EmbeddingSpace("toy teacher", "a" * 64, 3)
QUICK = ("--quick", "--threads", "1", "--runtime", "onnxruntime")

app = typer.Typer()
app.command()(bench)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    """Small operators on few cores: a second thread only waits."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty working folder, no GPU, and rows that run in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("aml_edge.benchmarks.rows.cuda_devices", tuple)
    in_process = functools.partial(BenchmarkSettings, start_worker=LocalWorker)
    monkeypatch.setattr("aml_edge.benchmarks.suite.BenchmarkSettings", in_process)
    return tmp_path


@pytest.fixture(scope="module")
def checkpoint() -> StudentCheckpoint:
    """A student of three dimensions that counts as trained."""
    student = Student(StudentSpec("mobilenetv2_035", 3)).eval()
    return StudentCheckpoint(student, "mine", SPACE, Preprocessing(image_side_px=SIDE), trained=True)


@pytest.fixture
def artifact(checkpoint: StudentCheckpoint, write_channel_means: Callable[..., None]) -> Callable[..., Artifact]:
    """Returns a function that writes a file which says it was made from the student."""

    def write(name: str, **changes: Any) -> Artifact:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_channel_means(path, SIDE)
        manifest = Manifest(
            space=SPACE,
            preprocessing=Preprocessing(SIDE, Fit.SQUASH),
            student="mine",
            backbone="mobilenetv2_035",
            weights_sha256=checkpoint.weights_sha256,
            format=Format.ONNX,
            precision=Precision.FP32,
            target="test",
        )
        made = Artifact(path, replace(manifest, **changes))
        write_manifest(made)
        return made

    return write


@pytest.fixture
def specs(write_channel_means: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> list[ExportSpec]:
    """What reached the one exporter that is installed, ONNX's, which writes a small file in place of the student."""
    seen: list[ExportSpec] = []

    def write(network: DeployableStudent, spec: ExportSpec, path: Path, quantized: QuantizedStudent | None) -> None:
        seen.append(spec)
        write_channel_means(path, spec.image_side_px)

    monkeypatch.setitem(EXPORTERS, Format.ONNX, replace(EXPORTERS[Format.ONNX], write=write))
    for model_format in (Format.TFLITE, Format.COREML):
        absent = replace(EXPORTERS[model_format], tools=("no-such-converter",))
        monkeypatch.setitem(EXPORTERS, model_format, absent)
    return seen


def resolving(students: Mapping[str | None, StudentCheckpoint]) -> Callable[..., StudentCheckpoint]:
    """Returns a stand-in for `resolve_student` that knows a few names."""
    return lambda name, *, space=None, progress=None: students[name]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def run(*arguments: object) -> Result:
    done = invoke(*arguments)
    assert done.exit_code == 0, (done.output, done.exception)
    return done


def labels(report: Any) -> list[list[str]]:
    return [[row["label"] for row in group["rows"]] for group in report["groups"]]


def test_a_named_file_is_measured_beside_its_student(
    artifact: Callable[..., Artifact], checkpoint: StudentCheckpoint
) -> None:
    save_student(checkpoint, Path("runs/mine"))
    artifact("elsewhere/a.onnx")
    done = run("elsewhere/a.onnx", *QUICK, "--json", "report.json", "--markdown", "report.md")
    report = json.loads(Path("report.json").read_text())
    assert labels(report) == [["PyTorch eager", "onnx fp32, onnxruntime"]]
    (group,) = report["groups"]
    assert group["weights_sha256"] == checkpoint.weights_sha256
    assert group["trained"] is True
    for row in group["rows"]:
        (by_threads,) = row["by_threads"]
        assert by_threads["threads"] == 1
        assert by_threads["latency"]["runs"] >= 10  # five rounds of two
    assert group["rows"][1]["path"] == "elsewhere/a.onnx"
    assert group["rows"][1]["size_bytes"] == Path("elsewhere/a.onnx").stat().st_size
    assert [row["verdict"] for row in group["rows"]] == [None, "not run"]
    lines = [line.rstrip() for line in done.output.splitlines()]
    assert "   a.onnx: not run" in lines
    assert f"mine ({checkpoint.weights_sha256[:8]}), mobilenetv2_035, 32×32 px squash" in lines
    assert "too few calls for a measurement: a look only" in lines
    assert Path("report.md").read_text().startswith("### mine ")
    assert "exported first" not in done.output


def test_a_file_in_integers_has_a_row_for_either_kind_of_kernels(
    artifact: Callable[..., Artifact], checkpoint: StudentCheckpoint, truth: EmbeddingSpace
) -> None:
    save_student(checkpoint, Path("runs/mine"))
    artifact("a.onnx")
    artifact("b.onnx", precision=Precision.INT8)
    asked = ("--quick", "--threads", "1", "--index", "an-index", "--dataset", "a-set")
    done = run("a.onnx", "b.onnx", *asked, "--json", "report.json", "--markdown", "report.md")
    report = json.loads(Path("report.json").read_text())
    assert isinstance(report["environment"]["vnni"], bool | None)
    student, fp32, fast, exact = report["groups"][0]["rows"]
    assert [row["label"] for row in (fast, exact)] == ["onnx int8, onnxruntime fast", "onnx int8, onnxruntime-precise"]
    assert [row["kernels"] for row in (student, fp32, fast, exact)] == [None, None, "fast", "precise"]
    assert exact["agreement"]["fast"] == "onnx int8, onnxruntime fast"
    assert exact["agreement"]["images"] == fast["map_drop"]["queries"] == 1
    assert fast["map_drop"]["points"] == 0
    assert set(fast["by_threads"][0]["over_fp32"]) == {"value", "low", "high", "rounds"}
    assert (student["on_front"], exact["on_front"]) == (None, None)
    assert True in (fp32["on_front"], fast["on_front"])
    said = "Pareto front of size, time (p50 with 1 thread) and asymmetric mAP (medium)"
    assert said in done.output and said in Path("report.md").read_text()
    assert "onnxruntime cpu, precise kernels" in done.output


def test_what_a_verdict_is_worth_is_said(artifact: Callable[..., Artifact]) -> None:
    for name in ("as it was.onnx", "changed.onnx"):
        artifact(name, verdict=Verdict.VERIFIED)
    changed = Path("changed.onnx")
    changed.write_bytes(changed.read_bytes().replace(b"channel means", b"channel MEANS"))
    done = run("as it was.onnx", "changed.onnx", *QUICK)
    lines = [line.rstrip() for line in done.output.splitlines()]
    assert "   as it was.onnx: verified" in lines
    assert "   changed.onnx: changed since it was verified" in lines


def test_json_on_standard_output_is_alone_there(artifact: Callable[..., Artifact]) -> None:
    artifact("a.onnx")
    done = run("a.onnx", *QUICK, "--json", "-")
    assert labels(json.loads(done.stdout)) == [["PyTorch eager", "onnx fp32, onnxruntime"]]
    assert "onnx fp32, onnxruntime" in done.stderr


def test_a_file_whose_student_is_not_there_is_measured_alone(artifact: Callable[..., Artifact]) -> None:
    artifact("a.onnx")
    done = run("a.onnx", *QUICK)
    assert "PyTorch eager: not run here: student 'mine' (weights " in " ".join(done.output.split())


def test_the_files_under_artifacts_are_measured_when_none_is_named(
    artifact: Callable[..., Artifact], checkpoint: StudentCheckpoint, specs: list[ExportSpec]
) -> None:
    artifact("artifacts/a.onnx")
    artifact("artifacts/b.onnx", precision=Precision.FP16)
    Path("artifacts/broken.onnx").write_bytes(b"no model")
    done = run(*QUICK, "--json", "report.json")
    report = json.loads(Path("report.json").read_text())
    assert labels(report) == [["PyTorch eager", "onnx fp32, onnxruntime", "onnx fp16, onnxruntime"]]
    assert "left out: artifacts/broken.onnx " in done.output
    assert specs == []


def test_the_student_decides_which_files_under_artifacts_are_measured(
    artifact: Callable[..., Artifact], checkpoint: StudentCheckpoint
) -> None:
    save_student(checkpoint, Path("students/mine"))
    artifact("artifacts/a.onnx")
    artifact("artifacts/other.onnx", student="another", weights_sha256="01234567" * 8)
    done = run(*QUICK, "--student", "students/mine", "--json", "report.json")
    assert labels(json.loads(Path("report.json").read_text())) == [["PyTorch eager", "onnx fp32, onnxruntime"]]
    assert "left out: artifacts/other.onnx is of another student, 'another' (01234567)." in done.output


def test_without_files_the_default_student_is_exported_first_and_that_is_said(
    specs: list[ExportSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    untrained = untrained_student(StudentSpec("mobilenetv2_035", 3))
    untrained = replace(untrained, preprocessing=Preprocessing(image_side_px=SIDE))
    monkeypatch.setattr("aml_edge.networks.released.resolve_student", resolving({None: untrained}))
    done = run(*QUICK, "--json", "report.json")
    assert done.output.splitlines()[:2] == [
        "artifacts/ holds no file to measure: 'mobilenetv2_035-untrained' is exported first, to onnx.",
        "It has random weights: its files are good for sizes and speeds only.",
    ]
    assert [(spec.format, spec.image_side_px, spec.precision) for spec in specs] == [
        (Format.ONNX, SIDE, Precision.FP32)
    ]
    report = json.loads(Path("report.json").read_text())
    assert labels(report) == [["PyTorch eager", "onnx fp32, onnxruntime"]]
    student, file = report["groups"][0]["rows"]
    assert student["not_run"] is None and student["by_threads"]  # made again from its seed
    assert Path(file["path"]).parent == Path("artifacts")
    assert report["groups"][0]["notes"] == ["random weights: good for sizes and speeds only."]

    again = run(*QUICK)
    assert "exported first" not in again.output
    assert len(specs) == 1


def test_a_format_that_fails_is_left_out_and_the_others_are_measured(
    specs: list[ExportSpec], checkpoint: StudentCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(network: DeployableStudent, spec: ExportSpec, path: Path, quantized: QuantizedStudent | None) -> None:
        raise RuntimeError("an operator that it does not know")

    broken = replace(EXPORTERS[Format.ONNX], name="Core ML", write=fail)
    monkeypatch.setitem(EXPORTERS, Format.COREML, broken)
    save_student(checkpoint, Path("runs/mine"))
    done = run(*QUICK, "--json", "report.json")
    assert "'mine' is exported first, to onnx, coreml." in done.output
    assert "left out: " in done.output and "an operator that it does not know" in done.output
    assert labels(json.loads(Path("report.json").read_text())) == [["PyTorch eager", "onnx fp32, onnxruntime"]]

    Path("artifacts").rename("measured")
    monkeypatch.setitem(EXPORTERS, Format.ONNX, broken)
    assert isinstance(invoke(*QUICK).exception, ExportError)


@pytest.fixture
def truth(here: Path, monkeypatch: pytest.MonkeyPatch) -> EmbeddingSpace:
    """An index `an-index` and a data set `a-set` of one query, (200, 100, 0), whose only positive comes first."""
    from PIL import Image

    Image.new("RGB", (40, 30), (200, 100, 0)).save("query.png")
    ids = ("jpg/0.jpg", "jpg/1.jpg")
    dataset = RetrievalDataset(
        name="colours",
        root=here,
        query_items=(ImageItem(here / "query.png"),),
        database_items=tuple(ImageItem(here / one) for one in ids),
        database_ids=ids,
        ground_truth=(QueryGroundTruth((0,), (), ()),),
    )
    index = TeacherIndex(Path("an-index"), SPACE, Preprocessing(), ids, np.eye(2, 3, dtype=np.float32), None)
    monkeypatch.setattr("aml_edge.index.open_index", {Path("an-index"): index}.__getitem__)
    monkeypatch.setattr("aml_edge.datasets.loading.load_test_set", {Path("a-set"): dataset}.__getitem__)
    return SPACE


def test_map_is_measured_where_there_is_ground_truth(artifact: Callable[..., Artifact], truth: EmbeddingSpace) -> None:
    artifact("artifacts/a.onnx")
    artifact("artifacts/other.onnx", space=EmbeddingSpace("another teacher", "b" * 64, 3))
    done = run(*QUICK, "--index", "an-index", "--dataset", "a-set", "--json", "report.json")
    (group,) = json.loads(Path("report.json").read_text())["groups"]
    (found,) = [row["retrieval"] for row in group["rows"] if row["retrieval"] is not None]
    assert (found["easy"], found["medium"], found["hard"]) == (1, 1, None)  # no hard positive: NaN, null in JSON
    assert "asymmetric mAP, 1 queries of colours" in done.output
    assert "left out: artifacts/other.onnx lives in another space than the index, another teacher " in done.output


def raised(*arguments: object) -> AmlEdgeError:
    """Returns the error that a command ends in; the program prints it as one line."""
    error = invoke(*arguments).exception
    assert isinstance(error, AmlEdgeError), error
    return error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.onnx",), "nowhere.onnx does not exist; `aml-edge export` makes one."),
        (
            ("--index", "an-index"),
            "`--index` is given without `--dataset`; mAP needs both, sizes and speeds need neither.",
        ),
        (
            ("--dataset", "a-set"),
            "`--dataset` is given without `--index`; mAP needs both, sizes and speeds need neither.",
        ),
        (("a.onnx", "--threads", "0"), "`threads` is 0; an inference needs at least one."),
        (
            ("a.onnx", "--runtime", "tvm"),
            "`runtime` is 'tvm'; it must be one of onnxruntime, onnxruntime-precise, litert, litert-reference, "
            "tensorflow, coreml, mil.",
        ),
        (("a.onnx", "--runtime", "litert"), "`runtime` is litert, which runs none of the files; name another."),
        (
            ("--student", "nobody"),
            "`student` is 'nobody'; it must be a student's file, a run's folder, the name of a run in runs, or "
            "aml:NAME as released.",
        ),
        (
            ("a.onnx", "--threads", "100000"),
            f"`threads` is 100000; this machine has {CORES} cores, so at most that many.",
        ),
        (
            ("--index", "nowhere", "--dataset", "nowhere"),
            "nowhere holds no index (index.json is not there); make one: `aml-edge index build`.",
        ),
    ],
)
def test_wrong_input_ends_in_one_line(
    artifact: Callable[..., Artifact], arguments: tuple[str, ...], message: str
) -> None:
    artifact("a.onnx")
    assert str(raised(*arguments)) == message


def test_a_file_of_another_student_than_the_one_that_is_named_is_refused(
    artifact: Callable[..., Artifact], checkpoint: StudentCheckpoint
) -> None:
    save_student(checkpoint, Path("runs/mine"))
    artifact("a.onnx", student="another", weights_sha256="01234567" * 8)
    error = raised("a.onnx", "--student", "mine")
    assert isinstance(error, UsageError)
    assert "but a.onnx was made from 'another' (weights 01234567)" in str(error)


def test_the_program_prints_the_line_and_exits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["aml-edge", "bench", "nowhere.onnx"])
    with pytest.raises(SystemExit) as ended:
        app_module.main()
    assert ended.value.code == 2
    assert capsys.readouterr() == ("", "error: nowhere.onnx does not exist; `aml-edge export` makes one.\n")


def test_rows_have_processes_of_their_own(
    artifact: Callable[..., Artifact], checkpoint: StudentCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aml_edge.benchmarks.suite.BenchmarkSettings", BenchmarkSettings)
    save_student(checkpoint, Path("runs/mine"))
    artifact("a.onnx")
    run("a.onnx", *QUICK, "--json", "report.json")
    (group,) = json.loads(Path("report.json").read_text())["groups"]
    assert [row["not_run"] for row in group["rows"]] == [None, None]
    assert [len(row["by_threads"]) for row in group["rows"]] == [1, 1]
