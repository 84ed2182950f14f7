"""Which rows there are for which files and runtimes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from aml_edge.artifact import Artifact, Format, Manifest, Precision
from aml_edge.benchmarks import rows as rows_module
from aml_edge.benchmarks.file_subject import FileSubject
from aml_edge.benchmarks.rows import (
    Group,
    file_rows,
    fp32_place,
    group_artifacts,
    runtimes_for,
    simulator_of,
    student_rows,
)
from aml_edge.benchmarks.student_subject import StudentSubject
from aml_edge.errors import UsageError
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.quantization_record import QuantizationMethod, QuantizationRecord
from aml_edge.runtimes import RUNTIMES, Runtime
from aml_edge.space import EmbeddingSpace

Named = Callable[..., Artifact]


@pytest.fixture
def named(manifest: Manifest) -> Named:
    """Returns a function that makes an artifact of a name, with changes of its manifest; there is no file."""
    return lambda name, **changes: Artifact(Path(name), replace(manifest, **changes))


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Returns a function that says which runtimes are installed, and whether this is a Mac."""

    def say(*names: str, mac: bool = False) -> None:
        monkeypatch.setattr(rows_module, "_is_installed", lambda runtime: runtime.name in names)
        changed = replace(RUNTIMES["coreml"], runs_here=lambda: mac)
        monkeypatch.setitem(RUNTIMES, "coreml", changed)

    return say


def names(runtimes: tuple[Runtime, ...]) -> list[str]:
    return [runtime.name for runtime in runtimes]


def test_a_format_runs_in_every_runtime_that_is_installed(installed: Callable[..., None]) -> None:
    installed("onnxruntime", "onnxruntime-precise", "litert", "litert-reference", "tensorflow", "mil")
    assert names(runtimes_for(Format.ONNX)) == ["onnxruntime"]
    assert names(runtimes_for(Format.TFLITE)) == ["litert", "tensorflow"]
    installed("litert")
    assert names(runtimes_for(Format.TFLITE)) == ["litert"]


def test_integers_run_in_exact_kernels_too_unless_others_are_named(installed: Callable[..., None]) -> None:
    installed("onnxruntime", "onnxruntime-precise", "litert", "litert-reference", "tensorflow")
    assert names(runtimes_for(Format.ONNX, integer_activations=True)) == ["onnxruntime", "onnxruntime-precise"]
    assert names(runtimes_for(Format.TFLITE, integer_activations=True)) == ["litert", "litert-reference", "tensorflow"]
    assert names(runtimes_for(Format.ONNX, ["onnxruntime"], integer_activations=True)) == ["onnxruntime"]
    assert names(runtimes_for(Format.ONNX, ["onnxruntime-precise"])) == ["onnxruntime-precise"]


def test_a_format_that_nothing_here_runs_keeps_a_row_and_a_simulation_gives_none(
    installed: Callable[..., None],
) -> None:
    installed("mil", "coreml")
    assert names(runtimes_for(Format.COREML)) == ["coreml"]
    assert names(runtimes_for(Format.TFLITE)) == ["litert"]
    installed("mil", "coreml", mac=True)
    assert names(runtimes_for(Format.COREML)) == ["coreml"]


def test_named_runtimes_are_taken_whether_installed_or_not(installed: Callable[..., None]) -> None:
    installed("onnxruntime")
    assert names(runtimes_for(Format.TFLITE, ["tensorflow", "onnxruntime"])) == ["tensorflow"]
    assert names(runtimes_for(Format.COREML, ["mil"])) == ["mil"]
    assert names(runtimes_for(Format.COREML, ["litert"])) == []


def test_an_unknown_runtime_is_refused() -> None:
    with pytest.raises(UsageError) as refused:
        runtimes_for(Format.ONNX, ["onnxruntime", "tvm"])
    assert str(refused.value) == f"`runtime` is 'tvm'; it must be one of {', '.join(RUNTIMES)}."


def test_what_is_installed_is_found_without_importing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = replace(RUNTIMES["tensorflow"], module="no_such_module.interpreter")
    monkeypatch.setitem(RUNTIMES, "tensorflow", absent)
    monkeypatch.setitem(RUNTIMES, "litert", replace(RUNTIMES["litert"], module="no_such_module"))
    monkeypatch.setitem(RUNTIMES, "plain", Runtime("plain", (Format.TFLITE,), RUNTIMES["litert"].open))
    assert names(runtimes_for(Format.TFLITE)) == ["plain"]


def test_only_core_ml_is_simulated() -> None:
    simulator = simulator_of(Format.COREML)
    assert simulator is not None and simulator.name == "mil"
    assert (simulator_of(Format.ONNX), simulator_of(Format.TFLITE)) == (None, None)


