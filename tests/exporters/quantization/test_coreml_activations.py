"""Core ML in integers: what is written out, what the package computes, and what half precision needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, fx, nn

from aml_edge.artifact import Format, Precision
from aml_edge.exporters.agreement import centred_cosines
from aml_edge.exporters.conversion_log import conversion_logged
from aml_edge.exporters.export_spec import ExportSpec
from aml_edge.exporters.quantization.coreml_activations import with_integers
from aml_edge.exporters.to_coreml import write_coreml
from aml_edge.formats.coreml_file import take_census
from aml_edge.formats.mil_program import ImageInput, MilProgram, load_program
from aml_edge.networks.backbones import FeatureMap, seeded
from aml_edge.networks.deployable import DeployableStudent
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.preprocessing import Preprocessing
from aml_edge.quantization.fake_quantized import FakeQuantizedNetwork
from aml_edge.quantization.graph import SiteKind
from aml_edge.quantization.post_training import PostTrainingOptions, QuantizedStudent, quantize_post_training
from aml_edge.runtimes.mil_evaluator import MilEvaluator

pytest.importorskip("coremltools", reason="the extra 'coreml' is not installed")

SIDE = 64
TIES = 0.99
"""Two ways of adding a convolution up differ in the last bit; a value in the middle between two steps then goes to
another one, and all that follows sees it: 0.9983 at the least of 60 photographs, trained."""
MORE_LOST = 1.6
"""Half precision rounds each scale, bias and sum too, and so draws other roundings; they are no worse: trained, the
file lost 0.0021 to the student at the median, the simulation 0.0021."""
NORMAL_HALF = 2.0**-14

Images = list[npt.NDArray[np.uint8]]
Rows = npt.NDArray[np.float32]


class SqueezeTrunk(nn.Module):
    """SiLU, squeeze and excitation, paddings, a pooling and a sum; one convolution has hardly any weight."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = nn.Conv2d(3, 8, 3, 2)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.conv_dw = nn.Conv2d(8, 8, 3, groups=8)
        self.conv_reduce = nn.Conv2d(8, 4, 1)
        self.conv_expand = nn.Conv2d(4, 8, 1)
        self.conv_pw = nn.Conv2d(8, 8, 1)
        with torch.no_grad():
            self.conv_pw.weight.mul_(1e-3)

    def forward_features(self, images: Tensor) -> Tensor:
        """Returns (B, 8, h, w)."""
        stem = self.pool(nn.functional.relu(self.conv_stem(nn.functional.pad(images, (0, 1, 0, 1)))))
        inner = nn.functional.silu(self.conv_dw(nn.functional.pad(stem, (1, 1, 1, 1))))
        squeezed = nn.functional.silu(self.conv_reduce(inner.mean((2, 3), keepdim=True)))
        excited = inner * self.conv_expand(squeezed).sigmoid()
        result: Tensor = self.conv_pw(excited) + stem
        return result


@pytest.fixture(scope="module")
def squeeze(calibration_crops: Images) -> QuantizedStudent:
    with seeded(0):
        student = Student(StudentSpec("tf_efficientnet_lite0", 16))
        student.backbone = FeatureMap(SqueezeTrunk(), 8)
        student.adaptor = nn.Conv2d(8, 16, 1, bias=False)
    network = DeployableStudent(student.eval(), Preprocessing())
    return quantize_post_training(network, calibration_crops, PostTrainingOptions(float_stem=False))


def converted(quantized: QuantizedStudent, path: Path) -> Path:
    with conversion_logged(path.with_suffix(".log"), "export"):
        write_coreml(quantized.graph.network, ExportSpec(Format.COREML, Precision.INT8, SIDE), path, quantized)
    return path


