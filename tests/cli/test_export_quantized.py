"""`aml-edge export` of files in integers: what is refused before any work, what is said, what the file says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from aml_edge.artifact import Precision, Verdict
from aml_edge.cli.app import app
from aml_edge.cli.quantization_options import QuantizationOptions
from aml_edge.datasets.image_source import image_source
from aml_edge.errors import UsageError
from aml_edge.formats import read_artifact
from aml_edge.networks.checkpoints import StudentCheckpoint, save_student
from aml_edge.networks.deployable import DeployableStudent
from aml_edge.pixels import decode_pixels
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.quantization.calibration import CalibrationOptions
from aml_edge.quantization.post_training import PostTrainingOptions, quantize_post_training
from aml_edge.quantization.stored import StoredQuantization, save_quantization
from aml_edge.quantization_record import Draw, QuantizationMethod, QuantizationRecord, SearchBy, SearchRecord

CommandLine = Callable[..., Any]
INT8 = ("export", "--format", "onnx", "--student", "mine", "--image-size", "64", "--precision", "int8")
WITH_BUDGET = ("--max-drop", "100", "--calibration-count", "16")


@pytest.mark.parametrize(
    ("model_format", "precision", "name"),
    [("onnx", "palette8", "ONNX"), ("tflite", "palette6", "TFLite"), ("coreml", "int8-dynamic", "Core ML")],
)
def test_precision_that_a_format_lacks_is_refused_with_what_it_has(
    command_line: CommandLine, workplace: Path, model_format: str, precision: str, name: str
) -> None:
    ended = command_line("export", "--format", model_format, "--student", "mine", "--precision", precision)
    assert ended.code == 2
    assert ended.err.startswith(
        f"error: `precision` is '{precision}', which the {name} format does not have; choose one of fp32, fp16, "
    )
    assert not Path("artifacts").exists()


def test_all_formats_with_a_precision_that_one_lacks_are_refused(command_line: CommandLine, workplace: Path) -> None:
    ended = command_line("export", "--format", "all", "--student", "mine", "--precision", "int8-int16")
    assert ended.code == 2
    assert "`precision` is 'int8-int16', which the Core ML format does not have" in ended.err
    assert not Path("artifacts").exists()


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--calibrate-on", "blobs"), "`calibrate_on` is blobs"),
        (("--calibration-count", "64"), "`calibration_count` is 64"),
        (("--calibration-draw", "diverse"), "`calibration_draw` is diverse"),
        (("--float-blocks", "conv_head"), "`float_blocks` is conv_head"),
        (("--int8-stem",), "`float_stem` is False"),
        (("--int8-head",), "`int8_head` is True"),
        (("--max-drop", "0.5"), "`max_drop` is 0.5"),
    ],
)
@pytest.mark.parametrize("precision", ["fp32", "int8-weights", "int8-dynamic"])
def test_what_chooses_integers_is_refused_where_none_are_chosen(
    command_line: CommandLine, workplace: Path, option: tuple[str, ...], said: str, precision: str
) -> None:
    ended = command_line("export", "--format", "onnx", "--student", "mine", "--precision", precision, *option)
    assert ended.code == 2
    assert ended.err == (
        f"error: {said}, but `precision` is '{precision}', which chooses no integers of activations by images; leave "
        "it out, or choose int8 or int8-int16.\n"
    )


def test_integers_without_images_are_refused(command_line: CommandLine, workplace: Path) -> None:
    ended = command_line(*INT8)
    assert ended.code == 2
    assert "`calibrate_on` is not given" in ended.err
    assert "name a folder or a data set with --calibrate-on DIR" in ended.err


def test_too_few_images_are_refused(command_line: CommandLine, workplace: Path, blobs: Path) -> None:
    ended = command_line(*INT8, "--calibrate-on", blobs, "--calibration-count", "15")
    assert ended.code == 2
    assert "`calibration_count` is 15; fewer than 16 images do not show how far activations go" in ended.err


def test_budget_without_queries_is_refused(
    command_line: CommandLine, workplace: Path, blobs: Path, blob_index: Path
) -> None:
    ended = command_line(*INT8, "--calibrate-on", blobs, "--index", blob_index, "--max-drop", "0.5")
    assert ended.code == 2
    assert ended.err == (
        "error: `max_drop` is 0.5 without `index` and `dataset`; queries choose what stays in floating point and judge "
        "the file: add --index and --dataset.\n"
    )


def test_budget_with_too_few_queries_is_refused(
    command_line: CommandLine, workplace: Path, blobs: Path, blob_index: Path
) -> None:
    ended = command_line(*INT8, "--dataset", blobs, "--index", blob_index, "--max-drop", "0.5")
    assert ended.code == 2
    assert "`dataset` has 6 queries with a positive; a search chooses by half of them" in ended.err
    assert not Path("artifacts").exists()


def test_kind_of_search_without_a_budget_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^`search_by` is 'latency', but nothing is searched; add --max-drop"):
        QuantizationOptions(search_by=SearchBy.LATENCY).require_fitting(Precision.INT8)


def test_options_become_settings(tmp_path: Path) -> None:
    options = QuantizationOptions(
        calibration_count=40,
        calibration_seed=3,
        calibration_draw=Draw.DIVERSE,
        float_blocks="blocks.1.0, conv_head,",
        float_stem=False,
        int8_head=True,
    )
    found = options.integers(str(tmp_path / "nobody"), tmp_path)

    assert found.source == CalibrationOptions(tmp_path, 40, 3, Draw.DIVERSE)
    assert found.options.float_blocks == {"blocks.1.0", "conv_head"}
    assert (found.options.float_stem, found.options.float_head) == (False, False)
    assert options.budget() is None


def test_integers_come_from_what_was_named_for_them_first(tmp_path: Path) -> None:
    named, index_images = tmp_path / "a", tmp_path / "b"

    assert QuantizationOptions(calibrate_on=named).integers("x", index_images).source.source == named  # type: ignore[union-attr]
    assert QuantizationOptions().integers("x", index_images).source.source == index_images  # type: ignore[union-attr]


def test_block_that_the_network_has_not_is_refused(command_line: CommandLine, workplace: Path, blobs: Path) -> None:
    ended = command_line(*INT8, "--calibrate-on", blobs, "--float-blocks", "blocks.9.9")
    assert ended.code == 1
    assert "`float_blocks` has blocks.9.9, which the network has not; it has conv_stem, blocks.0.0" in ended.err
    assert not Path("artifacts").exists()


def test_help_has_the_options_in_panels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    text = CliRunner().invoke(app, ["export", "--help"]).output
    assert "Calibration of int8 and int8-int16" in text
    assert "What stays in floating point in int8 and int8-int16" in text
    for option in ("--calibrate-on", "--float-blocks", "--int8-stem", "--int8-head", "--max-drop", "--search-by"):
        assert option in text


def test_int8_file_is_made_verified_and_says_how(
    command_line: CommandLine, workplace: Path, blobs: Path, blob_index: Path
) -> None:
    ended = command_line(
        *INT8, "--dataset", blobs, "--index", blob_index, "--calibration-count", "24", "--json", "report.json"
    )
    path = Path("artifacts/mine-64px-letterbox-int8.onnx")
    assert ended.code in (0, 3), ended.err  # a random adaptor on blobs may lose more than is allowed
    assert f"calibrated on 24 images of {blobs}, random draw, seed 0" in ended.out
    assert "convolutions: 49 in integers, 1 in floating point" in ended.out
    assert "in floating point: conv_stem: an image's own 256 steps" in ended.out
    assert "file against its simulation: centred cosine ≥ 0.9" in ended.out
    (report,) = json.loads(Path("report.json").read_text())
    assert report["census"]["integer_convolutions"] == 49
    record = read_artifact(path).manifest.quantization
    assert record is not None and record.calibration is not None and record.simulation is not None
    assert record.calibration.count == 24
    assert set(record.float_blocks) == {"conv_stem", "head"}
    assert record.simulation.smallest > 0.99
    assert report["manifest"]["quantization"]["calibration"]["sha256"] == record.calibration.sha256
    assert record.calibration.source == str(blobs)
    assert len(image_source(blobs).ids) >= 24


def test_budget_that_is_not_kept_ends_with_three_and_a_failed_file(
    command_line: CommandLine, workplace: Path, blobs: Path, blob_index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file's rows on the queries that judge are made up; all before and after is real."""
    monkeypatch.setattr("aml_edge.map_drop.FEWEST_QUERIES", 4)
    lost = SearchRecord(100.0, SearchBy.SIZE, 3, 3, 101.0, 100.5, 101.5, held=False)
    monkeypatch.setattr("aml_edge.exporters.budget.verdict_of", lambda *_: lost)

    ended = command_line(*INT8, *WITH_BUDGET, "--dataset", blobs, "--index", blob_index)

    path = Path("artifacts/mine-64px-letterbox-int8.onnx")
    assert ended.code == 3, ended.err
    assert ended.err == f"error: {path} failed verification, for the reasons above; do not ship it.\n"
    assert "`max_drop` is 100, but 101.00 [100.50, 101.50] points of asymmetric mAP are lost on 3 queries" in ended.out
    manifest = read_artifact(path).manifest
    assert manifest.verdict is Verdict.FAILED
    assert "`max_drop` is 100" in manifest.verdict_reason
    assert manifest.quantization is not None and manifest.quantization.search == lost
    assert "asymmetric mAP lost: 101.00 [100.50, 101.50] of 100 points on 3 queries; 3" in ended.out


