"""Real TFLite files, run in LiteRT on photographs."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from aml_edge.artifact import Artifact, Format, Precision
from aml_edge.exporters.export import export_student
from aml_edge.exporters.export_spec import ExportSpec
from aml_edge.exporters.preparation import PreparedStudent
from aml_edge.formats import read_artifact
from aml_edge.formats.tflite_file import take_census
from aml_edge.native_output import output_discarded
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.preprocessing import Preprocessing
from aml_edge.quantization.post_training import QuantizedStudent
from aml_edge.quantization_record import QuantizationMethod, QuantizationRecord
from aml_edge.space import EmbeddingSpace

pytestmark = pytest.mark.skipif(find_spec("litert_torch") is None, reason="the extra 'tflite' is not installed")


def test_fp32_equals_the_student(check_fp32: Callable[..., None]) -> None:
    check_fp32(Format.TFLITE)


def test_fp16_with_whitening_is_near(check_whitened_fp16: Callable[..., None]) -> None:
    check_whitened_fp16(Format.TFLITE)


def test_signature_takes_raw_pixels_and_gives_float32(exported: Callable[..., Artifact]) -> None:
    from ai_edge_litert.interpreter import Interpreter

    with output_discarded():
        interpreter = Interpreter(model_path=str(exported(Format.TFLITE, Precision.FP32).path))
    assert interpreter.get_signature_list() == {"serving_default": {"inputs": ["image"], "outputs": ["embedding"]}}
    (image,), (embedding,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (image["dtype"], image["shape"].tolist()) == (np.uint8, [1, 64, 64, 3])
    assert (embedding["dtype"], embedding["shape"].tolist()) == (np.float32, [1, 64])


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_holds_no_transpose(exported: Callable[..., Artifact], precision: Precision) -> None:
    census = take_census(exported(Format.TFLITE, precision, whitened=precision is Precision.FP16).path)
    assert census.transposes == 0


def test_fp16_stores_weights_in_half(exported: Callable[..., Artifact]) -> None:
    full = exported(Format.TFLITE, Precision.FP32)
    half = exported(Format.TFLITE, Precision.FP16, whitened=True)
    weights = take_census(half.path).weight_values
    assert weights["float16"] > 3_000_000
    assert weights["float32"] < 50_000  # biases and the constants of the head
    assert half.size_bytes < 0.53 * full.size_bytes


def test_int8_carries_what_it_was_made_of(
    checkpoint: StudentCheckpoint, quantized: QuantizedStudent, tmp_path: Path
) -> None:
    record = QuantizationRecord(QuantizationMethod.POST_TRAINING, None, {"head": "asked for"}, True, True, 8)
    spec = ExportSpec(Format.TFLITE, Precision.INT8, 64)
    artifact = export_student(checkpoint, spec, tmp_path, quantized=PreparedStudent(quantized, record))
    assert artifact.path.name == "toy-64px-letterbox-int8.tflite"
    assert read_artifact(artifact.path).manifest.quantization == record
    assert sorted(path.name for path in tmp_path.iterdir()) == [artifact.path.name, artifact.sidecar_path.name]
    assert take_census(artifact.path).integer_convolutions == 49
    assert artifact.size_bytes < 0.29 * 4 * 3_400_000  # of the weights in single precision


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["tf_efficientnet_b3", "vgg16"])
def test_other_trunks_hold_no_transpose_either(tmp_path: Path, backbone: str) -> None:
    torch.manual_seed(0)
    student = Student(StudentSpec(backbone, 32)).eval()
    checkpoint = StudentCheckpoint(
        student, backbone, EmbeddingSpace("toy", "b" * 64, 32), Preprocessing(), trained=True
    )
    artifact = export_student(checkpoint, ExportSpec(Format.TFLITE, image_side_px=64), tmp_path)
    assert take_census(artifact.path).transposes == 0
