"""The verdict on a file: in its manifest, beside it, and as an exit code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from aml_edge.artifact import Artifact, Format, Manifest, Precision, Verdict
from aml_edge.errors import ArtifactError, VerificationError, VerificationNotRunError
from aml_edge.exporters.judgement import Judgement
from aml_edge.exporters.verdicts import not_run, recorded, require_all_verified, require_none_failed
from aml_edge.formats import FORMATS, read_artifact, write_manifest
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.space import EmbeddingSpace

VERIFIED = Judgement(Verdict.VERIFIED)
FAILED = Judgement(Verdict.FAILED, ("too far", "too short"))
UNKNOWN = not_run("too few images")


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    """A small ONNX file that says it was never verified."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("image", "embedding")]
    graph = helper.make_graph([helper.make_node("Identity", ["image"], ["embedding"])], "g", values[:1], values[1:])
    (tmp_path / "demo.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    space = EmbeddingSpace("toy teacher", "a" * 64, 64)
    manifest = Manifest(
        space, Preprocessing(224, Fit.SQUASH), "demo", "b", "b" * 64, Format.ONNX, Precision.FP32, "opset 20"
    )
    artifact = Artifact(tmp_path / "demo.onnx", manifest)
    write_manifest(artifact)
    return artifact


def test_not_run_says_why() -> None:
    assert UNKNOWN == Judgement(Verdict.NOT_RUN, ("too few images",))


@pytest.mark.parametrize(
    ("judgement", "note", "words"),
    [
        (VERIFIED, "onnxruntime, 24 images", "onnxruntime, 24 images"),
        (VERIFIED, "", ""),
        (FAILED, "onnxruntime, 24 images", "too far; too short (onnxruntime, 24 images)"),
        (FAILED, "", "too far; too short"),
        (UNKNOWN, "", "too few images"),
    ],
)
def test_a_verdict_is_written_inside_and_beside(
    artifact: Artifact, judgement: Judgement, note: str, words: str
) -> None:
    judged = recorded(artifact, judgement, note)
    content = None if judgement is UNKNOWN else FORMATS[Format.ONNX].hash_content(artifact.path)
    expected = replace(artifact.manifest, verdict=judgement.verdict, verdict_reason=words, content_sha256=content)
    assert judged == Artifact(artifact.path, expected)
    assert read_artifact(artifact.path).manifest == expected
    beside = json.loads(artifact.sidecar_path.read_text())
    assert (beside["verdict"], beside["verdict_reason"]) == (str(judgement.verdict), words)


@pytest.mark.parametrize(("first", "second"), [(VERIFIED, FAILED), (FAILED, VERIFIED)])
def test_a_later_verdict_replaces_an_earlier_one(artifact: Artifact, first: Judgement, second: Judgement) -> None:
    recorded(recorded(artifact, first), second)
    assert read_artifact(artifact.path).manifest.verdict is second.verdict


@pytest.mark.parametrize("earlier", [VERIFIED, FAILED])
def test_nothing_proven_takes_nothing_back(artifact: Artifact, earlier: Judgement) -> None:
    judged = recorded(artifact, earlier, "by hand")
    assert recorded(judged, UNKNOWN) is judged
    assert read_artifact(artifact.path).manifest == judged.manifest


def test_the_same_verdict_does_not_touch_the_file(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    judged = recorded(artifact, FAILED, "by hand")
    monkeypatch.setattr("aml_edge.exporters.verdicts.write_manifest", None)
    assert recorded(judged, FAILED, "by hand") is judged


def change(artifact: Artifact) -> None:
    artifact.path.write_bytes(artifact.path.read_bytes().replace(b"Identity", b"Softplus"))


@pytest.mark.parametrize("judgement", [VERIFIED, FAILED])
def test_the_same_verdict_on_a_changed_file_is_about_what_it_is_now(artifact: Artifact, judgement: Judgement) -> None:
    first = recorded(artifact, judgement, "by hand")
    change(artifact)
    changed = read_artifact(artifact.path)
    assert changed.standing == "changed since it was verified"
    second = recorded(changed, judgement, "by hand")
    assert read_artifact(artifact.path) == second
    assert second.standing == str(judgement.verdict)
    assert second.manifest.content_sha256 != first.manifest.content_sha256


def test_nothing_proven_of_a_changed_file_leaves_it_so(artifact: Artifact) -> None:
    recorded(artifact, VERIFIED)
    change(artifact)
    changed = read_artifact(artifact.path)
    assert recorded(changed, UNKNOWN) is changed
    assert read_artifact(artifact.path).standing == "changed since it was verified"


def test_the_same_verdict_on_an_older_file_says_what_it_is_about(artifact: Artifact) -> None:
    judged = recorded(artifact, VERIFIED, "by hand")
    older = replace(judged.manifest, content_sha256=None)
    FORMATS[Format.ONNX].write_manifest(artifact.path, older.dumps())
    assert recorded(read_artifact(artifact.path), VERIFIED, "by hand") == judged
    assert read_artifact(artifact.path) == judged


@pytest.mark.parametrize("judgement", [FAILED, UNKNOWN])
@pytest.mark.parametrize("beside", ['{"verdict": "verified"}', None])
def test_a_manifest_beside_the_file_that_is_another_is_replaced(
    artifact: Artifact, judgement: Judgement, beside: str | None
) -> None:
    """Phones are told to read side and mean there."""
    judged = recorded(artifact, FAILED, "by hand")
    artifact.sidecar_path.unlink()
    if beside is not None:
        artifact.sidecar_path.write_text(beside)
    recorded(judged, judgement, "by hand")
    assert artifact.sidecar_path.read_text() == judged.manifest.dumps() + "\n"


def test_a_verdict_that_cannot_be_written_is_an_error_and_no_pass(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Artifact) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("aml_edge.exporters.verdicts.write_manifest", full)
    with pytest.raises(ArtifactError) as refusal:
        recorded(artifact, VERIFIED)
    assert str(refusal.value) == (
        f"the verdict 'verified' cannot be written into {artifact.path}: No space left on device; make the file and "
        "its folder writable, then verify again."
    )
    assert read_artifact(artifact.path).manifest.verdict is Verdict.NOT_RUN


ONE = (Path("a.onnx"), VERIFIED)
BAD = (Path("b.onnx"), FAILED)
WORSE = (Path("c.onnx"), FAILED)
OPEN = (Path("d.onnx"), UNKNOWN)


@pytest.mark.parametrize("judgements", [(), (ONE,), (ONE, OPEN), (OPEN,)])
def test_none_failed_raises_nothing(judgements: tuple[tuple[Path, Judgement], ...]) -> None:
    require_none_failed(judgements)


def test_all_verified_raises_nothing() -> None:
    require_all_verified([])
    require_all_verified([ONE, ONE])


@pytest.mark.parametrize("require", [require_none_failed, require_all_verified])
def test_files_that_failed_are_named_and_nothing_outranks_them(require: object) -> None:
    assert callable(require)
    with pytest.raises(VerificationError) as failure:
        require([OPEN, BAD, ONE, WORSE])
    assert str(failure.value) == "b.onnx, c.onnx failed verification, for the reasons above; do not ship it."
    assert failure.value.exit_code == 3


def test_files_of_which_nothing_is_known_are_named() -> None:
    with pytest.raises(VerificationNotRunError) as unknown:
        require_all_verified([ONE, OPEN])
    assert str(unknown.value) == (
        "d.onnx: not verified, for the reasons above, so nothing is known of it; "
        "a file that was not verified has neither passed nor failed."
    )
    assert unknown.value.exit_code == 1
