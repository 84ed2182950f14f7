"""Real ONNX files, run in ONNX Runtime on photographs."""

from __future__ import annotations

from collections.abc import Callable

import onnx

from aml_edge.artifact import Artifact, Format, Precision
from aml_edge.formats.onnx_file import take_census


def test_fp32_equals_the_student(check_fp32: Callable[..., None]) -> None:
    check_fp32(Format.ONNX)


def test_fp16_with_whitening_is_near(check_whitened_fp16: Callable[..., None]) -> None:
    check_whitened_fp16(Format.ONNX)


def test_takes_raw_pixels_and_gives_float32(exported: Callable[..., Artifact]) -> None:
    for precision in (Precision.FP32, Precision.FP16):
        path = exported(Format.ONNX, precision, whitened=precision is Precision.FP16).path
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        (image,), (embedding,) = model.graph.input, model.graph.output
        assert (image.name, embedding.name) == ("image", "embedding")
        assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
        assert embedding.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        assert [size.dim_value for size in image.type.tensor_type.shape.dim] == [1, 64, 64, 3]


def test_fp32_holds_one_transpose_and_folded_batch_norms(exported: Callable[..., Artifact]) -> None:
    census = take_census(exported(Format.ONNX, Precision.FP32).path)
    assert census.transposes == 1
    assert "BatchNormalization" not in census.operators
    assert set(census.weight_values) == {"float32", "int64"}


def test_fp16_keeps_only_the_head_in_single_precision(exported: Callable[..., Artifact]) -> None:
    census = take_census(exported(Format.ONNX, Precision.FP16, whitened=True).path)
    assert census.transposes == 1
    assert "BatchNormalization" not in census.operators
    whitening = 64 * 48 + 64
    assert census.weight_values["float16"] > 3_000_000
    assert census.weight_values["float32"] < whitening + 100


def test_names_no_folder_of_this_machine(exported: Callable[..., Artifact]) -> None:
    assert b"site-packages" not in exported(Format.ONNX, Precision.FP32).path.read_bytes()
