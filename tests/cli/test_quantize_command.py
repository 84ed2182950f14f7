"""`aml-edge quantize analyse`: what it prints, writes and draws, and what it refuses before any work."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aml_edge.networks.recorded_weights import recorded_weights_sha256
from aml_edge.quantization.quantization import Quantization
from aml_edge.quantization.stored import StoredQuantization, save_quantization
from aml_edge.quantization_record import QuantizationMethod, QuantizationRecord

Run = Callable[..., Any]


@pytest.fixture
def analyse(command_line: Run, workplace: Path, blob_index: Path, blobs: Path) -> Run:
    """Returns a function that runs it on the lively student and the blobs, calibrated on as few images as it may be."""

    def run(*arguments: object) -> Any:
        given = ("--index", blob_index, "--dataset", blobs, "--max-images", 4, "--calibration-count", 16)
        return command_line("quantize", "analyse", *given, *arguments)

    return run


def test_it_finds_what_each_block_costs(analyse: Run, blobs: Path) -> None:
    pytest.importorskip("matplotlib")
    ended = analyse("--json", "report.json", "--plot", "plot.svg")
    assert ended.code == 0, ended.out + ended.err
    assert ended.err == ""
    for said in (
        "student: mine, int8, 64 px, letterbox fit",
        "data set: toy, index: ",
        f"calibrated on 16 images of {blobs}, random draw, seed 0",
        "each block alone in integers: 200/200",
        "Each block alone in integers",
        "Steepest rises of the drift along the network, as exported",
        "of 10 images: centred cosine",
        "points of 100 [95 % over 6 queries]",
        "drawn: plot.svg",
    ):
        assert said in ended.out
    report = json.loads(Path("report.json").read_text())
    assert (report["student"], report["dataset"], report["precision"]) == ("mine", "toy", "int8")
    assert report["preprocessing"]["image_side_px"] == 64
    assert report["calibration"]["count"] == 16
    assert len(report["calibration"]["sha256"]) == 64
    assert report["plot"] == "plot.svg"
    analysis = report["analysis"]
    names = [block["name"] for block in analysis["blocks"]]
    assert len(names) == 20
    assert (names[0], names[1], names[-2:]) == ("conv_stem", "blocks.0.0", ["adaptor", "head"])
    for name in names:
        assert re.search(rf"^{re.escape(name)} (\*)? +0\.\d{{5}} +[01]\.\d{{5}} ", ended.out, re.MULTILINE), name
    assert all(0.5 < block["error"]["mean_centred_cosine"] <= 1 for block in analysis["blocks"])
    assert all(block["medium"]["queries"] == 6 for block in analysis["blocks"])
    assert analysis["drift"][-1]["name"] == "embedding"
    assert len(analysis["drift"]) == 50 + 9 + 1  # convolutions, sums, the embedding
    texts = re.findall(r"<!-- (.*?) -->", Path("plot.svg").read_text())
    assert "mine, int8, on toy" in texts
    assert set(names) <= set(texts)


def test_json_on_standard_output_is_alone_there(analyse: Run) -> None:
    ended = analyse("--precision", "int8-int16", "--max-images", 0, "--json", "-")
    assert ended.code == 0, ended.err
    assert "student: mine, int8-int16, 64 px" in ended.err
    report = json.loads(ended.out)
    assert (report["precision"], report["plot"]) == ("int8-int16", None)
    assert report["analysis"]["images"] == 6


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--plot", "plot.pdf"), 2, "error: `plot` is plot.pdf; a picture is written as .svg or .png: name it so.\n"),
        (
            ("--max-images", -1),
            2,
            "error: `max_images` is -1; 0 or more of the database are looked at beside the queries.\n",
        ),
        (
            ("--image-size", 16),
            2,
            "error: `image_side_px` is 16; a network of stride 32 needs at least 32.\n",
        ),
        (
            ("--fit", "native"),
            2,
            "error: `fit` is 'native'; a file has one input shape, so choose one of squash, letterbox, center-crop.\n",
        ),
        (
            ("--calibration-count", 8),
            2,
            "error: `calibration_count` is 8; fewer than 16 images do not show how far activations go: give 16 or "
            "more.\n",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(
    analyse: Run, arguments: tuple[object, ...], code: int, said: str
) -> None:
    ended = analyse(*arguments)
    assert (ended.code, ended.out, ended.err) == (code, "", said)


def test_help_names_what_it_takes(command_line: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    ended = command_line("quantize", "analyse", "--help")
    assert ended.code == 0
    for option in ("--index", "--dataset", "--student", "--calibrate-on", "--precision", "--plot", "--json"):
        assert option in ended.out
    assert "analyse" in command_line("quantize", "--help").out


def test_another_precision_is_refused(analyse: Run) -> None:
    ended = analyse("--precision", "fp16")
    assert ended.code == 2
    assert re.search(r"'fp16' is not one of 'int8',\s+│?\n?│?\s*'int8-int16'", ended.err)


def test_a_data_set_without_settings_is_refused(
    command_line: Run, workplace: Path, blob_index: Path, synthetic: Any, tmp_path: Path
) -> None:
    classes = tmp_path / "classes"
    for name in ("one", "two"):
        (classes / name).mkdir(parents=True)
        for number, image in enumerate(sorted((synthetic.test_root / "jpg").iterdir())[:2]):
            (classes / name / f"{name}{number}.jpg").write_bytes(image.read_bytes())
    ended = command_line("quantize", "analyse", "--index", blob_index, "--dataset", classes)
    assert ended.code == 2
    assert "not as mAP in the settings easy, medium and hard" in ended.err


def test_a_folder_with_too_little_calibrates_nothing(analyse: Run, tmp_path: Path, blobs: Path) -> None:
    (tmp_path / "few").mkdir()
    for image in sorted((blobs / "jpg").iterdir())[:5]:
        (tmp_path / "few" / image.name).write_bytes(image.read_bytes())
    ended = analyse("--calibrate-on", tmp_path / "few")
    assert ended.code == 1
    assert "5 of 5 images drawn are different pictures; fewer than 16" in ended.err


def test_a_student_that_was_trained_for_its_integers_is_refused(analyse: Run) -> None:
    """Its file would not have the integers that calibration chooses."""
    student = Path("runs/mine/student.safetensors")
    record = QuantizationRecord(QuantizationMethod.TRAINING, None, {}, False, False, 8)
    quantization = Quantization({}, frozenset({"head"}))
    weights = recorded_weights_sha256(student)
    assert weights is not None
    save_quantization(StoredQuantization(quantization, record, weights), student)
    ended = analyse("--student", "runs/mine")
    assert ended.code == 2
    assert "was trained for its integers" in ended.err
