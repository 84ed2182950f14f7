"""The table of runtimes: who runs what."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from aml_edge.artifact import Artifact, Format, Precision
from aml_edge.errors import MissingExtraError, RuntimeUnavailableError, UsageError
from aml_edge.runtimes import RUNTIMES, default_runtime, exact_runtime, open_artifact, verification_runtime


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


def test_what_has_exact_kernels() -> None:
    exact = {name: exact_runtime(name) for name in RUNTIMES}
    assert {name: found for name, found in exact.items() if found} == {
        "onnxruntime": "onnxruntime-precise",
        "litert": "litert-reference",
    }


def with_precision(artifact: Artifact, precision: Precision) -> Artifact:
    return replace(artifact, manifest=replace(artifact.manifest, precision=precision))


def test_integers_in_onnx_are_verified_with_kernels_that_do_not_saturate(
    onnx_artifact: Artifact, tflite_artifact: Artifact
) -> None:
    precise = {
        precision
        for precision in Precision
        if verification_runtime(with_precision(onnx_artifact, precision)) == "onnxruntime-precise"
    }
    assert precise == {Precision.INT8, Precision.INT8_INT16, Precision.INT8_DYNAMIC}
    assert verification_runtime(onnx_artifact) == "onnxruntime"
    assert {verification_runtime(with_precision(tflite_artifact, one)) for one in Precision} == {"litert"}


@pytest.mark.parametrize(
    ("runtime", "precision", "name"),
    [
        ("onnxruntime", Precision.INT8_WEIGHTS, "onnxruntime cpu"),
        ("onnxruntime", Precision.INT8, "onnxruntime cpu, fast kernels"),
        ("onnxruntime-precise", Precision.INT8, "onnxruntime cpu, precise kernels"),
        ("onnxruntime-precise", Precision.FP32, "onnxruntime cpu, precise kernels"),
    ],
)
def test_onnx_runtime_says_which_kernels_run(
    onnx_artifact: Artifact,
    images: list[npt.NDArray[np.uint8]],
    expected: npt.NDArray[np.float64],
    runtime: str,
    precision: Precision,
    name: str,
) -> None:
    embedder = open_artifact(with_precision(onnx_artifact, precision), runtime, threads=1)
    assert embedder.name == name
    assert np.abs(embedder.embed(images) - expected).max() < 1e-6


@pytest.mark.parametrize(
    ("runtime", "precision", "name"),
    [
        ("litert", Precision.FP16, "litert cpu"),
        ("litert", Precision.INT8_DYNAMIC, "litert cpu, fast kernels"),
        ("litert-reference", Precision.INT8, "litert cpu, reference kernels"),
    ],
)
def test_litert_says_which_kernels_run(
    tflite_artifact: Artifact,
    images: list[npt.NDArray[np.uint8]],
    expected: npt.NDArray[np.float64],
    runtime: str,
    precision: Precision,
    name: str,
) -> None:
    pytest.importorskip("ai_edge_litert", reason="the extra 'tflite' is not installed")
    embedder = open_artifact(with_precision(tflite_artifact, precision), runtime, threads=1)
    assert embedder.name == name
    assert np.abs(embedder.embed(images) - expected).max() < 1e-6


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
    with pytest.raises(
        UsageError,
        match="`runtime` is 'tensorrt'; it must be one of onnxruntime, onnxruntime-precise, litert, litert-ref",
    ):
        open_artifact(onnx_artifact, "tensorrt")


def test_a_runtime_of_another_format_is_refused(onnx_artifact: Artifact) -> None:
    with pytest.raises(
        UsageError, match="`runtime` is 'litert', which does not run onnx files; onnxruntime, onnxruntime-precise would"
    ):
        open_artifact(onnx_artifact, "litert")


@pytest.mark.parametrize("threads", [0, -1])
def test_no_thread_is_refused(onnx_artifact: Artifact, threads: int) -> None:
    with pytest.raises(UsageError, match=f"`threads` is {threads}; an inference needs at least one"):
        open_artifact(onnx_artifact, threads=threads)


@pytest.mark.parametrize(
    ("module", "runtime", "extra"),
    [
        ("ai_edge_litert", "litert", "tflite"),
        ("ai_edge_litert", "litert-reference", "tflite"),
        ("tensorflow", "tensorflow", "tensorflow"),
    ],
)
def test_a_missing_extra_gives_the_pip_command(
    tflite_artifact: Artifact, monkeypatch: pytest.MonkeyPatch, module: str, runtime: str, extra: str
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == module] + [module]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'aml-edge\[{extra}\]'"):
        open_artifact(tflite_artifact, runtime)
