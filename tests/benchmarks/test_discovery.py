"""Files that are named, and files that lie in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aml_edge.artifact import Artifact
from aml_edge.benchmarks.discovery import discover, model_files, read_named
from aml_edge.errors import ArtifactError, UsageError
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.space import EmbeddingSpace

OnnxFile = Callable[..., Artifact]


def test_a_folder_s_files_come_by_name(onnx_file: OnnxFile, tmp_path: Path) -> None:
    files = [onnx_file(tmp_path / name) for name in ("b.onnx", "a.onnx")]
    (tmp_path / "c.mlpackage").mkdir()
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / ".half.onnx").write_bytes(b"")
    (tmp_path / "deeper").mkdir()
    onnx_file(tmp_path / "deeper" / "d.onnx")
    assert model_files(tmp_path) == tuple(tmp_path / name for name in ("a.onnx", "b.onnx", "c.mlpackage"))
    found = discover(tmp_path)
    assert found.artifacts == (files[1], files[0])
    (sentence,) = found.left_out
    assert sentence.startswith(str(tmp_path / "c.mlpackage"))


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    found = discover(tmp_path / "artifacts")
    assert (found.artifacts, found.left_out) == ((), ())


def test_files_of_other_students_and_spaces_are_left_out_with_the_reason(
    onnx_file: OnnxFile, tmp_path: Path, checkpoint: StudentCheckpoint
) -> None:
    mine = onnx_file(tmp_path / "mine.onnx")
    onnx_file(tmp_path / "other.onnx", student="another", weights_sha256="0123456789" + "0" * 54)
    whitened = EmbeddingSpace("toy teacher", "a" * 64, 3, "f" * 64)
    onnx_file(tmp_path / "whitened.onnx", space=whitened)
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    found = discover(tmp_path, checkpoint, mine.manifest.space)
    assert found.artifacts == (mine,)
    assert found.left_out[0].startswith(f"{tmp_path / 'broken.onnx'} ")
    assert found.left_out[1:] == (
        f"{tmp_path / 'other.onnx'} is of another student, 'another' (01234567).",
        f"{tmp_path / 'whitened.onnx'} lives in another space than the index, {whitened.describe()}.",
    )
    assert len(discover(tmp_path).artifacts) == 3


def test_named_files_come_in_the_order_in_which_they_were_named(onnx_file: OnnxFile, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    a, b = (onnx_file(tmp_path / "folder" / name) for name in ("a.onnx", "b.onnx"))
    z = onnx_file(tmp_path / "z.onnx")
    assert read_named([z.path, tmp_path / "folder"]) == (z, a, b)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("notes.txt", "is no model file: its name must end in one of .onnx, .tflite, .mlpackage."),
        ("empty", "holds no model file; `aml-edge export` makes one."),
    ],
)
def test_a_path_that_is_no_artifact_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError) as refused:
        read_named([tmp_path / name])
    assert str(refused.value) == f"{tmp_path / name} {message}"


def test_a_path_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        read_named([tmp_path / "nowhere.onnx"])
    assert str(refused.value) == f"{tmp_path / 'nowhere.onnx'} does not exist; `aml-edge export` makes one."
