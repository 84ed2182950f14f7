"""An exported file as a subject: what it imports, and what it opens."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aml_edge.artifact import Artifact
from aml_edge.benchmarks.file_subject import FileSubject

OnnxFile = Callable[..., Artifact]


def test_opens_the_file_in_its_runtime(onnx_file: OnnxFile, tmp_path: Path) -> None:
    subject = FileSubject(onnx_file(tmp_path / "a.onnx"), "onnxruntime", 1)
    embedder = pickle.loads(pickle.dumps(subject)).open()
    image = np.full((32, 32, 3), (1, 2, 5), np.uint8)  # means plus one: 2, 3, 6, whose norm is 7
    np.testing.assert_allclose(embedder.embed([image]), [[2 / 7, 3 / 7, 6 / 7]], atol=1e-6)
    assert embedder.name == "onnxruntime cpu"
    embedder.close()
    assert subject.device_peak_bytes() is None


def test_a_file_of_another_machine_s_runtime_imports_nothing(
    onnx_file: OnnxFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    subject = FileSubject(onnx_file(tmp_path / "a.onnx"), "coreml", None)
    imported: list[str] = []
    monkeypatch.setattr("importlib.import_module", imported.append)
    subject.import_runtime()
    assert imported == []
    FileSubject(subject.artifact, "onnxruntime", 1).import_runtime()
    assert imported == ["onnxruntime"]


def test_a_runtime_that_is_not_installed_is_left_to_open(
    onnx_file: OnnxFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("importlib.import_module", absent)
    FileSubject(onnx_file(tmp_path / "a.onnx"), "onnxruntime", 1).import_runtime()
