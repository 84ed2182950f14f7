"""The manifest: what is written can be read, and what cannot be trusted is refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aml_edge.artifact import Artifact, Format, Manifest, Precision, Verdict
from aml_edge.errors import ArtifactError
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.quantization_record import QuantizationMethod, QuantizationRecord
from aml_edge.space import EmbeddingSpace

MANIFEST = Manifest(
    space=EmbeddingSpace("resnet101-gem", "a" * 64, 2048, "b" * 64),
    preprocessing=Preprocessing(224, Fit.LETTERBOX, mean=(0.5, 0.4, 0.3), std=(0.25, 0.5, 1.0)),
    student="demo",
    backbone="efficientnet_lite0",
    weights_sha256="c" * 64,
    format=Format.TFLITE,
    precision=Precision.FP16,
    target="LiteRT builtin operators",
    tools={"torch": "2.13.0", "aml-edge": "0.1.0"},
    verdict=Verdict.VERIFIED,
    verdict_reason="litert cpu, 188 images of landmarks",
)

Record = dict[str, Any]


def record() -> Record:
    loaded: Record = json.loads(MANIFEST.dumps())
    return loaded


def without(name: str) -> Callable[[Record], Record]:
    return lambda whole: {key: value for key, value in whole.items() if key != name}


def with_value(name: str, value: object) -> Callable[[Record], Record]:
    return lambda whole: {**whole, name: value}


def test_a_manifest_that_is_read_again_is_the_same() -> None:
    assert Manifest.loads(MANIFEST.dumps(), source="a file") == MANIFEST


def test_json_says_what_people_and_scripts_look_for() -> None:
    found = record()
    assert found["space"]["fingerprint"] == MANIFEST.space.fingerprint
    assert found["space"]["teacher"] == "resnet101-gem"
    assert found["preprocessing"]["fit"] == "letterbox"
    assert found["preprocessing"]["mean"] == [0.5, 0.4, 0.3]
    assert (found["format"], found["precision"], found["verdict"]) == ("tflite", "fp16", "verified")
    assert list(found) == sorted(found)


def test_an_older_manifest_does_not_say_what_its_verdict_is_about() -> None:
    assert Manifest.loads(json.dumps(without("content_sha256")(record())), source="a file") == MANIFEST
    tied = replace(MANIFEST, content_sha256="d" * 64)
    assert Manifest.loads(tied.dumps(), source="a file") == tied


QUANTIZED = replace(
    MANIFEST,
    precision=Precision.INT8,
    quantization=QuantizationRecord(QuantizationMethod.POST_TRAINING, None, {"head": "small numbers"}, True, True, 8),
)


def test_a_manifest_says_how_integers_were_chosen() -> None:
    assert json.loads(QUANTIZED.dumps())["quantization"]["float_blocks"] == {"head": "small numbers"}
    assert Manifest.loads(QUANTIZED.dumps(), source="a file") == QUANTIZED


def test_an_older_manifest_says_nothing_of_integers() -> None:
    assert Manifest.loads(json.dumps(without("quantization")(record())), source="a file").quantization is None


@pytest.mark.parametrize("quantization", [[], "int8", 8, {}, {"method": "post-training"}])
def test_integers_that_were_chosen_nohow_are_refused(quantization: object) -> None:
    with pytest.raises(ArtifactError) as refusal:
        Manifest.loads(json.dumps(record() | {"quantization": quantization}), source="stray.onnx")
    message = str(refusal.value)
    assert message.startswith(
        "stray.onnx carries a manifest that cannot be read: what it says of its quantization does not have the fields "
    )
    assert message.endswith("; export it again.")


def test_what_a_verdict_is_worth_is_it_or_that_the_file_has_changed() -> None:
    assert Artifact(Path("a.tflite"), MANIFEST).standing == "verified"
    assert Artifact(Path("a.tflite"), MANIFEST, changed=True).standing == "changed since it was verified"


def test_a_new_file_was_never_verified() -> None:
    fresh = replace(MANIFEST, verdict=Manifest.verdict, verdict_reason=Manifest.verdict_reason)
    assert (fresh.verdict, fresh.verdict_reason) == (Verdict.NOT_RUN, "never verified")


def test_verdicts_are_three_different_words() -> None:
    assert [str(verdict) for verdict in Verdict] == ["verified", "failed", "not run"]


@pytest.mark.parametrize(
    "change",
    [
        without("space"),
        without("student"),
        without("verdict"),
        with_value("format", "torchscript"),
        with_value("precision", 16),
        with_value("verdict", "passed"),
        with_value("space", []),
        with_value("space", "resnet101-gem"),
        with_value("preprocessing", None),
        with_value("student", 5),
        with_value("weights_sha256", None),
        with_value("verdict_reason", ["so"]),
        with_value("tools", ["torch"]),
        with_value("tools", {"torch": 2}),
        with_value("content_sha256", 7),
    ],
)
def test_a_record_that_cannot_be_read_is_one_line(change: Callable[[Record], Record]) -> None:
    with pytest.raises(ArtifactError) as refusal:
        Manifest.loads(json.dumps(change(record())), source="stray.onnx")
    message = str(refusal.value)
    assert message.startswith("stray.onnx carries a manifest that cannot be read: ")
    assert message.endswith("; export it again.")
    assert "\n" not in message


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"text"', "[" * 100_000])
def test_text_that_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(ArtifactError, match=r"stray\.onnx carries a manifest that cannot be read"):
        Manifest.loads(text, source="stray.onnx")


def test_a_later_version_is_refused_by_name() -> None:
    with pytest.raises(ArtifactError, match="its version is 2, this aml-edge reads 1"):
        Manifest.loads(json.dumps({**record(), "version": 2}), source="stray.onnx")


def test_a_space_that_was_edited_is_refused() -> None:
    edited = record()
    edited["space"]["teacher"] = "vgg16-gem"
    with pytest.raises(ArtifactError) as refusal:
        Manifest.loads(json.dumps(edited), source="stray.onnx")
    assert str(refusal.value) == (
        "stray.onnx carries a space whose fingerprint does not match its record; export it again."
    )


def test_the_sidecar_lies_beside_the_file() -> None:
    assert Artifact(Path("out/demo.tflite"), MANIFEST).sidecar_path == Path("out/demo.tflite.json")


def test_size_of_a_file_and_of_a_folder(tmp_path: Path) -> None:
    file, folder = tmp_path / "a.tflite", tmp_path / "a.mlpackage"
    file.write_bytes(b"12345")
    (folder / "Data" / "empty").mkdir(parents=True)
    (folder / "Manifest.json").write_bytes(b"12")
    (folder / "Data" / "weights.bin").write_bytes(b"1234567")
    assert Artifact(file, MANIFEST).size_bytes == 5
    assert Artifact(folder, MANIFEST).size_bytes == 9
