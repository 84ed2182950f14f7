"""The table of formats: a file is known by its suffix, and trusted only where the manifest inside says the same."""

from __future__ import annotations

import json
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from aml_edge.artifact import Artifact, Format, Manifest, Precision, Verdict
from aml_edge.errors import ArtifactError, UsageError
from aml_edge.formats import FORMATS, format_of, read_artifact, write_manifest
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.space import EmbeddingSpace

TFLITE_FILE = Path(__file__).parents[1] / "data" / "channel_means.tflite"


def manifest(model_format: Format) -> Manifest:
    space = EmbeddingSpace("toy", "0" * 64, 3)
    return Manifest(
        space, Preprocessing(40, Fit.SQUASH), "demo", "none", "1" * 64, model_format, Precision.FP32, "a target"
    )


def onnx_file(path: Path) -> Path:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("image", "embedding")]
    graph = helper.make_graph([helper.make_node("Relu", ["image"], ["embedding"])], "graph", values[:1], values[1:])
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


@pytest.fixture(params=[Format.ONNX, Format.TFLITE])
def artifact(request: pytest.FixtureRequest, tmp_path: Path) -> Artifact:
    """A file of each format that can be made without a converter, with no manifest in it yet."""
    model_format: Format = request.param
    if model_format is Format.ONNX:
        return Artifact(onnx_file(tmp_path / "model.onnx"), manifest(model_format))
    return Artifact(Path(shutil.copy(TFLITE_FILE, tmp_path / "model.tflite")), manifest(model_format))


def test_every_format_has_a_line_and_a_suffix_of_its_own() -> None:
    assert set(FORMATS) == set(Format)
    assert {str(one): support.suffix for one, support in FORMATS.items()} == {
        "onnx": ".onnx",
        "tflite": ".tflite",
        "coreml": ".mlpackage",
    }


@pytest.mark.parametrize("model_format", Format)
def test_a_format_is_known_by_its_suffix(model_format: Format) -> None:
    assert format_of(Path(f"out/demo-224px{FORMATS[model_format].suffix}")) is model_format


@pytest.mark.parametrize("name", ["model.pt", "model", "model.onnx.json", "MODEL.ONNX"])
def test_another_suffix_is_refused_with_those_that_are_known(name: str) -> None:
    with pytest.raises(ArtifactError) as refusal:
        format_of(Path(name))
    assert str(refusal.value) == f"{name} is no model file: its name must end in one of .onnx, .tflite, .mlpackage."


def test_the_manifest_goes_into_the_file_and_beside_it(artifact: Artifact) -> None:
    write_manifest(artifact)
    assert read_artifact(artifact.path) == artifact
    beside = Manifest.loads(artifact.sidecar_path.read_text(), source="beside")
    assert beside == artifact.manifest


def test_the_last_manifest_is_the_one_that_counts(artifact: Artifact) -> None:
    write_manifest(artifact)
    written = write_manifest(judged(artifact, Verdict.FAILED))
    assert read_artifact(artifact.path) == written
    assert (written.manifest.verdict, written.manifest.verdict_reason) == (Verdict.FAILED, "a, b")


def judged(artifact: Artifact, verdict: Verdict, reason: str = "a, b") -> Artifact:
    return replace(artifact, manifest=replace(artifact.manifest, verdict=verdict, verdict_reason=reason))


@pytest.mark.parametrize("reason", ["", "because " * 1000])
@pytest.mark.parametrize("verdict", [Verdict.VERIFIED, Verdict.FAILED])
def test_a_verdict_goes_with_the_content_that_it_is_about(artifact: Artifact, verdict: Verdict, reason: str) -> None:
    written = write_manifest(judged(artifact, verdict, reason))
    assert written.manifest.content_sha256 == FORMATS[artifact.manifest.format].hash_content(artifact.path)
    read = read_artifact(artifact.path)
    assert (read, read.changed, read.standing) == (written, False, str(verdict))
    beside = Manifest.loads(artifact.sidecar_path.read_text(), source="beside")
    assert beside == written.manifest
    again = write_manifest(judged(written, Verdict.VERIFIED, reason * 2))
    assert read_artifact(artifact.path) == again


def damage(path: Path) -> None:
    """Changes what the network computes: ONNX's Relu becomes Tanh, the last of a TFLite file's weights another."""
    content = path.read_bytes()
    if path.suffix == ".onnx":
        path.write_bytes(content.replace(b"\x04Relu", b"\x04Tanh"))
    else:
        place = content.index(struct.pack("<f", 1.0))
        path.write_bytes(content[:place] + struct.pack("<f", 2.0) + content[place + 4 :])
    assert path.read_bytes() != content


