"""The integers that a student was trained for, in a file beside its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aml_edge.errors import QuantizationError
from aml_edge.networks.checkpoints import StudentCheckpoint, save_student
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.preprocessing import Preprocessing
from aml_edge.quantization.quantization import Quantization
from aml_edge.quantization.stored import (
    LARGEST_BYTES,
    StoredQuantization,
    load_quantization,
    quantization_file,
    save_quantization,
)
from aml_edge.quantization.tensors import TensorQuantization
from aml_edge.quantization_record import CalibrationRecord, Draw, QuantizationMethod, QuantizationRecord
from aml_edge.space import EmbeddingSpace


@pytest.fixture(scope="module")
def student() -> StudentCheckpoint:
    network = Student(StudentSpec("mobilenetv2_035", 8)).eval()
    return StudentCheckpoint(network, "mine", EmbeddingSpace("teacher", "a" * 64, 8), Preprocessing(64), trained=True)


@pytest.fixture(scope="module")
def stored(student: StudentCheckpoint) -> StoredQuantization:
    activations = {"input": TensorQuantization(1 / 3, -5), "adaptor": TensorQuantization(0.1, 0, 16)}
    calibration = CalibrationRecord("data", 128, 7, Draw.RANDOM, "b" * 64)
    record = QuantizationRecord(QuantizationMethod.TRAINING, calibration, {"head": "why"}, True, True, 8)
    return StoredQuantization(Quantization(activations), record, student.weights_sha256)


@pytest.fixture
def run(student: StudentCheckpoint, stored: StoredQuantization, tmp_path: Path) -> Path:
    for name in ("student.safetensors", "last.safetensors"):
        save_student(student, tmp_path, file_name=name)
        save_quantization(stored, tmp_path / name)
    return tmp_path


def test_it_is_found_beside_either_file(run: Path, stored: StoredQuantization) -> None:
    assert {path.name for path in run.glob("*quantization*")} == {"quantization.json", "last.quantization.json"}
    for path in (run, run / "student.safetensors", run / "last.safetensors"):
        assert load_quantization(path) == stored


def test_a_student_trained_in_floating_point_has_none(run: Path) -> None:
    (run / "quantization.json").unlink()
    assert load_quantization(run) is None
    assert load_quantization(run / "last.safetensors") is not None
    assert load_quantization(run / "gone") is None


def test_each_file_has_its_own(tmp_path: Path) -> None:
    assert quantization_file(tmp_path / "student.safetensors") == tmp_path / "quantization.json"
    assert quantization_file(tmp_path / "v2.safetensors") == tmp_path / "v2.quantization.json"


def test_other_weights_are_refused(run: Path, student: StudentCheckpoint) -> None:
    other = Student(StudentSpec("mobilenetv2_035", 8), seed=1).eval()
    changed = StudentCheckpoint(other, "mine", student.space, student.preprocessing, trained=True)
    save_student(changed, run)
    with pytest.raises(QuantizationError) as caught:
        load_quantization(run)
    assert str(caught.value) == (
        f"{run / 'quantization.json'} belongs to a student of weights {student.weights_sha256[:12]}, but "
        f"{run / 'student.safetensors'} has {changed.weights_sha256[:12]}; go on with a training that was stopped "
        "(`aml-edge train --resume`), or remove quantization.json to quantize the student anew."
    )


def test_a_student_that_cannot_be_read_is_refused(run: Path) -> None:
    (run / "student.safetensors").write_bytes(b"nothing")
    with pytest.raises(QuantizationError, match="has none that can be read; go on with"):
        load_quantization(run)


STORED = {"scale": 1.0, "zero_point": 0, "bits": 8}
VALID = {"input": STORED}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"version": 2}, "its version is 2, this aml-edge reads 1"),
        ({"weights_sha256": 5}, "its `weights_sha256` is no text; train again"),
        ({"quantization": []}, "[] is no quantization"),
        ({"quantization": {}}, "{} is no quantization"),
        ({"quantization": {"activations": {"input": 3}, "float_blocks": []}}, "3 does not say how a tensor is stored"),
        ({"quantization": {"activations": VALID, "float_blocks": [1]}}, "`float_blocks` is [1]"),
        ({"quantization": {"activations": {"input": {**STORED, "scale": 0.0}}, "float_blocks": []}}, "scale"),
        ({"quantization": {"activations": {"input": {**STORED, "scale": 10**400}}, "float_blocks": []}}, "scale"),
        ({"record": {}}, "what it says of its quantization does not have the fields"),
        ({"record": None}, "what it says of its quantization does not have the fields"),
    ],
)
def test_a_damaged_record_is_named(run: Path, changes: dict[str, Any], problem: str) -> None:
    file = run / "quantization.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    with pytest.raises(QuantizationError) as caught:
        load_quantization(run)
    assert str(caught.value).startswith(f"{file} cannot be read: ")
    assert problem in str(caught.value)
    assert str(caught.value).endswith((" again.", "; train again, or remove it."))


@pytest.mark.parametrize("text", ["", "[]", "{", "\x00", "[" * 100_000, "{}", '{"version": 1}', "NaN"])
def test_what_is_no_record_is_named(run: Path, text: str) -> None:
    (run / "quantization.json").write_text(text)
    with pytest.raises(QuantizationError, match=r"quantization\.json cannot be read: "):
        load_quantization(run)


def test_bytes_that_are_no_text_and_a_huge_file_are_named(run: Path) -> None:
    file = run / "quantization.json"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(QuantizationError, match="cannot be read: 'utf-8' codec can't decode"):
        load_quantization(run)
    file.write_bytes(b" " * (LARGEST_BYTES + 1))
    with pytest.raises(QuantizationError, match=f"it has more than {LARGEST_BYTES} bytes; train again, or remove it"):
        load_quantization(run)