@pytest.fixture(scope="module")
def lite_package(quantized: QuantizedStudent, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return converted(quantized, tmp_path_factory.mktemp("coreml") / "lite.mlpackage")


@pytest.fixture(scope="module")
def squeeze_package(squeeze: QuantizedStudent, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return converted(squeeze, tmp_path_factory.mktemp("coreml") / "squeeze.mlpackage")


def simulated(quantized: QuantizedStudent, images: Images) -> Rows:
    network = FakeQuantizedNetwork(quantized.graph, quantized.quantization)
    with torch.inference_mode():
        return np.concatenate([network(torch.from_numpy(image[None])).numpy() for image in images])


def evaluated(program: MilProgram, images: Images) -> Rows:
    evaluator = MilEvaluator(program, "program")
    inputs = [torch.from_numpy(image[None]).permute(0, 3, 1, 2).float() for image in images]
    return np.concatenate([evaluator.run({"image": image})["embedding"].numpy() for image in inputs])


def written(module: fx.GraphModule, images: Images) -> Rows:
    with torch.inference_mode():
        return np.concatenate([module(torch.from_numpy(image[None]).float()).numpy() for image in images])


@pytest.mark.parametrize("name", ["quantized", "squeeze"])
def test_integers_written_out_compute_what_the_simulation_does(
    name: str, request: pytest.FixtureRequest, photographs: Images
) -> None:
    quantized: QuantizedStudent = request.getfixturevalue(name)
    assert np.array_equal(written(with_integers(quantized), photographs), simulated(quantized, photographs))


def test_the_student_is_left_as_it_is(squeeze: QuantizedStudent) -> None:
    before = str(squeeze.graph.module.graph)
    with_integers(squeeze)
    assert str(squeeze.graph.module.graph) == before


def test_takes_bytes_too(squeeze: QuantizedStudent, photographs: Images) -> None:
    module, image = with_integers(squeeze), torch.from_numpy(photographs[0][None])
    with torch.inference_mode():
        assert torch.equal(module(image), module(image.float()))


def test_every_integer_site_stands_between_dequantize_and_quantize(
    lite_package: Path, quantized: QuantizedStudent
) -> None:
    kinds = [site.kind for site in quantized.quantization.integer_sites(quantized.graph)]
    census = take_census(lite_package)
    assert census.integer_convolutions == kinds.count(SiteKind.CONVOLUTION) == 49
    assert (census.weight_only_convolutions, census.float_convolutions) == (0, 1)
    assert census.integer_operators["add"] == kinds.count(SiteKind.ADD) == 9
    assert census.largest_float_convolution == 32 * 3 * 3 * 3  # the stem


def test_every_operator_of_squeeze_and_excitation_is_an_integer_one(
    squeeze_package: Path, squeeze: QuantizedStudent
) -> None:
    kinds = [site.kind for site in squeeze.quantization.integer_sites(squeeze.graph)]
    census = take_census(squeeze_package)
    assert census.integer_convolutions == kinds.count(SiteKind.CONVOLUTION) == 6
    assert census.float_convolutions == census.weight_only_convolutions == 0
    names = {SiteKind.MULTIPLY: "mul", SiteKind.SIGMOID: "sigmoid", SiteKind.MEAN: "reduce_mean", SiteKind.ADD: "add"}
    counted = {kind: census.integer_operators[name] for kind, name in names.items()}
    assert counted == {kind: kinds.count(kind) for kind in names}


@pytest.mark.parametrize("name", ["quantized", "squeeze"])
def test_in_single_precision_the_package_computes_what_the_simulation_does(
    name: str, request: pytest.FixtureRequest, calibration_crops: Images, tmp_path: Path
) -> None:
    quantized: QuantizedStudent = request.getfixturevalue(name)
    path, spec = tmp_path / "single.mlpackage", ExportSpec(Format.COREML, Precision.FP32, SIDE)
    with conversion_logged(tmp_path / "single.log", "export"):
        write_coreml(with_integers(quantized), spec, path)  # type: ignore[arg-type]
    images = calibration_crops[:12]
    cosines = centred_cosines(simulated(quantized, images), evaluated(load_program(path), images))
    assert np.median(cosines) > TIES


@pytest.mark.parametrize("name", ["lite", "squeeze"])
def test_in_half_precision_the_package_is_as_near_the_student_as_the_simulation(
    name: str, request: pytest.FixtureRequest, calibration_crops: Images
) -> None:
    quantized: QuantizedStudent = request.getfixturevalue("quantized" if name == "lite" else name)
    package: Path = request.getfixturevalue(f"{name}_package")
    images = calibration_crops[:12]
    exact = FakeQuantizedNetwork(quantized.graph, None)
    with torch.inference_mode():
        rows = exact(torch.from_numpy(np.stack(images))).numpy()
    lost = [
        1 - np.median(centred_cosines(rows, others))
        for others in (simulated(quantized, images), evaluated(load_program(package), images))
    ]
    assert lost[1] < MORE_LOST * lost[0]


def test_takes_an_image_and_keeps_the_head_in_single_precision(lite_package: Path) -> None:
    program = load_program(lite_package)
    assert program.images == (ImageInput("image", SIDE, SIDE, "RGB"),)
    steps = [step for step in program.operations if step.type != "const"]
    last = max(place for place, step in enumerate(steps) if step.type == "quantize")
    assert steps[last - 1].type == "relu"
    assert steps[last - 1].outputs[0].dtype == "float16"
    assert {variable.dtype for step in steps[last + 1 :] for variable in step.outputs} == {"float32"}


@pytest.mark.parametrize("name", ["lite_package", "squeeze_package"])
def test_half_precision_holds_the_scales(name: str, request: pytest.FixtureRequest) -> None:
    """A scale below the normal numbers may be taken for zero; but where a filter is dead, nothing is lost."""
    program = load_program(request.getfixturevalue(name))
    weights = [step for step in program.operations if step.type == "constexpr_affine_dequantize"]
    scales = [value for step in weights for value in step.arguments["scale"] if not isinstance(value, str)]
    flat = np.concatenate([np.ravel(scale) for scale in scales if isinstance(scale, np.ndarray)]).astype(np.float64)
    assert len(flat) > 40
    assert np.mean(flat < NORMAL_HALF) < 0.01


def test_the_same_student_gives_the_same_bytes(
    squeeze_package: Path, squeeze: QuantizedStudent, tmp_path: Path
) -> None:
    again = converted(squeeze, tmp_path / "squeeze.mlpackage")
    names = [path.relative_to(again) for path in sorted(again.rglob("*")) if path.is_file()]
    assert len(names) == 3
    assert all((again / name).read_bytes() == (squeeze_package / name).read_bytes() for name in names)
