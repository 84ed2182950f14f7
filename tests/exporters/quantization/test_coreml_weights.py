"""Compressed weights of Core ML packages: palettes against slow searches, and what a package holds of its network."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from aml_edge.artifact import Format, Precision
from aml_edge.exporters.conversion_log import conversion_logged
from aml_edge.exporters.export_spec import ExportSpec
from aml_edge.exporters.quantization.coreml_weights import palette
from aml_edge.exporters.quantization.proof import require_quantized
from aml_edge.exporters.to_coreml import write_coreml
from aml_edge.formats.coreml_file import take_census
from aml_edge.formats.mil_program import ImageInput, load_program
from aml_edge.networks.backbones import FeatureMap, seeded
from aml_edge.networks.deployable import DeployableStudent
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.preprocessing import Preprocessing
from aml_edge.runtimes.mil_arguments import MilArguments
from aml_edge.runtimes.mil_constant_operators import CONSTANT_OPERATORS

SIDE = 32
HALF = 2.0**-11
COMPRESSED = [Precision.INT8_WEIGHTS, Precision.PALETTE8, Precision.PALETTE6]


def error(values: npt.NDArray[np.float64], table: npt.NDArray[np.float64]) -> float:
    """Returns the mean squared distance of values from the nearest entry of a table."""
    return float((np.abs(values[:, None] - table).min(1) ** 2).mean())


def least_error(values: npt.NDArray[np.float64], size: int) -> float:
    """Returns the error of the best table, by trying every run of the sorted values for every entry."""
    values = np.sort(values)
    count = len(values)
    spread = {(i, j): ((values[i:j] - values[i:j].mean()) ** 2).sum() for j in range(count + 1) for i in range(j)}
    best = [0.0] + [np.inf] * count
    for _ in range(size):
        best = [0.0] + [min(best[i] + spread[i, j] for i in range(j)) for j in range(1, count + 1)]
    return float(best[-1] / count)


def test_few_values_are_their_own_palette() -> None:
    values = np.array([0.5, -1.0, 0.5, 2.0, -1.0])
    table, places = palette(values, 4)
    assert table.tolist() == [-1.0, 0.5, 2.0, 2.0]
    assert np.array_equal(table[places], values)


def test_each_value_takes_the_nearest_entry_and_each_entry_is_the_mean_of_its_values() -> None:
    values = np.random.default_rng(0).normal(size=3000).round(3)
    table, places = palette(values, 16)
    assert places.dtype == np.uint8
    assert np.array_equal(places, np.abs(values[:, None] - table).argmin(1))
    assert np.allclose(table, [values[places == place].mean() for place in range(16)], atol=1e-12)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_palette_is_near_the_best_one(seed: int) -> None:
    generator = np.random.default_rng(seed)
    values = np.concatenate([generator.normal(size=60), generator.laplace(size=20) * 3])
    table, _ = palette(values, 8)
    assert least_error(values, 8) <= error(values, table) < 1.6 * least_error(values, 8)


def test_a_million_values_are_as_far_as_the_theory_of_many_entries_says() -> None:
    """Of a normal distribution the best 256 entries leave √3·π / 2 / 256² of its variance (Panter and Dite)."""
    values = np.random.default_rng(0).normal(size=300_000)
    table, places = palette(values, 256)
    assert ((table[places] - values) ** 2).mean() == pytest.approx(np.sqrt(3) * np.pi / 2 / 256**2, rel=0.1)


class Packages(NamedTuple):
    """One network in half precision and with compressed weights."""

    half: Path
    compressed: Path
    precision: Precision


@pytest.fixture(scope="module")
def network() -> DeployableStudent:
    """Two convolutions that are compressed and one that is too small to be."""
    with seeded(0):
        student = Student(StudentSpec("tf_efficientnet_lite0", 64))
        trunk = nn.Sequential(nn.Conv2d(3, 64, 5, stride=8), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1, groups=64))
        student.backbone = FeatureMap(Trunk(trunk), 64)
        student.adaptor = nn.Conv2d(64, 64, 1, bias=False)
    return DeployableStudent(student.eval(), Preprocessing())


class Trunk(nn.Module):
    """Features of a sequence."""

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.layers = layers

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """Returns (B, 64, h, w)."""
        features: torch.Tensor = self.layers(images)
        return features


def written(network: DeployableStudent, precision: Precision, path: Path) -> Path:
    pytest.importorskip("coremltools", reason="the extra 'coreml' is not installed")
    with conversion_logged(path.with_suffix(".log"), "export"):
        write_coreml(network, ExportSpec(Format.COREML, precision, SIDE), path)
    return path


@pytest.fixture(scope="module")
def half(network: DeployableStudent, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(network, Precision.FP16, tmp_path_factory.mktemp("coreml") / "fp16.mlpackage")


@pytest.fixture(scope="module", params=COMPRESSED)
def packages(
    request: pytest.FixtureRequest, network: DeployableStudent, half: Path, tmp_path_factory: pytest.TempPathFactory
) -> Packages:
    folder = tmp_path_factory.mktemp("coreml")
    return Packages(half, written(network, request.param, folder / "compressed.mlpackage"), request.param)


def widened(constant: npt.NDArray[Any]) -> torch.Tensor:
    single = {np.dtype("f2"): np.float32, np.dtype("u4"): np.int64}
    return torch.from_numpy(np.array(constant, single.get(constant.dtype, constant.dtype)))


def weights(package: Path) -> list[npt.NDArray[np.float64]]:
    """Returns the weights of a package's convolutions in order, widened."""
    program = load_program(package)
    made = {step.outputs[0].name: step for step in program.operations}
    found = []
    for convolution in (step for step in program.operations if step.type == "conv"):
        (name,) = convolution.arguments["weight"]
        maker = made[getattr(name, "name")]  # noqa: B009  (a constant has none)
        if maker.type == "const":
            (value,) = maker.arguments["val"]
        else:
            tensors = {key: [widened(np.asarray(one))] for key, (one,) in maker.arguments.items()}
            value = CONSTANT_OPERATORS[maker.type](MilArguments(tensors)).numpy()
        found.append(np.asarray(value, np.float64))
    return found


