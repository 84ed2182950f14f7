"""TFLite files in integers: what stands in them, read by LiteRT's own schema, and what LiteRT computes with them.

Integers of 16 bits hardly round, so there a file equals the fake-quantized network; in 8 bits a tie that two kernels
round differently is another embedding after fifty layers, and what is stored is compared instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from aml_edge.artifact import Format, Precision
from aml_edge.errors import ExportError
from aml_edge.exporters.conversion_log import conversion_logged
from aml_edge.exporters.export_spec import ExportSpec
from aml_edge.exporters.quantization.tflite import quantized_tflite
from aml_edge.exporters.quantization.tflite_operators import find_sites
from aml_edge.exporters.to_tflite import write_tflite
from aml_edge.formats.census import OperatorCensus
from aml_edge.formats.tflite_file import take_census
from aml_edge.native_output import output_discarded
from aml_edge.networks.deployable import DeployableStudent
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.networks.torchvision_guard import import_timm
from aml_edge.preprocessing import Preprocessing
from aml_edge.quantization.fake_quantized import FakeQuantizedNetwork
from aml_edge.quantization.post_training import PostTrainingOptions, QuantizedStudent, quantize_post_training
from aml_edge.quantization.tensors import TensorQuantization, weight_scales

pytest.importorskip("litert_torch", reason="the extra 'tflite' is not installed")

Images = list[npt.NDArray[np.uint8]]
Rows = npt.NDArray[np.float32]
Convert = Callable[[DeployableStudent], bytes]
SIDE = 64
SAME = 0.9999
"""Least cosine in 16 bits, after the mean of the floating-point rows is taken off; measured .99999."""
HARD = 0.999
"""The same where one channel has a hundred times the range of others; measured .9995."""
NEAR = 0.9
"""The same in 8 bits, of a few layers; measured .97, and two of LiteRT's kernels differ as much."""


@dataclass(frozen=True)
class Prepared:
    """A student prepared for integers, and the file in floating point of its network."""

    quantized: QuantizedStudent
    model: bytes


@pytest.fixture(scope="session")
def convert(tmp_path_factory: pytest.TempPathFactory) -> Convert:
    """Returns a function that makes a network's file in floating point."""

    def make(network: DeployableStudent) -> bytes:
        path = tmp_path_factory.mktemp("float") / "model.tflite"
        with conversion_logged(path.with_suffix(".log"), "conversion"):
            write_tflite(network, ExportSpec(Format.TFLITE, Precision.FP32, SIDE), path)
        return path.read_bytes()

    return make


@pytest.fixture(scope="session")
def lite0(quantized: QuantizedStudent, convert: Convert) -> Prepared:
    """The lively EfficientNet-Lite0."""
    return Prepared(quantized, convert(quantized.graph.network))


@pytest.fixture(scope="session")
def made(lite0: Prepared) -> dict[Precision, bytes]:
    """The lively student's file in each precision."""
    return {
        precision: integers(lite0, precision)
        for precision in (Precision.INT8, Precision.INT8_WEIGHTS, Precision.INT8_DYNAMIC)
    }


def integers(prepared: Prepared, precision: Precision) -> bytes:
    with output_discarded():
        return quantized_tflite(prepared.model, precision, prepared.quantized)


def in_16_bits(quantized: QuantizedStudent) -> QuantizedStudent:
    """Returns the same network with the ranges of its activations in 16 bits."""
    stored = {
        name: TensorQuantization.of_range(one.low, one.high, 16)
        for name, one in quantized.quantization.activations.items()
    }
    return QuantizedStudent(quantized.graph, replace(quantized.quantization, activations=stored))


def run(model: bytes, images: Images) -> Rows:
    """Returns what LiteRT computes."""
    from ai_edge_litert.interpreter import Interpreter

    with output_discarded():
        interpreter = Interpreter(model_content=model, num_threads=1)
        interpreter.allocate_tensors()
    rows = []
    for image in images:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
    return np.stack(rows)


