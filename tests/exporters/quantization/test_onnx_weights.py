"""Weights of an ONNX file in 8 bits: what is stored, and what ONNX Runtime makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from aml_edge.artifact import Artifact, Format, Precision
from aml_edge.exporters.agreement import centred_cosines
from aml_edge.exporters.quantization.onnx_weights import quantize_dynamically, widen_weights
from aml_edge.exporters.quantization.proof import LARGEST_FLOAT_WEIGHT
from aml_edge.formats.onnx_file import take_census

CHANNELS, MADE = 160, 64
CHANNELS_MADE = (("result", 2), ("made", MADE))
Images = list[npt.NDArray[np.uint8]]
Rows = npt.NDArray[np.float32]


def convolution_model() -> onnx.ModelProto:
    """A convolution large enough for 8 bits, of stride 2 and channels of very different ranges, and a small one."""
    generator = np.random.default_rng(0)
    weight = generator.normal(size=(64, CHANNELS, 1, 1)).astype(np.float32)
    weight *= np.geomspace(1e-3, 1e3, 64, dtype=np.float32).reshape(-1, 1, 1, 1)
    weight[5] = 0
    small = generator.normal(size=(2, 64, 1, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["pixels", "weight", "bias"], ["made"], "large", strides=[2, 2]),
        helper.make_node("Conv", ["made", "small"], ["result"], "small"),
    ]
    stored = {"weight": weight, "bias": generator.normal(size=64).astype(np.float32), "small": small}
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, CHANNELS, 6, 6])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size, 3, 3]) for name, size in CHANNELS_MADE],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model: onnx.ModelProto, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    made: npt.NDArray[np.float32] = session.run(["made"], {"pixels": pixels})[0]
    return made


@pytest.fixture
def pixels() -> npt.NDArray[np.float32]:
    return np.random.default_rng(1).normal(size=(1, CHANNELS, 6, 6)).astype(np.float32)


def stored(model: onnx.ModelProto, name: str) -> npt.NDArray[Any]:
    return numpy_helper.to_array(next(one for one in model.graph.initializer if one.name == name))


def test_weights_are_the_nearest_of_255_steps_of_each_channel() -> None:
    weight = stored(convolution_model(), "weight")
    widened = widen_weights(convolution_model())
    integers, scales = stored(widened, "weight.int8"), stored(widened, "weight.scale")
    assert integers.dtype == np.int8 and scales.shape == (64, 1, 1, 1)
    live = [channel for channel in range(64) if channel != 5]
    assert (np.abs(integers.reshape(64, -1)).max(1)[live] == 127).all()
    assert not integers[5].any()
    assert np.abs(integers * scales - weight).max(axis=(1, 2, 3)) == pytest.approx(0, abs=float(scales.max()) / 2)
    assert (np.abs(integers * scales - weight) <= scales * (0.5 + 1e-5)).all()


def test_widened_weights_compute_what_they_store(pixels: npt.NDArray[np.float32]) -> None:
    model, widened = convolution_model(), widen_weights(convolution_model())
    onnx.checker.check_model(widened, full_check=True)
    kernel = (stored(widened, "weight.int8") * stored(widened, "weight.scale"))[:, :, 0, 0]
    expected = np.einsum("oc,bchw->bohw", kernel, pixels[:, :, ::2, ::2]) + stored(model, "bias").reshape(1, -1, 1, 1)
    assert run(widened, pixels) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_dynamic_integers_compute_what_eight_bits_hold(pixels: npt.NDArray[np.float32]) -> None:
    """By a loop of the definition of DynamicQuantizeLinear."""
    model, dynamic = convolution_model(), quantize_dynamically(convolution_model())
    onnx.checker.check_model(dynamic, full_check=True)
    step = (max(pixels.max(), 0) - min(pixels.min(), 0)) / 255
    zero = np.clip(np.rint(-min(pixels.min(), 0) / step), 0, 255)
    held = (np.clip(np.rint(pixels / step) + zero, 0, 255) - zero) * step
    kernel = (stored(dynamic, "weight.int8") * stored(dynamic, "weight.scale").reshape(-1, 1, 1, 1))[:, :, 0, 0]
    expected = np.einsum("oc,bchw->bohw", kernel, held[:, :, ::2, ::2]) + stored(model, "bias").reshape(1, -1, 1, 1)
    assert run(dynamic, pixels) == pytest.approx(expected, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("quantize", [widen_weights, quantize_dynamically])
def test_a_small_weight_stays(quantize: Callable[[onnx.ModelProto], onnx.ModelProto]) -> None:
    model = quantize(convolution_model())
    assert np.array_equal(stored(model, "small"), stored(convolution_model(), "small"))
    assert "weight" not in {one.name for one in model.graph.initializer}
    assert quantize(convolution_model()).SerializeToString() == model.SerializeToString()


@pytest.mark.parametrize(
    ("quantize", "least"),
    # EfficientNet-Lite0 with random weights; the trained students measured 0.994 and 0.991.
    [(widen_weights, 0.97), (quantize_dynamically, 0.95)],
)
def test_a_student_s_file_is_small_and_near(
    exported: Callable[..., Artifact],
    student_rows: Rows,
    photographs: Images,
    tmp_path: Path,
    quantize: Callable[[onnx.ModelProto], onnx.ModelProto],
    least: float,
) -> None:
    plain = exported(Format.ONNX, Precision.FP32).path
    model = quantize(onnx.load(plain))
    onnx.checker.check_model(model, full_check=True)
    path = tmp_path / "integers.onnx"
    path.write_bytes(model.SerializeToString())
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rows = np.concatenate([session.run(None, {"image": image[None]})[0] for image in photographs])
    assert centred_cosines(student_rows, rows).min() > least
    assert path.stat().st_size < 0.3 * plain.stat().st_size
    census = take_census(path)
    large = 38  # of 50
    counted = (census.weight_only_convolutions, census.dynamic_convolutions)
    assert counted == ((large, 0) if quantize is widen_weights else (0, large))
    assert census.largest_float_convolution < LARGEST_FLOAT_WEIGHT
    assert census.integer_convolutions == 0


def test_onnx_runtime_widens_weights_when_it_loads_a_file(tmp_path: Path, exported: Callable[..., Artifact]) -> None:
    model = widen_weights(onnx.load(exported(Format.ONNX, Precision.FP32).path))
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    loaded = onnx.load(tmp_path / "loaded.onnx")
    assert [node.op_type for node in loaded.graph.node].count("Cast") == 1  # of the image
    assert not any(one.data_type == TensorProto.INT8 for one in loaded.graph.initializer)
