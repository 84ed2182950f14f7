"""Real ONNX files, run in ONNX Runtime on photographs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnx

from aml_edge.artifact import Artifact, Format, Precision
from aml_edge.formats.onnx_file import take_census
from aml_edge.runtimes import open_artifact

Images = list[npt.NDArray[np.uint8]]

FP32_MAXABS = 5e-6
"""Another order of summation in fifty convolutions; entries of a 64-D unit row are about 0.1."""
FP16_MAXABS = 5e-3
"""Half precision from the first convolution to the adaptor, head in single."""


def embeddings_of(artifact: Artifact, images: Images) -> npt.NDArray[np.float32]:
    embedder = open_artifact(artifact, threads=1)
    rows = embedder.embed(images)
    embedder.close()
    return rows


def test_fp32_equals_the_student(
    exported: Callable[..., Artifact], photographs: Images, student_rows: npt.NDArray[np.float32]
) -> None:
    rows = embeddings_of(exported(Format.ONNX, Precision.FP32), photographs)
    assert np.abs(rows - student_rows).max() < FP32_MAXABS


def test_fp16_with_whitening_is_near(
    exported: Callable[..., Artifact], photographs: Images, whitened_rows: npt.NDArray[np.float64]
) -> None:
    rows = embeddings_of(exported(Format.ONNX, Precision.FP16, whitened=True), photographs)
    assert rows.shape == whitened_rows.shape
    assert (rows * whitened_rows).sum(axis=1).min() > 0.999


def test_takes_raw_pixels_and_gives_float32(exported: Callable[..., Artifact]) -> None:
    for precision in Precision:
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
