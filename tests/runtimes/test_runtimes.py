"""The table of runtimes: who runs what."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import numpy.typing as npt
import pytest

from aml_edge.artifact import Artifact, Format
from aml_edge.errors import MissingExtraError, RuntimeUnavailableError, UsageError
from aml_edge.runtimes import RUNTIMES, default_runtime, open_artifact


def test_names_are_keys() -> None:
    assert {key: runtime.name for key, runtime in RUNTIMES.items()} == {key: key for key in RUNTIMES}


def test_defaults() -> None:
    assert default_runtime(Format.ONNX) == "onnxruntime"
    assert default_runtime(Format.TFLITE) == "litert"


@pytest.mark.parametrize(("platform", "expected"), [("darwin", "coreml"), ("linux", "mil"), ("win32", "mil")])
def test_core_ml_is_evaluated_where_there_is_no_framework(
    monkeypatch: pytest.MonkeyPatch, platform: str, expected: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert default_runtime(Format.COREML) == expected


def test_only_the_evaluator_simulates() -> None:
    assert [name for name, runtime in RUNTIMES.items() if runtime.simulates] == ["mil"]


def test_only_core_ml_chooses_its_threads() -> None:
    assert [name for name, runtime in RUNTIMES.items() if runtime.chooses_threads] == ["coreml"]


def test_importing_the_table_imports_no_runtime() -> None:
    code = "import aml_edge.runtimes, sys; print([name for name in ('torch', 'coremltools') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_format_that_nothing_runs_here_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    others = {name: runtime for name, runtime in RUNTIMES.items() if Format.ONNX not in runtime.formats}
    monkeypatch.setattr("aml_edge.runtimes.RUNTIMES", others)
    with pytest.raises(RuntimeUnavailableError, match="no runtime of this machine runs onnx files"):
        default_runtime(Format.ONNX)


def test_opens_the_default(
    onnx_artifact: Artifact, images: list[npt.NDArray[np.uint8]], expected: npt.NDArray[np.float64]
) -> None:
    embedder = open_artifact(onnx_artifact, threads=1)
    assert embedder.name == "onnxruntime cpu"
    assert np.abs(embedder.embed(images) - expected).max() < 1e-6


def test_an_unknown_runtime_is_refused(onnx_artifact: Artifact) -> None:
    with pytest.raises(UsageError, match="`runtime` is 'tensorrt'; it must be one of onnxruntime, litert, tensorflow"):
        open_artifact(onnx_artifact, "tensorrt")


def test_a_runtime_of_another_format_is_refused(onnx_artifact: Artifact) -> None:
    with pytest.raises(UsageError, match="`runtime` is 'litert', which does not run onnx files; onnxruntime would"):
        open_artifact(onnx_artifact, "litert")


@pytest.mark.parametrize("threads", [0, -1])
def test_no_thread_is_refused(onnx_artifact: Artifact, threads: int) -> None:
    with pytest.raises(UsageError, match=f"`threads` is {threads}; an inference needs at least one"):
        open_artifact(onnx_artifact, threads=threads)


@pytest.mark.parametrize(
    ("module", "runtime", "extra"), [("ai_edge_litert", "litert", "tflite"), ("tensorflow", "tensorflow", "tensorflow")]
)
def test_a_missing_extra_gives_the_pip_command(
    tflite_artifact: Artifact, monkeypatch: pytest.MonkeyPatch, module: str, runtime: str, extra: str
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == module] + [module]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'aml-edge\[{extra}\]'"):
        open_artifact(tflite_artifact, runtime)