def test_files_become_rows_with_each_number_of_threads(named: Named, installed: Callable[..., None]) -> None:
    installed("onnxruntime", "litert", "tensorflow")
    onnx = named("a.onnx")
    tflite = named("a.tflite", format=Format.TFLITE, precision=Precision.FP16)
    rows = file_rows([onnx, tflite], (), (1, 2))
    assert [row.label for row in rows] == ["onnx fp32, onnxruntime", "tflite fp16, litert", "tflite fp16, tensorflow"]
    assert rows[0].subjects == (
        (1, FileSubject(onnx, "onnxruntime", 1)),
        (2, FileSubject(onnx, "onnxruntime", 2)),
    )
    assert [row.artifact for row in rows] == [onnx, tflite, tflite]
    assert {(row.device, row.not_run) for row in rows} == {("cpu", None)}


def test_a_runtime_that_chooses_its_threads_has_one_subject(named: Named, installed: Callable[..., None]) -> None:
    installed("coreml", mac=True)
    package = named("a.mlpackage", format=Format.COREML)
    (row,) = file_rows([package], (), (1, 2))
    assert row.subjects == ((None, FileSubject(package, "coreml", None)),)


def test_a_simulation_is_never_timed(named: Named) -> None:
    (row,) = file_rows([named("a.mlpackage", format=Format.COREML)], ["mil"], (1, 2))
    assert row.subjects == ()
    assert row.not_run == "simulated: its speed says nothing of the runtime that it stands for"


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.INT8_DYNAMIC, Precision.INT8_INT16])
def test_a_file_in_integers_has_a_row_for_either_kind_of_kernels(
    named: Named, installed: Callable[..., None], precision: Precision
) -> None:
    installed("onnxruntime", "onnxruntime-precise", "litert", "litert-reference")
    files = [named("a.onnx", precision=precision), named("a.tflite", format=Format.TFLITE, precision=precision)]
    rows = file_rows(files, (), (1, 2))
    assert [row.label for row in rows] == [
        f"onnx {precision}, onnxruntime fast",
        f"onnx {precision}, onnxruntime-precise",
        f"tflite {precision}, litert fast",
        f"tflite {precision}, litert-reference",
    ]
    assert [len(row.subjects) for row in rows] == [2, 2, 2, 0]
    assert [row.sampled for row in rows] == [False, False, False, True]
    assert [row.not_run for row in rows] == [
        *(None, None, None),
        "no phone runs reference kernels, which take about a hundred times as long",
    ]


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16, Precision.INT8_WEIGHTS])
def test_a_file_in_floats_has_one_row(named: Named, installed: Callable[..., None], precision: Precision) -> None:
    installed("onnxruntime", "onnxruntime-precise")
    assert [row.label for row in file_rows([named("a.onnx", precision=precision)], (), (1,))] == [
        f"onnx {precision}, onnxruntime"
    ]


def test_reference_kernels_that_are_named_meet_all_queries(named: Named) -> None:
    files = [named("a.tflite", format=Format.TFLITE, precision=Precision.INT8)]
    (row,) = file_rows(files, ["litert-reference"], (1, 2))
    assert (row.subjects, row.sampled) == ((), False)


def test_fp32_in_the_same_format_and_runtime_is_found(named: Named, installed: Callable[..., None]) -> None:
    installed("onnxruntime", "onnxruntime-precise", "litert", "tensorflow")
    files = [
        named("a.tflite", format=Format.TFLITE),
        named("b.tflite", format=Format.TFLITE, precision=Precision.FP16),
        named("c.onnx", precision=Precision.INT8),
        named("d.onnx"),
        named("e.onnx"),
    ]
    rows = file_rows(files, (), (1,))
    assert [(row.artifact and row.artifact.path.name, row.runtime) for row in rows] == [
        *(("a.tflite", "litert"), ("a.tflite", "tensorflow"), ("b.tflite", "litert"), ("b.tflite", "tensorflow")),
        *(("c.onnx", "onnxruntime"), ("c.onnx", "onnxruntime-precise")),
        *(("d.onnx", "onnxruntime"), ("e.onnx", "onnxruntime")),
    ]
    assert [fp32_place(rows, row) for row in rows] == [None, None, 0, 1, 6, None, None, None]


def test_rows_of_one_kind_are_told_apart_by_their_files(named: Named, installed: Callable[..., None]) -> None:
    installed("onnxruntime")
    rows = file_rows([named("a.onnx"), named("b.onnx"), named("c.onnx", precision=Precision.FP16)], (), (1,))
    assert [row.label for row in rows] == [
        "onnx fp32, onnxruntime, a.onnx",
        "onnx fp32, onnxruntime, b.onnx",
        "onnx fp16, onnxruntime",
    ]


