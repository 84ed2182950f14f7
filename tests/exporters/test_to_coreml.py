"""Real Core ML packages of photographs' students, run by the MIL evaluator, and on a Mac by Core ML."""

from __future__ import annotations

import getpass
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

import aml_edge
from aml_edge.artifact import Artifact, Format, Precision
from aml_edge.errors import MissingExtraError
from aml_edge.exporters.export import export_student
from aml_edge.exporters.export_spec import ExportSpec
from aml_edge.exporters.to_coreml import write_coreml
from aml_edge.formats.coreml_file import take_census
from aml_edge.formats.mil_program import ImageInput, MilProgram, load_program
from aml_edge.native_output import output_discarded
from aml_edge.networks.backbones import seeded
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.networks.deployable import DeployableStudent
from aml_edge.networks.normalisation import Normalise
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.preprocessing import Preprocessing
from aml_edge.runtimes import open_artifact
from aml_edge.runtimes.mil_evaluator import MilEvaluator
from aml_edge.space import EmbeddingSpace

pytestmark = pytest.mark.skipif(find_spec("coremltools") is None, reason="the extra 'coreml' is not installed")

FLOATS = [Precision.FP32, Precision.FP16]

Images = list[npt.NDArray[np.uint8]]
Exported = Callable[..., Artifact]
EmbeddingsOf = Callable[..., npt.NDArray[np.float32]]


def rows_of(student: Student, images: Images) -> npt.NDArray[np.float32]:
    normalise = Normalise(Preprocessing().mean, Preprocessing().std)
    with torch.inference_mode():
        rows: npt.NDArray[np.float32] = student(normalise(torch.from_numpy(np.stack(images)))).numpy()
    return rows


def with_statistics_of(student: Student, images: Images) -> Student:
    """Returns a student whose batch normalisations hold the images' own statistics, so that features are lively."""
    for norm in (module for module in student.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.reset_running_stats()
        norm.momentum = None  # a plain average
    student.train()
    rows_of(student, images)
    return student.eval()


@pytest.fixture
def tiny() -> StudentCheckpoint:
    """A student of two convolutions, which converts in a moment."""
    student = Student(StudentSpec("tf_efficientnet_lite0", 64))
    with seeded(0):
        trunk = nn.Sequential(nn.Conv2d(3, 16, 5, stride=8), nn.ReLU())
        student.backbone = trunk  # type: ignore[assignment]
        student.adaptor = nn.Conv2d(16, 64, 1, bias=False)
    return StudentCheckpoint(student.eval(), "tiny", EmbeddingSpace("toy", "c" * 64, 64), Preprocessing(), trained=True)


def converted(checkpoint: StudentCheckpoint, precision: Precision, path: Path) -> MilProgram:
    network = DeployableStudent(checkpoint.student, checkpoint.preprocessing)
    with output_discarded():
        write_coreml(network, ExportSpec(Format.COREML, precision, 64), path)
    return load_program(path)


def head_error(program: MilProgram, images: Images) -> float:
    """Returns how far the program's embedding is from the head in double precision on the program's own features."""
    adaptor = [step.outputs[0].name for step in program.operations if step.type == "relu"][-1]
    evaluator = MilEvaluator(replace(program, outputs=(adaptor, *program.outputs)), "program")
    errors = []
    for image in images:
        features, embedding = evaluator.run({"image": torch.tensor(image).permute(2, 0, 1)[None].float()}).values()
        pooled = features.double().clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3)
        exact = pooled / (pooled.norm() + 1e-6)
        errors.append(float((embedding - exact).abs().max()))
    return max(errors)


def test_fp32_equals_the_student(check_fp32: Callable[..., None]) -> None:
    check_fp32(Format.COREML, "mil")


def test_fp16_with_whitening_is_near(check_whitened_fp16: Callable[..., None]) -> None:
    check_whitened_fp16(Format.COREML, "mil")


@pytest.mark.parametrize("precision", FLOATS)
def test_takes_an_image_and_gives_float32(exported: Exported, precision: Precision) -> None:
    whitened = precision is Precision.FP16
    program = load_program(exported(Format.COREML, precision, whitened=whitened).path)
    assert program.images == (ImageInput("image", 64, 64, "RGB"),)
    assert program.outputs == ("embedding",)
    (embedding,) = [one for step in program.operations for one in step.outputs if one.name == "embedding"]
    assert (embedding.dtype, embedding.shape) == ("float32", (1, 48 if whitened else 64))


def test_coremltools_reads_the_interface(exported: Exported) -> None:
    with output_discarded():
        import coremltools
    spec = coremltools.utils.load_spec(str(exported(Format.COREML, Precision.FP32).path))
    (image,), (embedding,) = spec.description.input, spec.description.output
    colours = coremltools.proto.FeatureTypes_pb2.ImageFeatureType.ColorSpace.Value("RGB")
    assert (image.name, image.type.imageType.width, image.type.imageType.height) == ("image", 64, 64)
    assert image.type.imageType.colorSpace == colours
    number = coremltools.proto.FeatureTypes_pb2.ArrayFeatureType.ArrayDataType.Value("FLOAT32")
    assert (embedding.name, list(embedding.type.multiArrayType.shape)) == ("embedding", [1, 64])
    assert embedding.type.multiArrayType.dataType == number
    assert spec.specificationVersion == coremltools.target.iOS17.value


@pytest.mark.parametrize("precision", FLOATS)
def test_holds_no_transpose_and_folded_batch_norms(exported: Exported, precision: Precision) -> None:
    census = take_census(exported(Format.COREML, precision, whitened=precision is Precision.FP16).path)
    assert census.transposes == 0
    assert "batch_norm" not in census.operators
    assert census.operators.get("cast", 0) == (2 if precision is Precision.FP16 else 0)