def test_large_convolutions_are_compressed_and_the_small_one_is_not(packages: Packages) -> None:
    census = take_census(packages.compressed)
    assert (census.weight_only_convolutions, census.float_convolutions) == (2, 1)
    assert census.largest_float_convolution == 64 * 9
    assert census.integer_convolutions == 0
    require_quantized(census, packages.precision, None)
    kind = "constexpr_affine_dequantize" if packages.precision is Precision.INT8_WEIGHTS else "constexpr_lut_to_dense"
    assert census.operators[kind] == 2


def test_weights_are_what_the_precision_can_hold(packages: Packages) -> None:
    for whole, few in zip(weights(packages.half), weights(packages.compressed), strict=True):
        if whole.size < 2048:
            assert np.array_equal(few, whole)
        elif packages.precision is Precision.INT8_WEIGHTS:  # half a step of each channel's own, and a scale in half
            steps = np.abs(whole).max((1, 2, 3), keepdims=True) / 127
            assert (np.abs(few - whole) < 0.5 * steps + 2 * HALF * np.abs(whole) + 1e-7).all()
        else:
            size = 256 if packages.precision is Precision.PALETTE8 else 64
            assert len(np.unique(few)) <= size
            uniform = (whole.max() - whole.min()) / size
            assert ((few - whole) ** 2).mean() < 1.1 * uniform**2 / 12


def test_the_input_is_an_image_and_the_head_stays_single(packages: Packages) -> None:
    program = load_program(packages.compressed)
    assert program.images == (ImageInput("image", SIDE, SIDE, "RGB"),)
    assert program.outputs == ("embedding",)
    assert {variable.dtype for variable in program.operations[-1].outputs} == {"float32"}


def test_the_same_network_gives_the_same_bytes(packages: Packages, network: DeployableStudent, tmp_path: Path) -> None:
    again = written(network, packages.precision, tmp_path / "compressed.mlpackage")
    content = {
        path.relative_to(again).as_posix(): path.read_bytes() for path in sorted(again.rglob("*")) if path.is_file()
    }
    assert all((packages.compressed / name).read_bytes() == part for name, part in content.items())
    assert len(content) == 3