def test_rows_of_one_kind_and_file_name_are_told_apart_by_their_folders(
    named: Named, installed: Callable[..., None]
) -> None:
    installed("onnxruntime")
    files = [named("all/one/a.onnx"), named("all/two/a.onnx"), named("b.onnx", precision=Precision.FP16)]
    assert [row.label for row in file_rows(files, (), (1,))] == [
        "onnx fp32, onnxruntime, one/a.onnx",
        "onnx fp32, onnxruntime, two/a.onnx",
        "onnx fp16, onnxruntime",
    ]


def trained_for_integers(named: Named, name: str, start: str) -> Artifact:
    record = QuantizationRecord(QuantizationMethod.TRAINING, None, {}, True, True, 8, trained_from=start)
    return named(name, weights_sha256="8" * 64, precision=Precision.INT8, quantization=record)


def test_what_was_trained_for_integers_stands_behind_the_student_that_it_was_trained_from(
    named: Named, installed: Callable[..., None]
) -> None:
    installed("onnxruntime", "onnxruntime-precise")
    fp32, int8 = named("1.onnx"), named("2.onnx", precision=Precision.INT8)
    trained = trained_for_integers(named, "0.onnx", fp32.manifest.weights_sha256)
    (group,) = group_artifacts([trained, fp32, int8])
    assert group == (fp32, int8, trained)
    rows = file_rows(group, (), (1,))
    assert [row.label for row in rows] == [
        "onnx fp32, onnxruntime",
        "onnx int8, onnxruntime fast",
        "onnx int8, onnxruntime-precise",
        "onnx int8 trained, onnxruntime fast",
        "onnx int8 trained, onnxruntime-precise",
    ]
    assert fp32_place(rows, rows[3]) == 0


def test_what_was_trained_for_integers_is_a_student_of_its_own_without_the_other(named: Named) -> None:
    other, fp32 = named("1.onnx"), named("2.onnx", weights_sha256="8" * 64)
    trained = trained_for_integers(named, "3.onnx", "9" * 64)
    assert group_artifacts([trained, other]) == ((other,), (trained,))
    assert group_artifacts([trained, other, fp32]) == ((other,), (fp32, trained))
    elsewhere = replace(trained.manifest, preprocessing=Preprocessing(64, Fit.SQUASH))
    at_another_side = Artifact(trained.path, replace(elsewhere, weights_sha256="7" * 64))
    assert group_artifacts([at_another_side, other]) == ((other,), (at_another_side,))


def test_files_are_grouped_by_student_pixels_and_space(named: Named) -> None:
    first = named("1.onnx")
    same = named("2.tflite", format=Format.TFLITE, precision=Precision.FP16)
    other_student = named("3.onnx", weights_sha256="9" * 64)
    other_side = named("4.onnx", preprocessing=Preprocessing(64, Fit.SQUASH))
    other_fit = named("5.onnx", preprocessing=Preprocessing(32, Fit.LETTERBOX))
    other_space = named("6.onnx", space=EmbeddingSpace("toy teacher", "a" * 64, 3, "f" * 64))
    artifacts = [first, other_student, same, other_side, other_fit, other_space]
    assert group_artifacts(artifacts) == ((first, same), (other_student,), (other_side,), (other_fit,), (other_space,))
    assert group_artifacts([]) == ()


def test_the_student_comes_first_on_the_cpu(
    named: Named, checkpoint: StudentCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "cuda_devices", tuple)
    group = Group((named("a.onnx"),), checkpoint)
    (row,) = student_rows(group, Path("here"), (1, 4))
    square = group.manifest.preprocessing
    assert (row.label, row.runtime, row.device, row.artifact) == ("PyTorch eager", "torch", "cpu", None)
    assert row.subjects == (
        (1, StudentSubject(Path("here"), square, "cpu", 1)),
        (4, StudentSubject(Path("here"), square, "cpu", 4)),
    )


def test_a_gpu_has_a_row_of_its_own(
    named: Named, checkpoint: StudentCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "cuda_devices", lambda: ("NVIDIA H100",))
    group = Group((named("a.onnx"),), checkpoint)
    _, row = student_rows(group, Path("here"), (1, 4))
    assert (row.label, row.device) == ("PyTorch eager, cuda", "cuda")
    assert row.subjects == ((None, StudentSubject(Path("here"), group.manifest.preprocessing, "cuda", None)),)


def test_a_student_that_was_not_found_says_so_in_its_row(named: Named) -> None:
    (row,) = student_rows(Group((named("a.onnx", weights_sha256="12345678" * 8),), None), Path("here"), (1,))
    assert row.subjects == ()
    assert row.not_run == (
        "student 'toy' (weights 12345678) was not found; name it with --student to have its files timed beside it"
    )