def test_fp16_keeps_only_the_head_in_single_precision(exported: Exported) -> None:
    artifact = exported(Format.COREML, Precision.FP16, whitened=True)
    weights = take_census(artifact.path).weight_values
    assert weights["float16"] > 3_000_000
    assert weights["float32"] < 64 * 48 + 64 + 48 + 100  # the whitening's projection, mean and bias
    steps = [step for step in load_program(artifact.path).operations if step.type != "const"]
    dtypes = [step.outputs[0].dtype for step in steps if step.type != "cast"]
    adaptor = [step.type for step in steps if step.type != "cast"].index("relu")
    assert set(dtypes[: adaptor + 1]) == {"float16"}
    assert set(dtypes[adaptor + 1 :]) == {"float32"}
    assert artifact.size_bytes < 0.53 * exported(Format.COREML, Precision.FP32).size_bytes


def test_a_head_in_single_precision_is_the_more_accurate_one(
    tiny: StudentCheckpoint, photographs: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    single = head_error(converted(tiny, Precision.FP16, tmp_path / "single.mlpackage"), photographs)
    monkeypatch.setattr("aml_edge.exporters.to_coreml._BeforeHead.__call__", lambda self, operation: True)
    half = head_error(converted(tiny, Precision.FP16, tmp_path / "half.mlpackage"), photographs)
    assert single < 1e-6
    assert 1e-5 < half < 1e-2


def test_short_vectors_are_divided_as_the_student_does(
    tiny: StudentCheckpoint, photographs: Images, tmp_path: Path
) -> None:
    """With norms of 1e-4 the published eps counts, and Core ML's own reciprocal, which adds 1e-4, would be off."""
    with torch.no_grad():
        tiny.student.adaptor.weight.mul_(1e-4)
    evaluator = MilEvaluator(converted(tiny, Precision.FP32, tmp_path / "short.mlpackage"), "short")
    images = [torch.tensor(image).permute(2, 0, 1)[None].float() for image in photographs]
    rows = np.concatenate([evaluator.run({"image": image})["embedding"].numpy() for image in images])
    exact = rows_of(tiny.student, photographs)
    assert np.linalg.norm(exact, axis=1).max() < 0.999
    assert np.abs(rows - exact).max() < 1e-6


def files(package: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(package.rglob("*")):
        if path.is_file():
            yield path.relative_to(package).as_posix(), path.read_bytes()


@pytest.mark.parametrize("precision", FLOATS)
def test_the_same_student_gives_the_same_bytes(tiny: StudentCheckpoint, tmp_path: Path, precision: Precision) -> None:
    spec = ExportSpec(Format.COREML, precision, 64)
    first, again = (export_student(tiny, spec, tmp_path / folder) for folder in ("first", "again"))
    assert dict(files(again.path)) == dict(files(first.path))


def test_says_nothing_of_this_machine(exported: Exported) -> None:
    package = exported(Format.COREML, Precision.FP32).path
    names = [name for name, _ in files(package)]
    folder = "Data/com.apple.CoreML"
    assert names == [f"{folder}/model.mlmodel", f"{folder}/weights/weight.bin", "Manifest.json"]
    here = [
        str(Path.home()),
        os.getcwd(),
        tempfile.gettempdir(),
        str(Path(aml_edge.__file__).parents[1]),
        sys.prefix,
        "site-packages",
        socket.gethostname(),
    ]
    here += [getpass.getuser()] if len(getpass.getuser()) > 4 else []
    content = b"".join(content for _, content in files(package) if len(content) < 1_000_000)
    assert b"embedding" in content
    assert [place for place in here if len(place) > 4 and place.encode() in content] == []


def test_absence_of_coremltools_gives_the_pip_command(
    checkpoint: StudentCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "coremltools", None)
    network = DeployableStudent(checkpoint.student, checkpoint.preprocessing)
    with pytest.raises(MissingExtraError) as caught:
        write_coreml(network, ExportSpec(Format.COREML, image_side_px=64), tmp_path / "model.mlpackage")
    assert str(caught.value) == (
        "the Core ML format needs coremltools, which is not installed: pip install 'aml-edge[coreml]'"
    )


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["efficientnet_b3", "mobilenet_v2", "vgg16"])
def test_other_trunks_agree_too(
    tmp_path: Path, photographs: Images, embeddings_of: EmbeddingsOf, backbone: str
) -> None:
    student = with_statistics_of(Student(StudentSpec(backbone, 32)), photographs)
    space = EmbeddingSpace("toy", "b" * 64, 32)
    checkpoint = StudentCheckpoint(student, backbone, space, Preprocessing(), trained=True)
    artifact = export_student(checkpoint, ExportSpec(Format.COREML, image_side_px=64), tmp_path)
    assert take_census(artifact.path).transposes == 0
    assert np.abs(embeddings_of(artifact, "mil") - rows_of(student, photographs)).max() < 2e-5


@pytest.mark.needs_coreml_framework
@pytest.mark.skipif(sys.platform != "darwin", reason="Core ML needs a Mac")
@pytest.mark.parametrize("precision", FLOATS)
def test_core_ml_agrees_with_the_evaluator(
    exported: Exported, photographs: Images, embeddings_of: EmbeddingsOf, precision: Precision
) -> None:
    artifact = exported(Format.COREML, precision, whitened=precision is Precision.FP16)
    embedder = open_artifact(artifact, "coreml")
    rows = embedder.embed(photographs)
    embedder.close()
    cosines = (rows * embeddings_of(artifact, "mil")).sum(axis=1)
    assert cosines.min() > 0.999