def test_budget_that_is_kept_is_recorded(
    command_line: CommandLine, workplace: Path, blobs: Path, blob_index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aml_edge.map_drop.FEWEST_QUERIES", 4)

    ended = command_line(*INT8, *WITH_BUDGET, "--dataset", blobs, "--index", blob_index)

    search = read_artifact(Path("artifacts/mine-64px-letterbox-int8.onnx")).manifest.quantization
    assert search is not None and search.search is not None
    assert search.search.held
    assert (search.search.selection_queries, search.search.verdict_queries) == (3, 3)
    assert "`max_drop`" not in ended.out


@pytest.fixture
def trained_for_integers(workplace: Path, lively_student: StudentCheckpoint, blobs: Path) -> StoredQuantization:
    """The integers that the lively student's run says it was trained for: those of its own activations on the blobs."""
    square = Preprocessing(64, Fit.LETTERBOX)
    images = [decode_pixels(item.read(), square, None, item.name) for item in image_source(blobs).items]
    network = DeployableStudent(lively_student.student, lively_student.preprocessing)
    options = PostTrainingOptions(equalise=False, correct_bias=False)
    made = quantize_post_training(network, images, options)
    record = QuantizationRecord(
        QuantizationMethod.TRAINING, None, {"conv_stem": "as it was trained", "head": "too"}, False, False, 8
    )
    save_student(replace(lively_student, preprocessing=square), Path("runs/mine"))
    stored = StoredQuantization(made.quantization, record, lively_student.weights_sha256)
    save_quantization(stored, Path("runs/mine/student.safetensors"))
    return stored


def test_student_that_was_trained_for_integers_needs_no_images_and_keeps_its_own(
    command_line: CommandLine, trained_for_integers: StoredQuantization, blobs: Path, blob_index: Path
) -> None:
    ended = command_line(*INT8, "--dataset", blobs, "--index", blob_index)

    assert ended.code in (0, 3), ended.err
    assert "quantization-aware training\n" in ended.out
    assert "calibrated on" not in ended.out
    record = read_artifact(Path("artifacts/mine-64px-letterbox-int8.onnx")).manifest.quantization
    assert record is not None and record.method is QuantizationMethod.TRAINING
    assert record.simulation is not None and record.simulation.images == 30  # of those that verify
    assert record.simulation.smallest > 0.95  # of blobs, at 64 px, by a random adaptor


@pytest.mark.parametrize(
    ("option", "said"),
    [(("--calibrate-on", "blobs"), "`calibrate_on` is blobs"), (("--max-drop", "1"), "`max_drop` is 1")],
)
def test_what_training_has_decided_is_refused(
    command_line: CommandLine, trained_for_integers: StoredQuantization, option: tuple[str, ...], said: str
) -> None:
    ended = command_line(*INT8, *option)

    assert ended.code == 2
    assert said in ended.err
    assert "but student runs/mine was trained for its integers, which chose them; leave it out." in ended.err


def test_other_bits_than_training_had_are_refused(
    command_line: CommandLine, trained_for_integers: StoredQuantization
) -> None:
    ended = command_line("export", "--format", "onnx", "--student", "mine", "--precision", "int8-int16")

    assert ended.code == 1
    assert "`precision` is 'int8-int16', but the student was trained for activations of 8 bits" in ended.err