def smallest_cosine(quantized: QuantizedStudent, model: bytes, images: Images) -> float:
    """Returns how near a file is to the fake-quantized network, the mean of the rows in floating point taken off."""
    pixels = torch.from_numpy(np.stack(images))
    with torch.inference_mode():
        plain = FakeQuantizedNetwork(quantized.graph, None)(pixels).numpy()
        expected = FakeQuantizedNetwork(quantized.graph, quantized.quantization)(pixels).numpy()
    left, right = expected - plain.mean(0), run(model, images) - plain.mean(0)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return float(((left * right).sum(1) / norms).min())


def parsed(model: bytes) -> Any:
    """Returns LiteRT's own view of a file."""
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))


def census_of(model: bytes, tmp_path: Path) -> OperatorCensus:
    path = tmp_path / "counted.tflite"
    path.write_bytes(model)
    return take_census(path)


def integer_results(model: Any) -> list[Any]:
    """Returns the tensors that operators in integers give, in their order."""
    tensors = model.subgraphs[0].tensors
    results = [tensors[operator.outputs[0]] for operator in model.subgraphs[0].operators]
    return [one for one in results if one.quantization is not None and one.quantization.scale is not None]


def test_int8_stores_each_activation_as_calibrated(lite0: Prepared, made: dict[Precision, bytes]) -> None:
    quantized = lite0.quantized
    names = [site.name for site in quantized.quantization.integer_sites(quantized.graph)]
    names = ["conv_stem", *names]  # the first operator in integers makes them of the stem's result
    stored = [quantized.quantization.of(name) for name in names]
    found = [one.quantization for one in integer_results(parsed(made[Precision.INT8]))]
    np.testing.assert_allclose([one.scale[0] for one in found], [one.scale for one in stored], rtol=1e-6)
    assert [one.zeroPoint[0] for one in found] == [one.zero_point for one in stored]


def test_int8_stores_weights_as_simulated(lite0: Prepared, made: dict[Precision, bytes]) -> None:
    model, graph = parsed(made[Precision.INT8]), lite0.quantized.graph
    tensors, buffers = model.subgraphs[0].tensors, model.buffers
    convolutions = [one for one in model.subgraphs[0].operators if len(one.inputs) == 3]
    weights = [tensors[one.inputs[1]] for one in convolutions if tensors[one.inputs[1]].quantization.scale is not None]
    sites = [site for site in lite0.quantized.quantization.integer_sites(graph) if site.weight]
    assert len(weights) == len(sites) == 49
    for site, weight in zip(sites, weights, strict=True):
        exact = graph.state(site.weight).detach()
        scales = weight_scales(exact)
        np.testing.assert_allclose(weight.quantization.scale, scales.numpy(), rtol=1e-6)
        expected = (exact / scales[:, None, None, None]).round()  # (O, C / groups, h, w)
        order = (0, 2, 3, 1) if weight.shape[0] != 1 or exact.shape[0] == 1 else (1, 2, 3, 0)
        values = np.asarray(buffers[weight.buffer].data, np.uint8).view(np.int8)
        assert np.array_equal(values, expected.permute(*order).numpy().ravel())


def test_16_bits_compute_what_the_fake_quantized_network_does(lite0: Prepared, photographs: Images) -> None:
    wide = in_16_bits(lite0.quantized)
    model = integers(Prepared(wide, lite0.model), Precision.INT8_INT16)
    assert smallest_cosine(wide, model, photographs) > SAME


@pytest.mark.parametrize(
    ("precision", "integer", "dynamic", "weight_only", "floating"),
    [
        (Precision.INT8, 49, 0, 0, 1),
        (Precision.INT8_WEIGHTS, 0, 0, 38, 12),
        (Precision.INT8_DYNAMIC, 0, 50, 0, 0),
    ],
)
def test_the_census_counts_what_was_asked(
    made: dict[Precision, bytes],
    tmp_path: Path,
    precision: Precision,
    integer: int,
    dynamic: int,
    weight_only: int,
    floating: int,
) -> None:
    census = census_of(made[precision], tmp_path)
    assert census.integer_convolutions == integer
    assert census.dynamic_convolutions == dynamic
    assert census.weight_only_convolutions == weight_only
    assert census.float_convolutions == floating
    assert census.largest_float_convolution < 4096
    assert census.transposes == 0
    assert census.weight_values["int8"] > 3_000_000


