"""Which kernels compute which rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from aml_edge.artifact import Artifact, Manifest, Precision
from aml_edge.benchmarks.kernels import KERNELS, Kernels, fast_runtime, is_timed, kernels_of
from aml_edge.runtimes import RUNTIMES


def test_every_runtime_of_exact_kernels_says_so_and_no_other_does() -> None:
    exact = {name for name, runtime in RUNTIMES.items() if runtime.exact_for is not None}
    assert exact == {name for name, kernels in KERNELS.items() if kernels is not Kernels.FAST}
    assert KERNELS.keys() <= RUNTIMES.keys()
    assert {fast_runtime(name) for name in exact} == {"onnxruntime", "litert"}


def test_a_fast_runtime_and_pytorch_are_counterparts_of_none() -> None:
    assert [fast_runtime(name) for name in ("onnxruntime", "litert", "mil", "torch")] == [None] * 4


def test_only_reference_kernels_are_not_timed() -> None:
    assert [name for name in (*RUNTIMES, "torch") if not is_timed(name)] == ["litert-reference"]


@pytest.mark.parametrize("precision", Precision)
def test_kernels_are_said_of_files_that_compute_in_integers(manifest: Manifest, precision: Precision) -> None:
    artifact = Artifact(Path("a.onnx"), replace(manifest, precision=precision))
    integers = precision in (Precision.INT8, Precision.INT8_DYNAMIC, Precision.INT8_INT16)
    assert kernels_of(artifact, "onnxruntime") == (Kernels.FAST if integers else None)
    assert kernels_of(artifact, "onnxruntime-precise") == (Kernels.PRECISE if integers else None)
    assert kernels_of(artifact, "litert-reference") == (Kernels.REFERENCE if integers else None)
    assert kernels_of(artifact, "coreml") is None