@pytest.mark.parametrize("verdict", [Verdict.VERIFIED, Verdict.FAILED])
def test_a_file_that_was_changed_since_says_so(artifact: Artifact, verdict: Verdict) -> None:
    written = write_manifest(judged(artifact, verdict))
    damage(artifact.path)
    read = read_artifact(artifact.path)
    assert read.manifest == written.manifest
    assert (read.changed, read.standing) == (True, "changed since it was verified")


def test_a_file_without_a_verdict_has_none_that_could_be_lost(artifact: Artifact) -> None:
    written = write_manifest(replace(artifact, manifest=replace(artifact.manifest, content_sha256="f" * 64)))
    assert written.manifest.content_sha256 is None
    damage(artifact.path)
    assert (read_artifact(artifact.path).changed, read_artifact(artifact.path).standing) == (False, "not run")


def test_an_older_file_keeps_its_verdict(artifact: Artifact) -> None:
    """It does not say what its verdict is about."""
    record = json.loads(judged(artifact, Verdict.VERIFIED).manifest.dumps())
    del record["content_sha256"]
    FORMATS[artifact.manifest.format].write_manifest(artifact.path, json.dumps(record))
    damage(artifact.path)
    read = read_artifact(artifact.path)
    assert (read.manifest.content_sha256, read.changed, read.standing) == (None, False, "verified")


def test_what_breaks_off_between_verdict_and_content_counts_as_changed(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_manifest(artifact)
    support = FORMATS[artifact.manifest.format]

    def break_off(path: Path) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(FORMATS, artifact.manifest.format, replace(support, hash_content=break_off))
    with pytest.raises(OSError, match="No space left"):
        write_manifest(judged(artifact, Verdict.VERIFIED))
    monkeypatch.setitem(FORMATS, artifact.manifest.format, support)
    assert read_artifact(artifact.path).standing == "changed since it was verified"


def test_what_is_read_is_the_manifest_inside_not_the_one_beside(artifact: Artifact) -> None:
    write_manifest(artifact)
    artifact.sidecar_path.write_text("of another file")
    assert read_artifact(artifact.path) == artifact
    artifact.sidecar_path.unlink()
    assert read_artifact(artifact.path) == artifact


def test_a_file_without_manifest_is_refused(artifact: Artifact) -> None:
    with pytest.raises(ArtifactError) as refusal:
        read_artifact(artifact.path)
    assert str(refusal.value) == (
        f"{artifact.path} carries no aml-edge manifest, so its space is unknown; export it with aml-edge."
    )


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.onnx does not exist; `aml-edge export` makes one"):
        read_artifact(tmp_path / "gone.onnx")


def test_a_manifest_of_another_format_is_refused(tmp_path: Path) -> None:
    path = onnx_file(tmp_path / "model.onnx")
    FORMATS[Format.ONNX].write_manifest(path, manifest(Format.TFLITE).dumps())
    with pytest.raises(ArtifactError, match=r"model\.onnx says it is tflite, but its name says onnx; rename it"):
        read_artifact(path)


@pytest.mark.parametrize("model_format", Format)
def test_bytes_of_no_model_are_refused_in_one_line(model_format: Format, tmp_path: Path) -> None:
    path = tmp_path / f"model{FORMATS[model_format].suffix}"
    path.write_bytes(b"\x00 not a model \xff" * 9)
    with pytest.raises(ArtifactError) as refusal:
        read_artifact(path)
    assert str(refusal.value).startswith(str(path))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("model_format", [Format.ONNX, Format.TFLITE])
def test_a_folder_of_that_name_is_refused_in_one_line(model_format: Format, tmp_path: Path) -> None:
    path = tmp_path / f"model{FORMATS[model_format].suffix}"
    path.mkdir()
    with pytest.raises(ArtifactError) as refusal:
        read_artifact(path)
    assert str(refusal.value).startswith(str(path))
    assert "\n" not in str(refusal.value)


def test_a_manifest_that_cannot_be_read_names_the_file(tmp_path: Path) -> None:
    path = onnx_file(tmp_path / "model.onnx")
    FORMATS[Format.ONNX].write_manifest(path, "{}")
    with pytest.raises(ArtifactError, match=r"model\.onnx carries a manifest that cannot be read"):
        read_artifact(path)
