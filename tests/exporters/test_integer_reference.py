from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from aml_edge.artifact import Format, Manifest, Precision
from aml_edge.errors import QuantizationError
from aml_edge.exporters.integer_reference import integer_reference
from aml_edge.networks.checkpoints import StudentCheckpoint, load_student, save_student
from aml_edge.pixels import Pixels
from aml_edge.preprocessing import Fit
from aml_edge.quantization.fake_quantized import FakeQuantizedNetwork
from aml_edge.quantization.post_training import QuantizedStudent
from aml_edge.quantization.stored import StoredQuantization, save_quantization
from aml_edge.quantization_record import QuantizationMethod, QuantizationRecord

SIDE = 64
RECORD = QuantizationRecord(QuantizationMethod.TRAINING, None, {}, True, True, 8)


@pytest.fixture
def run(tmp_path: Path, checkpoint: StudentCheckpoint, quantized: QuantizedStudent) -> StudentCheckpoint:
    """The student of a run that was trained for its integers."""
    fitted = replace(checkpoint, preprocessing=checkpoint.preprocessing.fitted(Fit.LETTERBOX, SIDE))
    save_student(fitted, tmp_path)
    stored = StoredQuantization(quantized.quantization, RECORD, fitted.weights_sha256)
    save_quantization(stored, tmp_path / "student.safetensors")
    return load_student(tmp_path)


def manifest_of(checkpoint: StudentCheckpoint, method: QuantizationMethod, side: int = SIDE) -> Manifest:
    return Manifest(
        space=checkpoint.space,
        preprocessing=checkpoint.preprocessing.fitted(Fit.LETTERBOX, side),
        student=checkpoint.name,
        backbone=checkpoint.student.spec.backbone,
        weights_sha256=checkpoint.weights_sha256,
        format=Format.ONNX,
        precision=Precision.INT8,
        target="opset 20",
        quantization=replace(RECORD, method=method),
    )


def test_is_the_student_with_the_integers_it_was_trained_for(
    run: StudentCheckpoint, photographs: list[Pixels], student_rows: npt.NDArray[np.float32]
) -> None:
    reference = integer_reference(run, manifest_of(run, QuantizationMethod.TRAINING), None, run.space)
    assert reference is not None
    with torch.inference_mode():
        network = FakeQuantizedNetwork(reference.quantized.graph, reference.quantized.quantization)
        rows = network(torch.from_numpy(np.stack(photographs))).numpy()
    embedded = reference.embed(photographs)
    assert np.array_equal(embedded, rows)
    assert 1e-4 < np.abs(embedded - student_rows).max() < 0.2  # integers, but still this student
    reference.close()


def test_a_student_in_floating_point_has_none(run: StudentCheckpoint, checkpoint: StudentCheckpoint) -> None:
    after = manifest_of(run, QuantizationMethod.POST_TRAINING)
    assert integer_reference(run, after, None, run.space) is None
    assert integer_reference(run, replace(after, quantization=None), None, run.space) is None
    made_in_memory = manifest_of(checkpoint, QuantizationMethod.TRAINING)
    assert integer_reference(checkpoint, made_in_memory, None, checkpoint.space) is None
    assert run.file is not None
    run.file.with_name("quantization.json").unlink()
    trained = manifest_of(run, QuantizationMethod.TRAINING)
    assert integer_reference(run, trained, None, run.space) is None


def test_refuses_a_file_of_another_side(run: StudentCheckpoint) -> None:
    other = manifest_of(run, QuantizationMethod.TRAINING, side=96)
    with pytest.raises(QuantizationError, match="`image_side_px` is 96"):
        integer_reference(run, other, None, run.space)