def test_int8_adds_in_integers_and_has_one_way_in_and_out(made: dict[Precision, bytes], tmp_path: Path) -> None:
    census = census_of(made[Precision.INT8], tmp_path)
    assert census.integer_operators == {"CONV_2D": 33, "DEPTHWISE_CONV_2D": 16, "ADD": 9}
    assert (census.operators["QUANTIZE"], census.operators["DEQUANTIZE"]) == (1, 1)


def test_the_same_student_gives_the_same_bytes(lite0: Prepared, made: dict[Precision, bytes]) -> None:
    for precision, model in made.items():
        assert integers(lite0, precision) == model


def test_a_block_in_floating_point_stays_so(lite0: Prepared, tmp_path: Path) -> None:
    blocks = lite0.quantized.quantization.float_blocks | {"blocks.2.1", "adaptor"}
    mixed = QuantizedStudent(lite0.quantized.graph, lite0.quantized.quantization.with_float(blocks))
    census = census_of(integers(Prepared(mixed, lite0.model), Precision.INT8), tmp_path)
    assert census.integer_convolutions == 49 - 3 - 1
    assert census.integer_operators["ADD"] == 8


def test_the_head_is_in_integers_where_asked(lite0: Prepared, photographs: Images, tmp_path: Path) -> None:
    wide = in_16_bits(lite0.quantized)
    asked = QuantizedStudent(wide.graph, wide.quantization.with_float({"conv_stem"}))
    model = integers(Prepared(asked, lite0.model), Precision.INT8_INT16)
    census = census_of(model, tmp_path)
    assert (census.integer_operators["MEAN"], census.integer_operators["MUL"]) == (1, 2)
    assert census.integer_operators["ADD"] == 9 + 1
    assert smallest_cosine(asked, model, photographs) > SAME


def test_a_file_of_another_network_is_refused(lite0: Prepared) -> None:
    graph = lite0.quantized.graph
    site = graph.sites[5]
    other = graph.with_state({site.weight: graph.state(site.weight).detach() * 2})
    with pytest.raises(ExportError) as caught:
        find_sites(lite0.model, other)
    assert str(caught.value).startswith(
        f"the TFLite file does not compute what the network does: the weights of '{site.name}' are not those of its "
    )
    assert "Export it in fp32, or report the backbone and the converter's version." in str(caught.value)
    other = graph.with_state({site.bias: graph.state(site.bias).detach() + 3})
    with pytest.raises(ExportError, match=f"the biases of '{site.name}' are not those of its "):
        find_sites(lite0.model, other)


def test_sites_in_another_order_are_refused(lite0: Prepared) -> None:
    graph = lite0.quantized.graph
    first, second, *others = graph.sites
    with pytest.raises(ExportError, match=r"the weights of 'blocks\.0\.0\.conv_dw' are not those of its CONV_2D"):
        find_sites(lite0.model, replace(graph, sites=(second, first, *others)))
    with pytest.raises(ExportError, match="it has 63 operators that could be the network's 62 sites"):
        find_sites(lite0.model, replace(graph, sites=(second, *others)))
    places = [place for place, site in enumerate(graph.sites) if str(site.kind) == "add"]
    earlier = (*graph.sites[: places[0] - 1], graph.sites[places[0]], graph.sites[places[0] - 1])
    with pytest.raises(
        ExportError, match=r"where 'blocks\.1\.1:add' computes 'add' of \[1, 16, 16, 24\], it has a CONV_2D of"
    ):
        find_sites(lite0.model, replace(graph, sites=(*earlier, *graph.sites[places[0] + 1 :])))
    wrong = replace(graph.sites[places[0]], inputs=("conv_stem", graph.sites[places[0]].inputs[1]))
    sites = (*graph.sites[: places[0]], wrong, *graph.sites[places[0] + 1 :])
    with pytest.raises(ExportError, match=f"'{wrong.name}' takes conv_stem and .*, its ADD '"):
        find_sites(lite0.model, replace(graph, sites=sites))


