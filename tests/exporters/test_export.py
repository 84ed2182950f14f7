"""From checkpoint to file: names, manifests, refusals, failures."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import aml_edge
from aml_edge.artifact import Artifact, Format, Manifest, Precision, Verdict
from aml_edge.errors import ExportError, MissingExtraError, SpaceMismatchError, UsageError
from aml_edge.exporters import EXPORTERS, FormatExporter, is_installed, require_precision
from aml_edge.exporters.export import export_student, file_name, report_of
from aml_edge.exporters.export_spec import ExportSpec
from aml_edge.formats import FORMATS, read_artifact
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.networks.deployable import DeployableStudent
from aml_edge.networks.whitening import Whitening
from aml_edge.preprocessing import Fit
from aml_edge.quantization.post_training import QuantizedStudent
from aml_edge.space import EmbeddingSpace

ONNX = ExportSpec(Format.ONNX, image_side_px=64)


def test_every_format_has_an_exporter() -> None:
    assert set(EXPORTERS) == set(FORMATS) == set(Format)


def test_manifest_stands_in_the_file_and_beside_it(
    exported: Callable[..., Artifact], checkpoint: StudentCheckpoint, whitened_space: EmbeddingSpace
) -> None:
    artifact = exported(Format.ONNX, Precision.FP16, whitened=True)
    inside = read_artifact(artifact.path).manifest
    assert inside == artifact.manifest
    assert Manifest.loads(artifact.sidecar_path.read_text(), source="sidecar") == inside
    assert inside.space == whitened_space
    assert inside.preprocessing == checkpoint.preprocessing.fitted(Fit.LETTERBOX, 64)
    assert (inside.student, inside.backbone) == ("toy", "tf_efficientnet_lite0")
    assert inside.weights_sha256 == checkpoint.weights_sha256
    assert inside.target == "opset 20"
    assert inside.tools["torch"] == torch.__version__
    assert inside.tools["aml-edge"] == aml_edge.__version__
    assert inside.verdict is Verdict.NOT_RUN


def test_folder_holds_the_file_and_its_manifest_only(exported: Callable[..., Artifact]) -> None:
    artifact = exported(Format.ONNX, Precision.FP32)
    names = {path.name for path in artifact.path.parent.iterdir()}
    assert {artifact.path.name, artifact.sidecar_path.name} <= names
    assert not [name for name in names if "partial" in name or name.endswith(".log")]


def test_conversion_says_nothing(
    checkpoint: StudentCheckpoint, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    export_student(checkpoint, ONNX, tmp_path)
    assert capfd.readouterr() == ("", "")


def test_report_counts_what_is_in_the_file(exported: Callable[..., Artifact]) -> None:
    artifact = exported(Format.ONNX, Precision.FP32)
    report = report_of(artifact, seconds=1.5)
    assert report.size_bytes == artifact.path.stat().st_size
    assert report.census.operators["Conv"] == 50
    assert report.manifest == artifact.manifest
    assert report.seconds == 1.5


@pytest.mark.parametrize(
    ("name", "trained", "whitened", "expected"),
    [
        ("demo", True, False, "demo-64px-letterbox-fp32.onnx"),
        ("demo", True, True, "demo-whitened-64px-letterbox-fp32.onnx"),
        ("efficientnet_b3-untrained", False, False, "efficientnet_b3-untrained-64px-letterbox-fp32.onnx"),
        ("mine", False, False, "mine-untrained-64px-letterbox-fp32.onnx"),
        ("aml:b3/reg 1", True, False, "aml_b3_reg_1-64px-letterbox-fp32.onnx"),
    ],
)
def test_file_name_says_what_it_is(
    checkpoint: StudentCheckpoint, name: str, trained: bool, whitened: bool, expected: str
) -> None:
    assert file_name(replace(checkpoint, name=name, trained=trained), ONNX, whitened=whitened) == expected


def test_an_index_of_another_teacher_is_refused(
    checkpoint: StudentCheckpoint, whitening: Whitening, whitened_space: EmbeddingSpace, tmp_path: Path
) -> None:
    other = replace(whitened_space, teacher="vgg16-gem", weights_sha256="c" * 64)
    with pytest.raises(SpaceMismatchError, match=r"student 'toy' lives in toy teacher.*but the index in vgg16-gem"):
        export_student(checkpoint, ONNX, tmp_path, whitening=whitening, space=other)
    with pytest.raises(SpaceMismatchError, match=r"student 'toy' lives in toy teacher.*but the index in vgg16-gem"):
        export_student(checkpoint, ONNX, tmp_path, space=replace(other, whitening_sha256=None, dimension=64))


def test_an_index_of_another_whitening_is_refused(
    checkpoint: StudentCheckpoint, whitening: Whitening, whitened_space: EmbeddingSpace, tmp_path: Path
) -> None:
    with pytest.raises(SpaceMismatchError, match="has a whitening 64-D to 48-D"):
        export_student(
            checkpoint, ONNX, tmp_path, whitening=whitening, space=replace(whitened_space, whitening_sha256="d" * 64)
        )


def test_a_whitening_of_another_dimension_is_refused(
    checkpoint: StudentCheckpoint, whitened_space: EmbeddingSpace, tmp_path: Path
) -> None:
    wide = Whitening(torch.zeros(128), torch.ones(48, 128))
    space = replace(whitened_space, whitening_sha256=wide.sha256)
    with pytest.raises(SpaceMismatchError, match="has a whitening 128-D to 48-D"):
        export_student(checkpoint, ONNX, tmp_path, whitening=wide, space=space)
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_cannot_be_exported_is_one_line_and_a_log(
    checkpoint: StudentCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def depends_on_values(network: DeployableStudent, features: Tensor) -> Tensor:
        return features[features > 0].reshape(1, -1).flip(0) if features.sum() > 0 else features.mean((2, 3))

    monkeypatch.setattr(DeployableStudent, "head", depends_on_values)
    with pytest.raises(ExportError) as caught:
        export_student(checkpoint, ONNX, tmp_path)
    log = tmp_path / "toy-64px-letterbox-fp32.onnx.log"
    assert str(caught.value).startswith("export of 'toy' to onnx fp32 failed: ")
    assert str(caught.value).endswith(f"; the converter's log is {log}")
    assert "\n" not in str(caught.value)
    assert "Traceback" in log.read_text()
    assert list(tmp_path.iterdir()) == [log]
    assert capfd.readouterr() == ("", "")


def test_a_failure_leaves_the_older_file(
    checkpoint: StudentCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(network: DeployableStudent, spec: ExportSpec, path: Path, quantized: QuantizedStudent | None) -> None:
        path.write_bytes(b"half a file")
        raise RuntimeError("no space left on device")

    older = tmp_path / file_name(checkpoint, ONNX, whitened=False)
    older.write_bytes(b"of last week")
    monkeypatch.setitem(EXPORTERS, Format.ONNX, replace(EXPORTERS[Format.ONNX], write=breaks))
    with pytest.raises(ExportError, match="RuntimeError: no space left on device"):
        export_student(checkpoint, ONNX, tmp_path)
    assert older.read_bytes() == b"of last week"
    assert sorted(path.name for path in tmp_path.iterdir()) == [older.name, older.name + ".log"]


def test_a_file_that_is_not_quantized_as_asked_is_not_kept(
    checkpoint: StudentCheckpoint, exported: Callable[..., Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    floating = exported(Format.ONNX, Precision.FP32).path.read_bytes()

    def write(network: DeployableStudent, spec: ExportSpec, path: Path, quantized: QuantizedStudent | None) -> None:
        path.write_bytes(floating)

    monkeypatch.setitem(EXPORTERS, Format.ONNX, replace(EXPORTERS[Format.ONNX], write=write))
    with pytest.raises(
        ExportError, match=r"`precision` is 'int8-weights' and the convolutions of .*; the file is not kept"
    ):
        export_student(checkpoint, replace(ONNX, precision=Precision.INT8_WEIGHTS), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_precision_that_a_format_lacks_is_refused_with_what_it_has(
    checkpoint: StudentCheckpoint, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        export_student(checkpoint, replace(ONNX, precision=Precision.PALETTE6), tmp_path)
    assert str(caught.value) == (
        "`precision` is 'palette6', which the ONNX format does not have; choose one of fp32, fp16, int8-weights, "
        "int8-dynamic, int8, int8-int16."
    )
    with pytest.raises(
        UsageError, match=r"the Core ML format does not have; choose one of fp32, .*, palette8, palette6"
    ):
        require_precision(Format.COREML, Precision.INT8_DYNAMIC)
    assert {precision for one in EXPORTERS.values() for precision in one.precisions} == set(Precision)


def test_a_missing_converter_gives_the_pip_command(
    checkpoint: StudentCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = FormatExporter(
        "TFLite", EXPORTERS[Format.TFLITE].write, "", (Precision.FP32,), ("no-such-converter",), "tflite"
    )
    monkeypatch.setitem(EXPORTERS, Format.TFLITE, absent)
    assert not is_installed(Format.TFLITE)
    with pytest.raises(MissingExtraError) as caught:
        export_student(checkpoint, replace(ONNX, format=Format.TFLITE), tmp_path)
    assert str(caught.value) == (
        "the TFLite format needs no-such-converter, which is not installed: pip install 'aml-edge[tflite]'"
    )
    assert list(tmp_path.iterdir()) == []


def test_installed_formats_say_so() -> None:
    assert is_installed(Format.ONNX)


def test_a_side_below_the_stride_is_refused() -> None:
    with pytest.raises(UsageError, match="`image_side_px` is 31; a network of stride 32 needs at least 32"):
        ExportSpec(Format.ONNX, image_side_px=31)


def test_a_fit_without_one_shape_is_refused() -> None:
    with pytest.raises(UsageError, match="`fit` is 'native'; a file has one input shape, so choose one of squash"):
        ExportSpec(Format.ONNX, fit=Fit.NATIVE)


def test_sidecar_is_json(exported: Callable[..., Artifact]) -> None:
    record = json.loads(exported(Format.ONNX, Precision.FP32).sidecar_path.read_text())
    assert record["verdict"] == "not run"
    assert record["space"]["teacher"] == "toy teacher"
