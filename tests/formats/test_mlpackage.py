"""Packages whose folder is not what it should be; nothing outside of it is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aml_edge.errors import ArtifactError
from aml_edge.formats.coreml_messages import dump_model, parse_model
from aml_edge.formats.mlpackage import load_model, model_file, weight_file


def manifest(place: object = "vendor/model.mlmodel", root: str = "id") -> str:
    return json.dumps({"itemInfoEntries": {"id": {"path": place}}, "rootModelIdentifier": root})


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package with a program of no operations, and a weight file."""
    package = tmp_path / "model.mlpackage"
    (package / "Data" / "vendor" / "weights").mkdir(parents=True)
    (package / "Manifest.json").write_text(manifest())
    model = parse_model(b"")
    model.mlProgram.functions["main"].opset = "CoreML7"
    (package / "Data" / "vendor" / "model.mlmodel").write_bytes(dump_model(model))
    (package / "Data" / "vendor" / "weights" / "weight.bin").write_bytes(b"weights")
    return package


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file beside the package."""
    path = tmp_path / "secret"
    path.write_bytes(b"secret")
    return path


def refusal(package: Path) -> str:
    with pytest.raises(ArtifactError) as caught:
        load_model(package)
    prefix, suffix = f"{package} is not a Core ML package that can be read: ", "; export it again."
    assert str(caught.value).startswith(prefix)
    assert str(caught.value).endswith(suffix)
    return str(caught.value).removeprefix(prefix).removesuffix(suffix)


def test_finds_model_and_weights(package: Path) -> None:
    assert model_file(package) == package / "Data" / "vendor" / "model.mlmodel"
    assert load_model(package).mlProgram.functions["main"].opset == "CoreML7"
    assert weight_file(package, "@model_path/weights/weight.bin").read_bytes() == b"weights"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not JSON",
        "[]",
        "{}",
        "3",
        "\ufeff{}",
        manifest(root="other"),
        manifest(place=3),
        manifest(place=None),
        '{"itemInfoEntries": [], "rootModelIdentifier": "id"}',
        "[" * 100_000,
    ],
)
def test_a_manifest_that_says_nothing_of_a_model_is_refused(package: Path, text: str) -> None:
    (package / "Manifest.json").write_text(text, encoding="utf-8")
    assert refusal(package) == "its Manifest.json does not say where the model is"


def test_what_is_no_text_is_refused(package: Path) -> None:
    (package / "Manifest.json").write_bytes(b"\xff\xfe\x00\xd8")
    assert refusal(package) == "its Manifest.json does not say where the model is"


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("vendor/other.mlmodel", "it lacks 'vendor/other.mlmodel'"),
        ("vendor/\0", r"it lacks 'vendor/\x00'"),
        ("vendor", "its 'vendor' is no file"),
        ("../../secret", "its '../../secret' leads outside of it"),
        ("/etc/passwd", "its '/etc/passwd' leads outside of it"),
    ],
)
def test_a_model_elsewhere_is_refused(package: Path, outside: Path, place: str, message: str) -> None:
    (package / "Manifest.json").write_text(manifest(place))
    assert refusal(package) == message


@pytest.mark.parametrize("name", ["Manifest.json", "Data/vendor/model.mlmodel"])
def test_links_that_lead_outside_are_refused(package: Path, outside: Path, name: str) -> None:
    (package / name).unlink()
    (package / name).symlink_to(outside)
    assert refusal(package) == f"its {name.removeprefix('Data/')!r} leads outside of it"


def test_a_folder_that_leads_outside_is_refused(package: Path, tmp_path: Path) -> None:
    (package / "Data").rename(tmp_path / "elsewhere")
    (package / "Data").symlink_to(tmp_path / "elsewhere")
    assert refusal(package) == "its 'vendor/model.mlmodel' leads outside of it"


def test_links_that_go_round_are_refused(package: Path) -> None:
    (package / "Manifest.json").unlink()
    (package / "Manifest.json").symlink_to("Manifest.json")
    assert refusal(package) == "it lacks 'Manifest.json'"


def test_links_inside_and_a_link_to_the_package_are_followed(package: Path, tmp_path: Path) -> None:
    (package / "Manifest.json").rename(package / "real.json")
    (package / "Manifest.json").symlink_to("real.json")
    (tmp_path / "link.mlpackage").symlink_to(package)
    assert load_model(tmp_path / "link.mlpackage").mlProgram.functions["main"].opset == "CoreML7"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("@model_path/../../../secret", "its '@model_path/../../../secret' leads outside of it"),
        ("@model_path//etc/passwd", "its '@model_path//etc/passwd' leads outside of it"),
        ("/etc/passwd", "its weights are in '/etc/passwd', which is outside of it"),
        ("weights/weight.bin", "its weights are in 'weights/weight.bin', which is outside of it"),
        ("@model_path/weights/other.bin", "it lacks '@model_path/weights/other.bin'"),
        ("@model_path/weights", "its '@model_path/weights' is no file"),
    ],
)
def test_weights_elsewhere_are_refused(package: Path, outside: Path, name: str, message: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        weight_file(package, name)
    assert message in str(caught.value)


def test_a_package_named_from_here_is_read(
    package: Path, tmp_path: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = Path(package.name)
    assert weight_file(here, "@model_path/weights/weight.bin").read_bytes() == b"weights"
    with pytest.raises(ArtifactError, match=r"^model\.mlpackage is not .*'@model_path/\.\./.*' leads outside of it"):
        weight_file(here, "@model_path/../../../secret")


def test_what_is_no_package_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "missing.mlpackage") == "it lacks 'Manifest.json'"
    (tmp_path / "file.mlpackage").write_bytes(b"a file")
    assert refusal(tmp_path / "file.mlpackage") == "it lacks 'Manifest.json'"


@pytest.mark.parametrize("content", [b"\xff" * 100, b"not a model", b"\x0a\xff\xff\xff\xff\x7f"])
def test_what_is_no_model_is_refused(package: Path, content: bytes) -> None:
    model_file(package).write_bytes(content)
    assert refusal(package)


@pytest.mark.parametrize("content", [b"", b"\x08\x08"])
def test_a_model_of_another_kind_is_refused(package: Path, content: bytes) -> None:
    model_file(package).write_bytes(content)
    assert refusal(package) == "it holds no ML program"


def test_messages_nested_without_end_are_refused(package: Path) -> None:
    content = b""
    for _ in range(300):  # an operation with a block with an operation …
        block = b"\x1a" + _varint(len(content)) + content
        content = b"\x22" + _varint(len(block)) + block
    block = b"\x1a" + _varint(len(content)) + content
    entry = b"\x0a\x01x\x12" + _varint(len(block)) + block
    function = b"\x1a" + _varint(len(entry)) + entry
    entry = b"\x0a\x04main\x12" + _varint(len(function)) + function
    program = b"\x12" + _varint(len(entry)) + entry
    model_file(package).write_bytes(b"\xb2\x1f" + _varint(len(program)) + program)
    assert refusal(package)


def _varint(number: int) -> bytes:
    content = b""
    while number > 127:
        content += bytes([number % 128 + 128])
        number //= 128
    return content + bytes([number])