def shallow(exponent: float = 3.0) -> Student:
    """Returns a residual network of a few layers with a stride, a maximum of a padded map, and lively weights."""
    torch.manual_seed(0)
    student = Student(StudentSpec("test_resnet", 32)).eval()
    for norm in (module for module in student.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.8, 1.2)
        nn.init.normal_(norm.bias, 0.0, 0.05)
    with torch.no_grad():
        student.pool.p.fill_(exponent)
    return student


def with_a_dead_channel_and_a_huge_range() -> Student:
    """Returns a student in which one channel's weights are gone but its bias is not, and one gives a hundred times."""
    student = shallow()
    norms = [module for module in student.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        norms[2].weight[0], norms[2].bias[0] = 1e-12, 0.5
        norms[4].weight[1] *= 100
    return student


@pytest.mark.parametrize(
    ("student", "preprocessing"),
    [
        (shallow(1.001), Preprocessing()),
        (shallow(10.0), Preprocessing(mean=(0.5, 0.4, 0.5), std=(0.5, 0.5, 0.5))),
        (with_a_dead_channel_and_a_huge_range(), Preprocessing()),
    ],
    ids=["GeM near the mean", "GeM near the maximum, one deviation", "dead channel and huge range"],
)
def test_what_is_hard_to_store_is_computed_as_simulated(
    student: Student, preprocessing: Preprocessing, calibration_crops: Images, convert: Convert, tmp_path: Path
) -> None:
    options = PostTrainingOptions(float_stem=False)
    images = calibration_crops[::3]
    quantized = quantize_post_training(DeployableStudent(student, preprocessing), images, options)
    model = convert(quantized.graph.network)
    int8 = integers(Prepared(quantized, model), Precision.INT8)
    census = census_of(int8, tmp_path)
    assert (census.integer_convolutions, census.float_convolutions) == (16, 0)
    assert {"PAD", "PADV2", "MAX_POOL_2D", "ADD"} <= set(census.integer_operators)
    assert smallest_cosine(quantized, int8, images) > NEAR
    wide = in_16_bits(quantized)
    assert smallest_cosine(wide, integers(Prepared(wide, model), Precision.INT8_INT16), images) > HARD


def test_a_hard_sigmoid_that_the_converter_puts_into_a_convolution_is_computed_as_simulated(
    calibration_crops: Images, convert: Convert
) -> None:
    student = shallow()
    squeeze = import_timm().layers.SqueezeExcite(48, gate_layer="hard_sigmoid").eval()
    with torch.no_grad():
        squeeze.fc2.bias.copy_(torch.linspace(-3, 3, 48))
    student.get_submodule("backbone.trunk.layer2.0").se = squeeze
    images = calibration_crops[::3]
    quantized = in_16_bits(quantize_post_training(DeployableStudent(student, Preprocessing()), images))
    prepared = Prepared(quantized, convert(quantized.graph.network))
    sites = find_sites(prepared.model, quantized.graph)
    (raised,) = sites.hard_sigmoids
    assert sites.activations[raised] == "layer2.0.se.fc2"
    with pytest.raises(ExportError, match=r"the biases of 'layer2\.0\.se\.fc2' are not those"):
        bias = next(site.bias for site in quantized.graph.sites if site.name == "layer2.0.se.fc2")
        find_sites(prepared.model, quantized.graph.with_state({bias: quantized.graph.state(bias).detach() + 1}))
    assert smallest_cosine(quantized, integers(prepared, Precision.INT8_INT16), images) > SAME
