"""Core ML packages written by coremltools: manifest and census, and what coremltools reads of them afterwards."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aml_edge.errors import ArtifactError
from aml_edge.formats import coreml_file
from aml_edge.formats.mlpackage import model_file

MANIFEST = '{"space": "ein Manifest, äöü"}'


@pytest.fixture
def package(mil_package: Callable[..., Path]) -> Path:
    """A convolution, two transposes, a linear layer in half; some constants are too short for the weight file."""

    def build(mb: Any, image: Any) -> Any:
        convolved = mb.conv(x=image, weight=np.ones((4, 3, 2, 2), np.float32), bias=np.arange(4, dtype=np.float32))
        turned = mb.transpose(x=mb.transpose(x=convolved, perm=[0, 2, 3, 1]), perm=[0, 1, 3, 2])
        half = mb.cast(x=mb.reduce_mean(x=turned, axes=[1, 3]), dtype="fp16")
        weight = mb.constexpr_affine_dequantize(
            quantized_data=np.ones((5, 4), np.int8), zero_point=np.int8(0), scale=np.float16(0.5), axis=0
        )
        row = mb.linear(x=half, weight=weight, bias=np.ones(5, np.float16))
        return mb.cast(x=row, dtype="fp32", name="embedding")

    return mil_package(build, {"image": (1, 3, 5, 5)}, colours="RGB")


def test_a_package_without_manifest_says_none(package: Path) -> None:
    assert coreml_file.read_manifest(package) is None


def test_manifest_survives_and_is_replaced(package: Path) -> None:
    coreml_file.write_manifest(package, MANIFEST + " " * 1000)
    coreml_file.write_manifest(package, MANIFEST)
    assert coreml_file.read_manifest(package) == MANIFEST


def test_coremltools_finds_the_manifest_and_all_else_unchanged(package: Path, coremltools: Any) -> None:
    def add_author(spec: Any) -> Any:
        spec.description.metadata.author = "another tool"
        spec.description.metadata.userDefined["key"] = "value"
        spec.description.input[0].shortDescription = "a photograph"
        return spec

    before = add_author(coremltools.utils.load_spec(str(package)))
    model_file(package).write_bytes(before.SerializeToString())
    weights = package / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    weights_sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    coreml_file.write_manifest(package, MANIFEST)
    after = coremltools.utils.load_spec(str(package))
    assert dict(after.description.metadata.userDefined) == {"key": "value", "aml-edge.manifest": MANIFEST}
    del after.description.metadata.userDefined["aml-edge.manifest"]
    assert after == before
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == weights_sha256


def test_the_same_manifest_gives_the_same_bytes(package: Path) -> None:
    coreml_file.write_manifest(package, MANIFEST)
    first = model_file(package).read_bytes()
    coreml_file.write_manifest(package, "another")
    coreml_file.write_manifest(package, MANIFEST)
    assert model_file(package).read_bytes() == first


def test_the_content_is_the_model_and_its_weights_without_the_manifest(package: Path) -> None:
    coreml_file.write_manifest(package, MANIFEST)
    content = coreml_file.hash_content(package)
    coreml_file.write_manifest(package, "another, of another length" * 99)
    assert coreml_file.hash_content(package) == content
    (package / ".DS_Store").write_bytes(b"what a Mac's Finder leaves")
    (package / "Data" / "com.apple.CoreML" / "weights" / ".DS_Store").write_bytes(b"everywhere")
    assert coreml_file.hash_content(package) == content


def test_another_weight_or_operator_is_another_content(package: Path) -> None:
    coreml_file.write_manifest(package, MANIFEST)
    content = coreml_file.hash_content(package)
    weights = package / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert coreml_file.hash_content(package) != content
    weights.write_bytes(whole)
    assert coreml_file.hash_content(package) == content
    model = model_file(package)
    model.write_bytes(model.read_bytes().replace(b"transpose", b"transposE"))
    assert coreml_file.read_manifest(package) == MANIFEST
    assert coreml_file.hash_content(package) != content


def test_a_package_without_its_weights_is_named(package: Path) -> None:
    (package / "Data" / "com.apple.CoreML" / "weights" / "weight.bin").unlink()
    with pytest.raises(ArtifactError) as refusal:
        coreml_file.hash_content(package)
    assert str(refusal.value) == (
        f"{package} is not a Core ML package that can be read: it lacks '@model_path/weights/weight.bin'; "
        "export it again."
    )


def test_census_leaves_constants_and_options_out(package: Path) -> None:
    census = coreml_file.take_census(package)
    assert census.operators == {
        "conv": 1,
        "transpose": 2,
        "reduce_mean": 1,
        "cast": 2,
        "constexpr_affine_dequantize": 1,
        "linear": 1,
    }
    assert census.weight_values == {
        "float32": 4 * 3 * 2 * 2 + 4,
        "float16": 5 + 1,  # bias, scale
        "int8": 5 * 4 + 1,  # the weights, their zero point
    }
    assert census.transposes == 2


def test_needs_no_coremltools(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "coremltools", None)
    coreml_file.write_manifest(package, MANIFEST)
    assert coreml_file.read_manifest(package) == MANIFEST
    assert coreml_file.take_census(package).operators["conv"] == 1
    assert len(coreml_file.hash_content(package)) == 64


def test_what_breaks_while_writing_leaves_the_package_as_it_was(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coreml_file.write_manifest(package, MANIFEST)
    before = {path: path.read_bytes() for path in package.rglob("*") if path.is_file()}

    def break_off(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", break_off)
    with pytest.raises(OSError, match="No space left"):
        coreml_file.write_manifest(package, "another")
    assert {path: path.read_bytes() for path in package.rglob("*") if path.is_file()} == before


def test_a_cut_model_is_an_error_or_has_no_manifest(package: Path) -> None:
    coreml_file.write_manifest(package, MANIFEST)
    whole = model_file(package).read_bytes()
    for length in range(0, len(whole) - 1, 97):
        model_file(package).write_bytes(whole[:length])
        try:
            assert coreml_file.read_manifest(package) is None
            coreml_file.take_census(package)
        except ArtifactError as problem:
            assert str(problem).startswith(f"{package} is not a Core ML package that can be read: ")
